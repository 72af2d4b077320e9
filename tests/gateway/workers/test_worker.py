"""A worker process by itself: what it does on each word of its feed, and that it ends with it."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gateway.access.credentials import AccessRule
from gateway.access.throttle import BURST
from gateway.addressing.routing import RoutingConfig, format_label
from gateway.limits import Limits
from gateway.listener import bind
from gateway.options import GatewayOptions
from gateway.signing import sign
from gateway.table import Removal, Resolution, RouteState
from gateway.upstream.targets import Targets
from gateway.workers.channel import Channel
from gateway.workers.messages import (
    Answer,
    Applied,
    Ask,
    Drain,
    Gone,
    Loaded,
    LogLine,
    NewCertificate,
    Put,
    Secrets,
    Serving,
    Setup,
    Synced,
)
from gateway.workers.usage import Report
from gateway.workers.worker import FEED_LOST
from tests.conformance.wire import Backend, Client, Message, Peer
from tests.server_process import free_port

PATIENCE = 15.0
"""Starting a Python on a busy machine takes its time."""
DOMAIN = "sandbox.test"
RULE = AccessRule(b"token")
SETUP = Setup(
    addresses=(),
    backlog=100,
    certificate=None,
    options=GatewayOptions(
        routing=RoutingConfig(gateway=True, uri=False, wildcard=DOMAIN.encode(), api_hosts=frozenset({b"api.test"})),
        limits=Limits(connect_budget=0.0),
    ),
    access_log_file=None,
    grace=5.0,
    log_level=20,
    processes=2,
)

pytestmark = pytest.mark.timeout(60)


class Fed:
    """A worker, and the first process's end of everything, played by the test."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.port = free_port()
        self.backend_port = 0
        self.said: list[Any] = []
        self._lost = asyncio.Event()
        self.channel = Channel(self.said.append, self._lost.set)
        feed, self._feed_there = socket.socketpair()
        self.door, self._door_there = socket.socketpair()
        for sock in (feed, self.door):
            sock.setblocking(False)
        self._feed = feed
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Starts the process; it has not been told anything yet."""
        descriptors = (self._feed_there.fileno(), self._door_there.fileno())
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.workers.worker", *map(str, descriptors), pass_fds=descriptors
        )
        self._feed_there.close()
        self._door_there.close()
        await asyncio.get_running_loop().create_connection(lambda: self.channel, sock=self._feed)

    def tell(self, *messages: Any) -> None:
        """Sends messages."""
        for message in messages:
            self.channel.send(message)

    def put(self, **changes: Any) -> Put:
        """The sandbox `abc`, whose ports are this machine's."""
        put = Put("abc", "1", Targets("127.0.0.1"), RouteState.RUNNING, None, False, frozenset(), None)
        return replace(put, **changes)

    async def serve(self, *routes: Any, setup: Setup = SETUP, synced: bool = True) -> None:
        """Tells everything and waits until the worker serves."""
        setup = replace(setup, addresses=(("127.0.0.1", self.port),))
        self.tell(setup, Secrets({}, frozenset()), *routes, Synced(synced), Loaded())
        await self.until(lambda: Serving() in self.said)

    async def applied(self, *messages: Any) -> None:
        """Sends messages and waits until they have taken effect."""
        self.tell(*messages)
        goal = self.channel.sent
        await self.until(lambda: any(isinstance(one, Applied) and one.count >= goal for one in self.said))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something the worker has to say."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                assert not self._lost.is_set(), self.said
                await asyncio.sleep(0.002)

    async def get(self, port: int | None = None, extra: bytes = b"", host: bytes = b"x") -> Message:
        """One request to the sandbox, on a connection of its own."""
        client = await Client.connect(self.port)
        port = self.backend_port if port is None else port
        try:
            return await client.ask(
                b"GET / HTTP/1.1\r\nHost: %b\r\nOpenSandbox-Ingress-To: abc-%d\r\n%b\r\n" % (host, port, extra)
            )
        finally:
            await client.close()

    async def exit_code(self) -> int:
        """How the process has ended."""
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def stop(self) -> None:
        """Ends everything."""
        self.channel.close()
        self.door.close()
        await self.exit_code()


@asynccontextmanager
async def started() -> AsyncIterator[Fed]:
    backend = Backend()
    fed = Fed(backend)
    fed.backend_port = await backend.start()
    await fed.start()
    try:
        yield fed
    finally:
        await fed.stop()
        await backend.stop()


@pytest.fixture
async def fed() -> AsyncIterator[Fed]:
    """A worker that has been told nothing yet."""
    async with started() as made:
        yield made


