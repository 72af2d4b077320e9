"""The assembled data plane on real sockets: start, drain, stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.access.credentials import AccessRule, Keyring
from gateway.addressing.routing import format_label
from gateway.gateway import Gateway
from gateway.limits import Limits
from gateway.listener import bind
from gateway.options import GatewayOptions
from gateway.signing import sign
from gateway.table import RouteTable, SandboxRoute
from gateway.upstream.targets import Targets
from tests.gateway.harness import ADDRESS, PATIENCE, ROUTING

GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n" + ADDRESS + b"\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: x\r\n" + ADDRESS + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


class House:
    """A gateway with one sandbox, whose program a test plays."""

    def __init__(self) -> None:
        self.table = RouteTable()
        self.table.synced = True
        self.gateway = Gateway(self.table, GatewayOptions(routing=ROUTING, limits=Limits(connect_budget=0)))
        self.accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.table.put(SandboxRoute("abc", "1", Targets(published={80: ("127.0.0.1", port)})))
        await self.gateway.listen("127.0.0.1", 0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.accepted.put_nowait((reader, writer))

    async def client(self, request: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the gateway, on which this has been sent."""
        reader, writer = await asyncio.open_connection(*self.gateway.addresses[0])
        self._writers.append(writer)
        writer.write(request)
        return reader, writer

    async def sandbox(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The next connection that the sandbox gets, with the head of its request read."""
        reader, writer = await self.accepted.get()
        await reader.readuntil(b"\r\n\r\n")
        return reader, writer

    async def stop(self) -> None:
        await self.gateway.stop()
        for writer in self._writers:
            writer.transport.abort()
        if self._server is not None:
            self._server.close()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """A running gateway."""
    made = House()
    await made.start()
    async with asyncio.timeout(2 * PATIENCE):
        yield made
    await made.stop()


async def test_there_and_back(house: House) -> None:
    """The whole way over sockets."""
    reader, _ = await house.client(GET % b"x")
    _, sandbox = await house.sandbox()
    sandbox.write(HEAD + b"body")
    assert await reader.readexactly(len(HEAD) + 4) == HEAD + b"body"
    assert house.gateway.counters.dials == 1


async def test_several_sockets(house: House) -> None:
    """One data plane listens on as many sockets as it is given."""
    (sock,) = bind("127.0.0.1", 0)
    await house.gateway.listen(sock=sock)
    assert len(set(house.gateway.addresses)) == 2
    reader, writer = await asyncio.open_connection(*house.gateway.addresses[1])
    writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
    writer.close()


async def test_taken(house: House) -> None:
    """A taken address is said to be taken."""
    with pytest.raises(OSError, match="in use"):
        await house.gateway.listen(*house.gateway.addresses[0])


async def test_drain_idle(house: House) -> None:
    """Idle connections close at once, and nobody is accepted any more."""
    reader, _ = await house.client()
    while not house.gateway.counters.connections:  # noqa: ASYNC110 - accepted when it is accepted
        await asyncio.sleep(0)
    address = house.gateway.addresses[0]
    await house.gateway.drain(PATIENCE)
    assert await reader.read() == b""
    with pytest.raises(OSError):
        await asyncio.open_connection(*address)


async def test_drain_finishes_answers(house: House) -> None:
    """An answer under way comes whole, however long it takes within the grace."""
    reader, _ = await house.client(GET % b"x")
    _, sandbox = await house.sandbox()
    sandbox.write(HEAD + b"bo")
    await reader.readuntil(b"\r\n\r\nbo")
    draining = asyncio.ensure_future(house.gateway.drain(PATIENCE))
    await asyncio.sleep(0)
    sandbox.write(b"dy")
    assert await reader.read() == b"dy"
    await draining
    assert house.gateway.draining


async def test_drain_cuts_at_the_end(house: House) -> None:
    """What is still open when the grace is over is cut."""
    reader, _ = await house.client(GET % b"x")
    _, sandbox = await house.sandbox()
    sandbox.write(HEAD + b"bo")
    await reader.readuntil(b"\r\n\r\nbo")
    await house.gateway.drain(0.05)
    assert await reader.read() == b""
    assert house.gateway.counters.connections <= 1


async def test_drain_tells_tunnels(house: House) -> None:
    """A WebSocket is told with 1001, at once."""
    reader, _ = await house.client(UPGRADE)
    _, sandbox = await house.sandbox()
    sandbox.write(SWITCH)
    await reader.readuntil(b"\r\n\r\n")
    draining = asyncio.ensure_future(house.gateway.drain(PATIENCE))
    said = await reader.read()
    assert (said[:1], said[2:4]) == (b"\x88", (1001).to_bytes(2, "big"))
    await draining


async def test_stop_without_drain(house: House) -> None:
    """Everything goes at once, open exchanges included."""
    reader, _ = await house.client(GET % b"x")
    sandbox, _ = await house.sandbox()
    await house.gateway.stop()
    assert await reader.read() == b""
    assert await sandbox.read() == b""
    assert house.gateway.addresses == []


async def test_stop_before_start() -> None:
    """A gateway that never listened may be stopped all the same, twice."""
    gateway = Gateway(RouteTable(), GatewayOptions())
    await gateway.stop()
    await gateway.stop()


SECRETS = {b"a": b"first secret", b"b": b"second secret"}


async def opened_with(house: House, key: str) -> asyncio.StreamReader:
    """A WebSocket that a signature of this key has let in."""
    house.gateway.set_keyring(Keyring(SECRETS))
    signature = sign(key, SECRETS[key.encode()], "abc", 80, 2**33)
    raw = UPGRADE.replace(ADDRESS, b"OpenSandbox-Ingress-To: %b\r\n" % format_label("abc", 80, signature).encode())
    held = house.table.get(b"abc")
    assert held is not None
    house.table.put(SandboxRoute("abc", "1", held.reach, access=AccessRule(b"token")))
    reader, _ = await house.client(raw)
    _, sandbox = await house.sandbox()
    sandbox.write(SWITCH)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return reader


@pytest.mark.parametrize(
    "keys", [{b"b": SECRETS[b"b"]}, {b"a": b"other", b"b": SECRETS[b"b"]}, {}], ids=["removed", "changed", "no keys"]
)
async def test_key_taken_away(house: House, keys: dict[bytes, bytes]) -> None:
    """What a key has let in ends with the key."""
    reader = await opened_with(house, "a")
    house.gateway.set_keyring(Keyring(keys))
    said = await reader.read()
    assert (said[:1], said[2:4]) == (b"\x88", (1001).to_bytes(2, "big"))


async def test_other_key_taken_away(house: House) -> None:
    """What another key has let in goes on."""
    await opened_with(house, "b")
    house.gateway.set_keyring(Keyring({b"b": SECRETS[b"b"], b"c": b"new"}))
    held = house.table.get(b"abc")
    assert held is not None
    assert len(held.live) == 1
