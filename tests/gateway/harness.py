"""Connections in memory: real protocols of the gateway on transports that do what uvloop's do, and keep what they got.

A `Wire` is strict where a careless caller would be hurt in production: writing after the end of a stream or after the
connection is lost raises, as it does in uvloop. What arrives while reading is paused waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from gateway.addressing.routing import RoutingConfig
from gateway.errors import GatewayError
from gateway.limits import Limits
from gateway.options import GatewayOptions
from gateway.proxy.client_connection import ClientConnection
from gateway.proxy.state import ServerState
from gateway.table import Resolution, Resolver, RouteState, RouteTable, SandboxRoute
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.pool import Pool
from gateway.upstream.targets import Targets

SANDBOX = "abc"
PORT = 80
ADDRESS = b"OpenSandbox-Ingress-To: abc-80\r\n"
ROUTING = RoutingConfig(gateway=True, uri=True, wildcard=b"sandbox.test")
PATIENCE = 5.0


class KnobSocket:
    """Stands for the socket of a wire: remembers whether a reset was asked for, and tells a state of TCP."""

    def __init__(self) -> None:
        self.reset = False
        self.state = 1

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return bytes([self.state])

    def setsockopt(self, level: int, option: int, value: bytes | int) -> None:
        self.reset = True


class Wire(asyncio.Transport):
    """One end of a connection, with a test at the other."""

    def __init__(self, *, eof: bool = True) -> None:
        super().__init__()
        self.protocol: Any = None
        self.sent = bytearray()
        self.reading = True
        self.ended = False
        """Whether no more will be sent."""
        self.closing = False
        self.aborted = False
        self.lost = False
        self.unsent = 0
        self.socket = KnobSocket()
        self._eof_possible = eof
        self._finished = False
        self._arrived: deque[bytes | None] = deque()
        """What the other side has sent; None is the end of its stream, behind which nothing comes."""

    def attach(self, protocol: Any) -> None:
        """Makes the connection."""
        self.protocol = protocol
        protocol.connection_made(self)

    # What the gateway calls.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._ensure_alive()
        if self.ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not self.closing:
            self.sent += data

    def write_eof(self) -> None:
        self._ensure_alive()
        self.ended = True

    def can_write_eof(self) -> bool:
        return self._eof_possible

    def pause_reading(self) -> None:
        if not self.closing and not self.reading:
            raise RuntimeError("paused twice")
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.7", 4711), "socket": self.socket}.get(name, default)

    def _ensure_alive(self) -> None:
        if self.lost:
            raise RuntimeError("unable to perform operation on a closed transport")

    # What the test at the other end does.

    def arrive(self, *parts: bytes) -> None:
        """Bytes arrive, in these parts; those that come while reading is paused wait for `settle`."""
        if not self._finished:
            self._arrived.extend(part for part in parts if part)
            self._deliver()

    def end(self) -> None:
        """The other side has finished sending."""
        if not self._finished:
            self._finished = True
            self._arrived.append(None)
            self._deliver()

    def settle(self) -> None:
        """Lets happen what the event loop would do next: waiting bytes, then the loss of a closed connection."""
        self._deliver()
        if self.closing:
            self.lose()

    def _deliver(self) -> None:
        while self._arrived and self.reading and not self.closing and not self.lost:
            data = self._arrived.popleft()
            if data is not None:
                self.protocol.data_received(data)
            elif not self.protocol.eof_received():
                self.close()

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone."""
        if not self.lost:
            self.closing = True
            self.protocol.connection_lost(error)
            self.lost = True

    def take(self) -> bytes:
        """What was sent since the last time."""
        sent = bytes(self.sent)
        self.sent.clear()
        return sent


class Manager:
    """Answers every question of the gateway with what a test's function says."""

    def __init__(self, answer: Callable[[], Awaitable[Resolution]]) -> None:
        self._answer = answer

    async def resolve(self, sandbox_id: str) -> Resolution:
        return await self._answer()

    async def wake(self, sandbox_id: str) -> Resolution:
        return await self._answer()


class World:
    """One client connection and the sandbox it speaks to, joined by a real plane without a socket."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        trusted: Iterable[str] = (),
        resolver: Resolver | None = None,
        table: RouteTable | None = None,
        proxy_needs_key: bool = False,
    ) -> None:
        self.limits = limits or Limits()
        self.table = table or RouteTable()
        self.table.synced = resolver is None
        self.plane = ServerState(
            self.table,
            GatewayOptions(
                routing=ROUTING,
                limits=self.limits,
                trusted_proxies=tuple(trusted),
                proxy_needs_key=proxy_needs_key,
            ),
            resolver=resolver,
        )
        self.plane.clock = lambda: self.plane.deadlines.now
        self.route = self.put()
        self.pool = self.route.pools[PORT]
        self.dialled: list[Wire] = []
        """The wires of all connections to the sandbox, the newest last."""
        self._dialled_one = asyncio.Event()
        self.refusing: GatewayError | None = None
        """What a new connection to the sandbox fails with."""
        self.lost_dials = 0
        """How many new connections end before they are used."""
        self.slow_dial: asyncio.Event | None = None
        """What a new connection to the sandbox waits for."""

    def put(self, uid: str = "1", state: RouteState = RouteState.RUNNING, *, wakes: bool = False) -> SandboxRoute:
        """Publishes the sandbox, with a pool that connects in memory."""
        route = self.table.put(SandboxRoute(SANDBOX, uid, Targets("192.0.2.1"), state=state, wakes=wakes))
        if PORT not in route.pools:
            route.pools[PORT] = Pool(self._connect, self.limits, self.plane.deadlines)
        return route

    async def _connect(self, pool: Pool) -> UpstreamConnection:
        if self.slow_dial is not None:
            await self.slow_dial.wait()
        if self.refusing is not None:
            raise self.refusing
        connection = self.upstream(pool)
        if self.lost_dials:
            self.lost_dials -= 1
            self.dialled[-1].lose()
        return connection

    def upstream(self, pool: Pool | None = None) -> UpstreamConnection:
        """A new connection to the sandbox."""
        wire = Wire()
        connection = UpstreamConnection(self.pool if pool is None else pool, self.limits)
        wire.attach(connection)
        self.plane.deadlines.add(connection)
        self.dialled.append(wire)
        self._dialled_one.set()
        return connection

    def stock(self, count: int = 1) -> Wire:
        """Puts fresh connections into the pool, so that requests need no dialling; returns the wire of the last."""
        for _ in range(count):
            self.pool.give(self.upstream())
        return self.dialled[-1]

    def connect(self) -> Wire:
        """A new client connection."""
        wire = Wire()
        wire.attach(ClientConnection(self.plane, b"http"))
        return wire

    def pass_time(self, seconds: float) -> None:
        """Moves the clock, and lets the deadlines come that have passed."""
        self.plane.deadlines.sweep(self.plane.deadlines.now + seconds)

    async def dialled_count(self, count: int) -> Wire:
        """Waits until so many connections have been made to the sandbox; returns the newest."""
        async with asyncio.timeout(PATIENCE):
            while len(self.dialled) < count:
                self._dialled_one.clear()
                await self._dialled_one.wait()
        return self.dialled[-1]