async def test_snapshot_and_changes(fed: Fed) -> None:
    """It serves the snapshot, and every change from the moment it is told."""
    await fed.serve(fed.put())
    assert (await fed.get()).status == 200
    await fed.applied(Gone("abc", Removal.DELETED))
    assert (await fed.get()).status == 410
    await fed.applied(fed.put(uid="2"))
    assert (await fed.get()).status == 200
    await fed.applied(fed.put(uid="2", state=RouteState.PAUSED))
    assert (await fed.get()).status == 409


async def test_earlier_removals(fed: Fed) -> None:
    """What was gone before it started is gone, not unknown."""
    await fed.serve(Gone("abc", Removal.EXPIRED))
    assert (await fed.get()).status == 410


async def test_nobody_is_let_in_before_the_snapshot(fed: Fed) -> None:
    """It listens once it knows everything."""
    fed.tell(replace(SETUP, addresses=(("127.0.0.1", fed.port),)), Secrets({}, frozenset()))
    await fed.applied(fed.put())
    with pytest.raises(ConnectionRefusedError):
        await fed.get()


async def test_removal_ends_what_is_open(fed: Fed) -> None:
    """A WebSocket on a worker gets its close frame when the sandbox goes."""

    async def echo(peer: ServerConnection) -> None:
        async for message in peer:
            await peer.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        await fed.serve(fed.put())
        headers = {"OpenSandbox-Ingress-To": f"abc-{port}"}
        async with connect(f"ws://127.0.0.1:{fed.port}", additional_headers=headers, proxy=None) as client:
            await client.send("x")
            assert await client.recv() == "x"
            fed.tell(Gone("abc", Removal.DELETED))
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


async def test_asks_only_while_out_of_step(fed: Fed) -> None:
    """A miss is asked for while events are out of step, and answered 404 unasked otherwise."""
    await fed.serve(synced=False)
    asking = asyncio.ensure_future(fed.get())
    await fed.until(lambda: Ask("abc", wake=False) in fed.said)
    fed.tell(fed.put(), Answer(Ask("abc", wake=False), Resolution.PUBLISHED))
    assert (await asking).status == 200
    await fed.applied(Gone("abc", Removal.DELETED), Synced(True))
    fed.said.clear()
    assert (await fed.get()).status == 410
    assert not [one for one in fed.said if isinstance(one, Ask)]


async def test_a_paused_sandbox_is_woken(fed: Fed) -> None:
    """The first process is asked to wake it, and the request goes through once it has."""
    await fed.serve(fed.put(state=RouteState.PAUSED, wakes=True))
    asking = asyncio.ensure_future(fed.get())
    await fed.until(lambda: Ask("abc", wake=True) in fed.said)
    fed.tell(fed.put(wakes=True), Answer(Ask("abc", wake=True), Resolution.PUBLISHED))
    assert (await asking).status == 200


async def test_keys_change(fed: Fed) -> None:
    """Signed addresses follow the keys, and API keys are kept from sandboxes from then on."""
    await fed.serve(fed.put(access=RULE))
    signature = sign("k", b"secret", "abc", fed.backend_port, int(time.time()) + 60)
    host = f"{format_label('abc', fed.backend_port, signature)}.{DOMAIN}".encode()
    client = await Client.connect(fed.port)
    request = b"GET / HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer ours\r\n\r\n" % host
    refused = await client.ask(request)
    await fed.applied(Secrets({b"k": b"secret"}, frozenset({b"ours"})))
    assert (refused.status, (await client.ask(request)).status) == (503, 200)
    assert fed.backend.seen[0].all(b"authorization") == []
    await client.close()


