"""How a tunnel ends: each side by each kind of end, in each order, with and without bytes that nobody takes.

The two ends of a tunnel are plain sockets here, so that an end is exactly what its row says. The rows of a table are
walked together, since an end that the gateway brings about itself takes a second.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

import pytest

from gateway.table import SandboxRoute
from tests.conformance.address import SANDBOX, Form
from tests.conformance.harness import LIMITS, World, running
from tests.conformance.wire import PATIENCE, Client, Peer, reset
from tests.gateway.certificate import Files

UPGRADE = b"GET {path}/x HTTP/1.1\r\n{host}\r\nConnection: Upgrade\r\nUpgrade: %b\r\nX-Row: %d\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %b\r\nConnection: Upgrade\r\n\r\n"
CLOSE = b"\x88\x02\x03\xe8"
MASKED_CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
FLOOD = b"\x82\x7f" + (1 << 40).to_bytes(8, "big")
MASKED_FLOOD = b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0"
PART = bytes(65536)
IDLE = LIMITS.stream_idle_timeout
SHORT = 5.0
"""Far below the idle limit, and enough for every other wait that a sweep ends."""


class Way(enum.Enum):
    """What one side does."""

    FIN = "says that it has finished, and reads on"
    GONE = "closes its socket"
    RESET = "resets"
    FRAME = "sends a close frame and waits"
    SILENCE = "does nothing"


class Side(enum.Enum):
    """Whose turn it is."""

    CLIENT = "client"
    SANDBOX = "sandbox"


class End:
    """One end of a tunnel: a socket that reads all the time, until its end, unless it is told not to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, close_frame: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._close_frame = close_frame
        self.name = writer.get_extra_info("sockname")
        self.over = asyncio.Event()
        """Whether the other side has ended, as far as this one can see."""

    async def read(self) -> None:
        """Reads until nothing more comes."""
        try:
            while await self._reader.read(65536):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        self.over.set()

    async def flood(self, head: bytes, enough: Callable[[], bool]) -> None:
        """Sends until it is enough, or for as long as somebody takes it."""
        self._writer.write(head)
        while not enough():
            self._writer.write(PART)
            await self._writer.drain()
            await asyncio.sleep(0)

    def act(self, way: Way) -> None:
        """Does it, by the means of the socket, which TLS knows nothing of."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        sock: socket.socket = transport.get_extra_info("socket")
        if way is Way.FIN:
            with sock.dup() as own:
                own.shutdown(socket.SHUT_WR)
        elif way is Way.GONE:
            transport.abort()
        elif way is Way.RESET:
            reset(self._writer)
        elif way is Way.FRAME:
            self._writer.write(self._close_frame)
        if way in (Way.GONE, Way.RESET):
            self.over.set()


@dataclass
class Row:
    """One tunnel and what becomes of it."""

    first: Side
    ways: tuple[Way, Way]
    """Of the first and of the second."""
    held: Side | None = None
    """Who does not read, while the other sends more than there is room for."""
    client: End = field(init=False)
    sandbox: End = field(init=False)

    def __repr__(self) -> str:
        first, second = self.ways
        return f"{self.first.value} {first.name}, then {second.name}"

    def way_of(self, side: Side) -> Way:
        """What this side does."""
        return self.ways[0 if side is self.first else 1]

    @property
    def seen_by_both(self) -> bool:
        """Whether each side that reads has seen the end."""
        return all(self.end(side).over.is_set() for side in Side if side is not self.held)

    def end(self, side: Side) -> End:
        """The socket of this side."""
        return self.client if side is Side.CLIENT else self.sandbox


class Ends:
    """Opens the tunnels of a table, lets both sides do what their row says, and tells which tunnels are over."""

    def __init__(self, world: World, protocol: bytes, trust: ssl.SSLContext | None) -> None:
        self.world = world
        self._protocol = protocol
        self.trust = trust
        self._sandboxes: dict[int, asyncio.Future[End]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._over: dict[int, asyncio.Event] = {}
        self._rows: list[Row] = []
        self._passed = 0.0
        world.backend.play = self._accept

    async def _accept(self, peer: Peer) -> None:
        message = await peer.message(body=False)
        number = int(message.one(b"x-row") or b"")
        await peer.send(SWITCH % self._protocol)
        self._sandboxes[number].set_result(End(peer._stream, peer.writer, CLOSE))
        await self._over[number].wait()

    async def open(self, rows: list[Row]) -> None:
        """Makes a tunnel for each row."""
        self._rows = rows
        for number, row in enumerate(rows):
            self._sandboxes[number] = asyncio.get_running_loop().create_future()
            self._over[number] = asyncio.Event()
            client = await self.world.connect(self.trust)
            await client.send(Form.HEADER.write(UPGRADE % (self._protocol, number)))
            assert b" 101 " in await client._stream.readuntil(b"\r\n\r\n")
            row.client = End(client._stream, client._writer, MASKED_CLOSE)
            row.sandbox = await self._sandboxes[number]
            for side in Side:
                if side is not row.held:
                    self._begin(row.end(side).read())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def _are_stuck(self, count: int) -> bool:
        return self.world.stuck() >= count

    async def fill(self, rows: list[Row]) -> None:
        """Has the sides that read send until the gateway does not read from them any more."""
        for row in rows:
            if row.held is Side.SANDBOX:
                # No more than that: an end that finds no room in the kernel's buffers cannot be seen by anybody.
                full = self.world.stuck() + 1
                await row.client.flood(MASKED_FLOOD, partial(self._are_stuck, full))
        for row in rows:
            if row.held is Side.CLIENT:
                self._begin(row.sandbox.flood(FLOOD, lambda: False))
        await self.world.until(lambda: self.world.stuck() == len(rows))
        await self.world.stands_still(lambda: sum(self._route().moved()))

    def _route(self) -> SandboxRoute:
        route = self.world.table.get(SANDBOX.encode())
        assert route is not None
        return route

    async def act(self, rows: list[Row]) -> None:
        """Both sides do what their row says, one after the other."""
        for turn in (0, 1):
            for row in rows:
                order = (row.first, Side.SANDBOX if row.first is Side.CLIENT else Side.CLIENT)
                row.end(order[turn]).act(row.ways[turn])
            await self._settled()

    async def _settled(self) -> None:
        """Waits until the gateway has seen what was done: a round trip on another connection."""
        client = await Client.connect(self.world.port, self.trust)
        await client.ask(b"GET /settled HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
        await client.close()

    def pass_time(self, seconds: float) -> None:
        """Lets the deadlines come that lie so much later than those before."""
        self._passed += seconds
        self.world.pass_time(self._passed)

    async def see_ended(self, rows: list[Row], still_open: int) -> None:
        """Waits until these tunnels are over for everybody, and no more than so many are left."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < deadline:
            if self._left() == {still_open} and all(row.seen_by_both for row in rows):
                return
            self.pass_time(SHORT)
            await asyncio.sleep(0.02)
        open_names = {client.transport.get_extra_info("peername") for client in self.world.gateway._plane.clients}
        left = [row for row in self._rows if row.client.name in open_names]
        unseen = [row for row in rows if not row.seen_by_both]
        pytest.fail(f"{self._left()} are open where {still_open} should be: {left}; not seen by both: {unseen}")

    def _left(self) -> set[float]:
        """How many tunnels are open, by every count that there is: all have to agree."""
        plane, counters = self.world.gateway._plane, self.world.gateway.counters
        pairs = self.world.connections() / 2
        return {counters.tunnels, counters.connections, len(plane.clients), self._route().open, pairs}

    async def stop(self) -> None:
        """Drops everything."""
        for event in self._over.values():
            event.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


