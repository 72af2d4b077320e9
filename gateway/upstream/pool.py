"""Idle upstream connections of one port of one sandbox life; taking and giving are O(1).

Last in, first out: the connection used most recently is the least likely to have been closed by the application. A
pool belongs to its route object, hence to the lifecycle uid: when the route goes, `close` drops every connection, and
one that comes back later is closed instead of kept. A pool of a port that nobody uses leaves its route, so that whoever
asks for every port there is leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.deadlines import NEVER, Deadlines
from gateway.flow import PACED, SLOW_PEER
from gateway.limits import Limits
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.targets import Target

FRESH_SECONDS = 1.0
"""A request that may not be repeated takes only a connection idle for less than this: applications close idle ones."""


MOST_POOLS = 256
"""From so many ports of one sandbox on, those without a connection are forgotten at once."""
OURSELVES = Target("localhost", 0)
"""Where the in-process application is, for what wants an address."""


Connect = Callable[["Pool"], Awaitable[UpstreamConnection]]
"""Makes a new connection whose home is the given pool. Raises GatewayError."""


class Pool:
    """Connections to one port, and how to make another."""

    __slots__ = (
        "_deadlines",
        "_idle",
        "_limits",
        "_port",
        "_siblings",
        "closed",
        "connect",
        "connections",
        "deadline",
        "forwarded",
        "held",
        "host",
        "moves_origin",
        "prefix",
        "reported",
    )

    def __init__(self, connect: Connect, limits: Limits, deadlines: Deadlines, target: Target = OURSELVES) -> None:
        self.connect = connect
        self.prefix = target.prefix
        """What a relay on the way needs in front of every path."""
        self.forwarded = target.forwarded
        """Whether somebody accepts connections before the sandbox has, so that a new one may turn out to be refused."""
        self.host = b""
        """The Host that is sent in place of the client's; empty, which is usual, for the client's."""
        self.moves_origin = False
        """Whether an Origin of the public address is sent as one of that Host."""
        self.reported = False
        """Whether the log has a line about what is wrong with the port: one for each would let a sandbox fill it."""
        self.closed = False
        self._limits = limits
        self._deadlines = deadlines
        self.held = deadlines.held
        self._idle: dict[UpstreamConnection, None] = {}
        self.connections = 0
        """How many there are, in use or not."""
        self._siblings: dict[int, Pool] = {}
        self._port = 0
        self.deadline = NEVER

    def join(self, siblings: dict[int, Pool], port: int) -> None:
        """Becomes one of a route's pools until nobody has a connection to the port any more, and for a while after."""
        if len(siblings) >= MOST_POOLS:
            for other in [other for other in siblings.values() if not other.connections]:
                other._leave()
        siblings[port] = self
        self._siblings, self._port = siblings, port
        self.deadline = self._deadlines.now + self._limits.pool_idle_timeout
        self._deadlines.add(self)

    def expire(self, now: float) -> None:
        """Leaves the route, unless the port is in use."""
        if self.connections:
            self.deadline = now + self._limits.pool_idle_timeout
        else:
            self._leave()

    def _leave(self) -> None:
        # A request that is dialling at this moment is served; its connection comes back to a closed pool and is closed.
        self._siblings.pop(self._port, None)
        self.close()

    def take(self, replayable: bool) -> UpstreamConnection | None:
        """An idle connection fit for the request, or None."""
        idle = self._idle
        while idle:
            connection, _ = idle.popitem()
            if connection.transport.is_closing():
                continue
            if not replayable and self._deadlines.now - connection.idle_since >= FRESH_SECONDS:
                idle[connection] = None
                return None
            return connection
        return None

    def give(self, connection: UpstreamConnection) -> None:
        """Keeps the connection for the next exchange; a full pool gives up its oldest for it."""
        if self.closed:
            connection.close()
            return
        if connection.valve.reasons:
            # Nor does what it waited for concern the next exchange.
            connection.valve.release(SLOW_PEER | PACED)
        connection.idle_since = self._deadlines.now
        idle = self._idle
        idle[connection] = None
        if len(idle) > self._limits.pool_max_idle:
            # Not the one that came: it is the freshest, which is what requests that cannot be repeated need.
            oldest = next(iter(idle))
            del idle[oldest]
            oldest.close()

    def made(self) -> None:
        """There is one connection more."""
        self.connections += 1

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is gone."""
        self.connections -= 1
        self._idle.pop(connection, None)
        self._deadlines.discard(connection)

    def close(self) -> None:
        """Closes the idle connections, and from now on every one that comes back."""
        self.closed = True
        self._deadlines.discard(self)
        idle, self._idle = self._idle, {}
        for connection in idle:
            connection.close()

    def __len__(self) -> int:
        return len(self._idle)