async def test_guesses_are_counted_together(fed: Fed) -> None:
    """Each of two processes lets a signature be tried half as often."""
    await fed.serve(fed.put(access=RULE))
    await fed.applied(Secrets({b"k": b"secret"}, frozenset()))
    signature = sign("k", b"wrong", "abc", fed.backend_port, int(time.time()) + 60)
    host = f"{format_label('abc', fed.backend_port, signature)}.{DOMAIN}".encode()
    client = await Client.connect(fed.port)
    tries = [(await client.ask(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)).status for _ in range(BURST // 2 + 1)]
    assert tries == [401] * (BURST // 2) + [429]
    await client.close()


async def test_access_log(fed: Fed, tmp_path: Path) -> None:
    """A worker writes its lines into the file of all, and follows when the file is turned over."""
    path = tmp_path / "access.log"
    options = replace(SETUP.options, access_log_sample=1.0)
    await fed.serve(fed.put(), setup=replace(SETUP, options=options, access_log_file=str(path)))
    await fed.get()
    await fed.until(lambda: path.exists() and path.read_text() != "")
    path.rename(tmp_path / "access.log.1")
    await fed.get()
    await fed.until(lambda: path.exists() and path.read_text() != "")
    lines = [json.loads(one.read_text()) for one in (tmp_path / "access.log.1", path)]
    assert [(line["sandbox"], line["status"]) for line in lines] == [("abc", 200), ("abc", 200)]


async def test_api_calls_go_through_the_door(fed: Fed) -> None:
    """What is for the API arrives in the first process on a socket pair, with the worker's word about the client."""
    await fed.serve()
    client = await Client.connect(fed.port)
    await client.send(b"GET /v1/x?y HTTP/1.1\r\nHost: api.test\r\nX-Gateway-Peer: 6.6.6.6\r\n\r\n")
    peer = await _at_the_door(fed)
    request = await peer.message()
    assert (request.target, request.all(b"x-gateway-peer")) == (b"/v1/x?y", [b"127.0.0.1"])
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napi")
    assert (await client.message()).body == b"api"
    await client.close()
    peer.writer.close()


async def _at_the_door(fed: Fed) -> Peer:
    taken: list[socket.socket] = []

    def admitted() -> bool:
        try:
            taken.extend(socket.socket(fileno=one) for one in socket.recv_fds(fed.door, 1, 1)[1])
        except BlockingIOError:
            return False
        return True

    await fed.until(admitted)
    return Peer(*await asyncio.open_connection(sock=taken[0]))


async def test_reports(fed: Fed) -> None:
    """What it has served is told within a second or so, with when it was."""
    await fed.serve(fed.put())
    await fed.get()
    await fed.until(lambda: any(isinstance(one, Report) and one.routes for one in fed.said))
    (use,) = next(one.routes for one in fed.said if isinstance(one, Report) and one.routes)
    assert (use.id, use.uid, use.requests, use.bytes_out) == ("abc", "1", 1, 2)
    assert 0 <= time.monotonic() - use.last_active < PATIENCE


async def test_ends_with_its_feed(fed: Fed) -> None:
    """Without a feed its routes are worth nothing: it ends at once, with what is open on it."""

    async def never_answer(peer: Peer) -> None:
        await peer.message()
        fed.backend.step()
        await peer.until_end()

    await fed.serve(fed.put())
    fed.backend.play = never_answer
    client = await Client.connect(fed.port)
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nOpenSandbox-Ingress-To: abc-%d\r\n\r\n" % fed.backend_port)
    await fed.backend.next_step()
    fed.channel.close()
    assert await fed.exit_code() == FEED_LOST
    assert await client.until_end() == b""
    await client.close()


async def test_drain_finishes_what_is_under_way(fed: Fed) -> None:
    """Told to drain it accepts nothing new, finishes the answer under way, reports it and ends well."""

    async def hold(peer: Peer) -> None:
        await peer.message()
        fed.backend.step()
        await fed.backend.next_turn()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    await fed.serve(fed.put())
    fed.backend.play = hold
    asking = asyncio.ensure_future(fed.get())
    await fed.backend.next_step()
    fed.tell(Drain(PATIENCE))
    await fed.until(lambda: _refuses(fed.port))
    fed.backend.turn()
    assert (await asking).body == b"ok"
    assert await fed.exit_code() == 0
    assert sum(use.bytes_out for one in fed.said if isinstance(one, Report) for use in one.routes) == 2


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_word_to_the_worker_alone(fed: Fed) -> None:
    """SIGTERM lets it finish as the first process's word does; an interrupt of the group is not for it."""
    await fed.serve(fed.put())
    fed.process.send_signal(2)
    fed.process.send_signal(1)
    assert (await fed.get()).status == 200
    fed.process.terminate()
    assert await fed.exit_code() == 0


async def test_an_address_that_is_taken(fed: Fed) -> None:
    """It says what is wrong where the server's log is, and ends."""
    (sock,) = bind("127.0.0.1", fed.port)
    sock.listen()
    fed.tell(replace(SETUP, addresses=(("127.0.0.1", fed.port),)), Secrets({}, frozenset()), Loaded())
    assert await fed.exit_code() == 1
    sock.close()
    (line,) = [one for one in fed.said if isinstance(one, LogLine)]
    assert "in use" in line.text


async def test_a_new_certificate(fed: Fed, tmp_path: Path) -> None:
    """New certificate files are used from the moment it is told of them."""
    files = tmp_path / "chain.pem", tmp_path / "key.pem"
    make_certificate(*files)
    await fed.serve(fed.put(), setup=replace(SETUP, certificate=(str(files[0]), str(files[1]))))
    first = await _certificate_of(fed.port)
    make_certificate(*files)
    await fed.applied(NewCertificate())
    assert await _certificate_of(fed.port) != first


def make_certificate(chain: Path, key: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=x -days 2"
    subprocess.run([*command.split(), "-keyout", key, "-out", chain], check=True, capture_output=True)


async def _certificate_of(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return found