OVER = {Way.FIN, Way.GONE}
WHOLE = [Row(first, ways) for first in Side for ways in product(Way, Way)]
"""Both sides read all that comes."""
HELD = [
    Row(first, (way, Way.SILENCE), held)
    for held, first, way in product(Side, Side, Way)
    # Whether this is seen before the client reads is a matter of chance: of what the kernel still makes room for.
    if (held, first, way) != (Side.CLIENT, Side.SANDBOX, Way.RESET)
]
"""One side reads nothing, and the buffers towards it are full."""


def ends_by_itself(row: Row, *, websocket: bool, tls: bool) -> bool:
    """Whether a tunnel is over without waiting for the idle limit."""
    client, sandbox = row.way_of(Side.CLIENT), row.way_of(Side.SANDBOX)
    if row.held is not None:
        return _ends_though_held(row, websocket=websocket, tls=tls)
    if Way.RESET in row.ways:
        return True
    if websocket:
        return bool({*OVER, Way.FRAME} & set(row.ways))
    if client in OVER and sandbox in OVER:
        return True
    if tls:
        return bool(OVER & set(row.ways))
    # Who has closed its socket answers bytes that come after that with a reset.
    return row.ways == (Way.GONE, Way.FRAME)


def _ends_though_held(row: Row, *, websocket: bool, tls: bool) -> bool:
    way, whole = row.ways[0], websocket or tls
    if row.first is not row.held:
        # Its end stands behind bytes that the other does not take. A reset is ahead of them, and a client's is seen.
        return row.first is Side.CLIENT and (way is Way.RESET or (whole and way in OVER))
    if way in (Way.RESET, Way.GONE):  # with unread bytes a closed socket resets
        return True
    if way is Way.FRAME:
        return websocket
    # The loop says nothing of a TLS client's end before the client has taken what is encrypted for it.
    return way is Way.FIN and whole and not (tls and row.held is Side.CLIENT)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A certificate."""
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
async def ends(request: pytest.FixtureRequest, files: Files) -> AsyncIterator[Callable[[bytes], Ends]]:
    """Makes tunnels of a protocol."""
    context = trust = None
    if request.param:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.chain, files.key)
        trust = ssl.create_default_context(cafile=str(files.chain))
        trust.check_hostname = False
    made: list[Ends] = []
    async with running(World(tls=context)) as world:

        def make(protocol: bytes) -> Ends:
            made.append(Ends(world, protocol, trust))
            return made[-1]

        yield make
        for one in made:
            await one.stop()


async def walk(ends: Ends, rows: list[Row], protocol: bytes) -> None:
    """Walks the rows of a table: those that end by themselves first, the others by the idle limit."""
    rows = [replace(row) for row in rows]
    websocket, tls = protocol == b"websocket", ends.trust is not None
    await ends.open(rows)
    if held := [row for row in rows if row.held is not None]:
        await ends.fill(held)
    await ends.act(rows)
    soon = [row for row in rows if ends_by_itself(row, websocket=websocket, tls=tls)]
    await ends.see_ended(soon, still_open=len(rows) - len(soon))
    ends.pass_time(IDLE)
    await ends.see_ended(rows, still_open=0)


@pytest.mark.parametrize("protocol", [b"websocket", b"tcp"], ids=["websocket", "other"])
@pytest.mark.parametrize("rows", [WHOLE, HELD], ids=["read", "unread"])
async def test_every_end(ends: Callable[[bytes], Ends], protocol: bytes, rows: list[Row]) -> None:
    """Whichever side ends, in whichever way and order, both are over within a second, or by the idle limit."""
    await walk(ends(protocol), rows, protocol)
