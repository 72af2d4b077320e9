"""What a spike of connections leaves behind: nothing that waits for the garbage collector, and no resident memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.memory import FEW, LONGEST_SECONDS, LOOK_SECONDS, SPARE_BYTES, Trimmer, trimmer
from gateway.metrics import Counters
from gateway.proxy.client_connection import ClientConnection
from gateway.proxy.exchange import Exchange
from gateway.upstream.connection import UpstreamConnection
from tests.conformance.address import PORT, SANDBOX
from tests.conformance.harness import World, running

PATIENCE = 30.0
MIB = 1 << 20
HEAD = b"GET / HTTP/1.1\r\nHost: gateway.test\r\n" + b"X-Filler: %b\r\n" % (b"x" * 300) * 180
ASK = b"GET / HTTP/1.1\r\nHost: gateway.test\r\nOpenSandbox-Ingress-To: %b-%d\r\n\r\n" % (SANDBOX.encode(), PORT)
PAGE = os.sysconf("SC_PAGE_SIZE")


class Process:
    """As large as the test says; gives back all that is free."""

    def __init__(self) -> None:
        self.used = self.size = 100 * MIB
        self.given_back = 0
        self.counters = Counters()
        self.now = 0.0
        self.trimmer = Trimmer(self.counters, lambda: self.size, self._trim, self.now)

    def _trim(self) -> None:
        self.given_back += 1
        self.size = self.used

    def pass_time(self, seconds: float = LOOK_SECONDS) -> None:
        self.now += seconds
        assert self.trimmer.deadline <= self.now
        self.trimmer.expire(self.now)

    def spike(self, connections: int = FEW, *, left: int = 0) -> None:
        """So many connections come, `left` of them stay, and twice the memory has been used."""
        self.counters.connections_total += connections
        self.counters.connections = left
        self.size = 2 * self.used


def test_after_a_spike() -> None:
    """Memory goes back at the first look after the connections have gone, and once is enough."""
    process = Process()
    process.spike()
    process.pass_time()
    process.pass_time()
    assert (process.size, process.given_back) == (process.used, 1)


def test_during_a_spike() -> None:
    """While most connections are still open there is little to win, so it is left."""
    process = Process()
    process.spike(3 * FEW, left=2 * FEW)
    process.pass_time()
    assert process.given_back == 0


def test_without_growth() -> None:
    """A process that is as small as ever has nothing to give, however many connections have ended."""
    process = Process()
    process.spike()
    process.size = process.used + SPARE_BYTES
    process.pass_time()
    assert process.given_back == 0


def test_growth_without_connections() -> None:
    """What else has left memory behind gives it back a minute later."""
    process = Process()
    process.size *= 2
    process.pass_time()
    assert process.given_back == 0
    process.pass_time(LONGEST_SECONDS)
    assert process.given_back == 1


def test_memory_in_use() -> None:
    """A process that has grown for good tries once a minute, not at each look."""
    process = Process()
    process.spike()
    process.used = process.size
    for _ in range(int(3 * LONGEST_SECONDS / LOOK_SECONDS)):
        process.pass_time()
    assert process.given_back == 3


def test_this_process() -> None:
    """With glibc it works for the process of the test too."""
    here = trimmer(Counters(), 0.0)
    assert here is not None
    here.expire(LONGEST_SECONDS)


def kept() -> list[object]:
    """The connections in memory."""
    return [found for found in gc.get_objects() if isinstance(found, ClientConnection | Exchange | UpstreamConnection)]


async def test_no_garbage() -> None:
    """A connection is freed when it is lost: its parts know each other, and must not wait for the collector."""
    gc.collect()
    before = len(kept())
    gc.disable()
    try:
        async with running(World()) as world:
            for _ in range(5):
                client = await world.connect()
                assert (await client.ask(ASK)).status == 200
                await client.close()
            await world.until(lambda: world.gateway.counters.connections == 0)
        assert len(kept()) == before
    finally:
        gc.enable()


class Sandbox:
    """Answers every request without end."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []

    async def flood(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                writer.write(bytes(MIB))
                await writer.drain()

    def close(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Served:
    """A gateway in its own process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.pid = process.pid
        self.port = port

    @property
    def resident(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1024)

    async def resident_is(self, least: float, most: float) -> None:
        """Waits until the process is so large."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not least <= self.resident <= most:  # noqa: ASYNC110 - nobody tells when pages go
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{self.resident / MIB:.1f} MiB is not between {least / MIB:.1f} and {most / MIB:.1f}")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A gateway in its own process before the endless sandbox."""
    sandbox = Sandbox()
    server = await asyncio.start_server(sandbox.flood, "127.0.0.1", 0)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.gateway.spike_server",
        str(server.sockets[0].getsockname()[1]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield Served(process, int(await process.stdout.readline()))
    finally:
        await process.communicate(b"")
        server.close()
        sandbox.close()


@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize(("sent", "count"), [(HEAD, 800), (ASK, 200)], ids=["slow heads", "stalled readers"])
async def test_after_a_real_spike(served: Served, sent: bytes, count: int) -> None:
    """When heads that never end, or readers that do not read, have gone, so has their memory."""
    before = served.resident
    writers: list[asyncio.StreamWriter] = []
    for _ in range(count):
        _, writer = await served.connect()
        writer.write(sent)
        writers.append(writer)
    await served.resident_is(before + 30 * MIB, float("inf"))
    for writer in writers:
        writer.transport.abort()
    await served.resident_is(0, before * 1.2)
