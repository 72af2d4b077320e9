"""Making connections, to real sockets on the loopback interface."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from gateway.deadlines import Deadlines
from gateway.errors import ConnectFailed, PortNotListening
from gateway.limits import Limits
from gateway.metrics import Counters
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.dial import in_process, tcp
from gateway.upstream.pool import Connect, Pool
from gateway.upstream.targets import Target

PATIENCE = 5.0


class Dialler:
    """Connects to one target, with the books beside it."""

    def __init__(self, target: Target, limits: Limits) -> None:
        self.counters = Counters()
        self.deadlines = Deadlines()
        self.limits = limits
        self.pool = self._pool(tcp(target, limits, self.deadlines, self.counters))

    def _pool(self, connect: Connect) -> Pool:
        return Pool(connect, self.limits, self.deadlines)

    async def dial(self) -> UpstreamConnection:
        async with asyncio.timeout(PATIENCE):
            return await self.pool.connect(self.pool)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A socket whose queue of connections is full, so that attempts get no answer."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server
        for filler in fillers:
            filler.close()


def target_of(server: socket.socket) -> Target:
    return Target(*server.getsockname())


async def test_connected(listening: socket.socket) -> None:
    """A connection is new, belongs to the pool that asked, and is counted."""
    dialler = Dialler(target_of(listening), Limits())
    connection = await dialler.dial()
    assert (connection.used, connection.home) == (0, dialler.pool)
    assert (dialler.counters.dials, dialler.counters.dial_failures) == (1, 0)
    connection.abort()


class Impatient(Pool):
    """A pool whose request goes away at the moment in which its connection is made."""

    dialling: asyncio.Task[UpstreamConnection]

    def made(self) -> None:
        super().made()
        self.dialling.cancel()


@pytest.mark.parametrize("way", ["tcp", "in process"])
async def test_given_up_when_it_is_made(listening: socket.socket, way: str) -> None:
    """A connection that nobody waits for any more at that moment stays in no book, whatever the loop tells of it."""
    limits, deadlines = Limits(), Deadlines()
    over_tcp = tcp(target_of(listening), limits, deadlines, Counters())
    pool = Impatient(over_tcp if way == "tcp" else in_process(asyncio.Protocol, limits, deadlines), limits, deadlines)
    pool.dialling = asyncio.ensure_future(pool.connect(pool))
    with pytest.raises(asyncio.CancelledError):
        await pool.dialling
    assert (pool.connections, deadlines._members) == (0, set())


async def test_refused_to_the_end(port: int) -> None:
    """A port on which nobody listens is tried again until the budget is over, and is then not listening."""
    dialler = Dialler(Target("127.0.0.1", port), Limits(connect_budget=0.1))
    with pytest.raises(PortNotListening):
        await dialler.dial()
    assert dialler.counters.dial_failures > 1


async def test_no_budget(port: int) -> None:
    """Without a budget there is one attempt."""
    dialler = Dialler(Target("127.0.0.1", port), Limits(connect_budget=0))
    with pytest.raises(PortNotListening):
        await dialler.dial()
    assert dialler.counters.dial_failures == 1


async def test_listening_a_little_later(port: int) -> None:
    """A program that begins to listen within the budget is reached."""
    dialler = Dialler(Target("127.0.0.1", port), Limits(connect_budget=PATIENCE))
    dialling = asyncio.ensure_future(dialler.dial())
    async with asyncio.timeout(PATIENCE):
        while not dialler.counters.dial_failures:  # noqa: ASYNC110 - a counter tells nobody when it moves
            await asyncio.sleep(0)
    with socket.create_server(("127.0.0.1", port)):
        connection = await dialling
        connection.abort()
    assert dialler.counters.dials == 1


async def test_no_answer(silent: socket.socket) -> None:
    """An attempt that gets no answer ends in time, and is not repeated."""
    dialler = Dialler(target_of(silent), Limits(connect_timeout=0.05))
    with pytest.raises(ConnectFailed, match="does not accept"):
        await dialler.dial()
    assert dialler.counters.dial_failures == 1


async def test_unreachable() -> None:
    """An address that no route leads to is final."""
    dialler = Dialler(Target("255.255.255.255", 80), Limits())
    with pytest.raises(ConnectFailed):
        await dialler.dial()


async def test_nothing_internal_is_told(port: int) -> None:
    """The message for the client names neither the address nor the port that was dialled."""
    with pytest.raises(PortNotListening) as caught:
        await Dialler(Target("127.0.0.2", port), Limits(connect_budget=0)).dial()
    assert "127.0.0.2" not in caught.value.message
    assert str(port) not in caught.value.message


async def test_given_up(port: int) -> None:
    """Whoever no longer wants the connection stops the attempts."""
    dialler = Dialler(Target("127.0.0.1", port), Limits(connect_budget=PATIENCE))
    dialling = asyncio.ensure_future(dialler.dial())
    await asyncio.sleep(0)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling


class Greeter(asyncio.Protocol):
    """An application that says hello to whoever connects."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(b"hello")  # type: ignore[attr-defined]


class Hearing(Pool):
    """A pool that hears when one of its connections is gone."""

    def __init__(self, connect: Connect, limits: Limits, deadlines: Deadlines) -> None:
        super().__init__(connect, limits, deadlines)
        self.gone = asyncio.Event()

    def forget(self, connection: UpstreamConnection) -> None:
        super().forget(connection)
        self.gone.set()


async def test_in_process() -> None:
    """Our own application is reached without a port: a socket pair, which nobody else can find."""
    limits, deadlines = Limits(), Deadlines()
    pool = Hearing(in_process(Greeter, limits, deadlines), limits, deadlines)
    connection = await pool.connect(pool)
    assert connection.transport.get_extra_info("socket").family == socket.AF_UNIX
    async with asyncio.timeout(PATIENCE):
        await pool.gone.wait()  # it spoke unasked, and was dropped for it
