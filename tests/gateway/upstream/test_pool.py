"""The pool of idle connections: which one is taken, which are kept, and what becomes of the rest."""

from __future__ import annotations

from gateway.limits import Limits
from gateway.table import Removal, SandboxRoute
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.pool import FRESH_SECONDS, MOST_POOLS, Pool
from gateway.upstream.targets import Targets
from tests.gateway.harness import Wire, World


def filled(count: int, limits: Limits | None = None) -> tuple[World, list[UpstreamConnection]]:
    world = World(limits)
    connections = [world.upstream() for _ in range(count)]
    for connection in connections:
        world.pool.give(connection)
    return world, connections


def test_last_in_first_out() -> None:
    """The connection used most recently is the least likely to have been closed by the application."""
    world, (first, second, third) = filled(3)
    assert [world.pool.take(replayable=True) for _ in range(4)] == [third, second, first, None]


def test_nothing_is_taken_twice() -> None:
    """A connection serves one exchange at a time."""
    world, (only,) = filled(1)
    assert world.pool.take(replayable=True) is only
    assert world.pool.take(replayable=True) is None
    assert len(world.pool) == 0


def test_closing_connection_is_passed_over() -> None:
    """A connection that is on its way out serves nobody."""
    world, (first, _) = filled(2)
    world.dialled[1].close()
    assert world.pool.take(replayable=True) is first


def test_dead_idle_connection_leaves() -> None:
    """A connection that the application closes is forgotten when it says so, not when it is looked for."""
    world, _ = filled(2)
    world.dialled[1].end()
    world.dialled[1].settle()
    assert len(world.pool) == 1


def test_bytes_nobody_asked_for() -> None:
    """An idle connection that speaks is dropped: its bytes would be taken for the answer to the next request."""
    world, _ = filled(1)
    world.dialled[0].arrive(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert world.dialled[0].aborted
    assert world.pool.take(replayable=True) is None


def test_not_replayable_needs_a_fresh_one() -> None:
    """What may not be sent twice is not sent on a connection that the application may be closing this moment."""
    world, (only,) = filled(1)
    world.plane.deadlines.now += FRESH_SECONDS
    assert world.pool.take(replayable=False) is None
    assert world.pool.take(replayable=True) is only


def test_fresh_enough() -> None:
    """Just before that it is taken."""
    world, (only,) = filled(1)
    world.plane.deadlines.now += FRESH_SECONDS * 0.9
    assert world.pool.take(replayable=False) is only


def test_cap() -> None:
    """More idle connections than the limit are closed, not kept."""
    world, _ = filled(3, Limits(pool_max_idle=2))
    assert len(world.pool) == 2
    assert sum(wire.closing for wire in world.dialled) == 1


def test_closed_pool_keeps_nothing() -> None:
    """Once the route has gone, what is idle closes and what comes back is closed."""
    world, _ = filled(1)
    busy = world.upstream()
    world.pool.close()
    world.pool.give(busy)
    assert [wire.closing for wire in world.dialled] == [True, True]
    assert len(world.pool) == 0


def test_given_back_while_held() -> None:
    """A connection whose reading stood still for a slow client reads again, else its end would never be seen."""
    world = World()
    connection = world.upstream()
    connection.hold()
    world.pool.give(connection)
    assert world.dialled[0].reading


def test_idle_for_too_long() -> None:
    """An idle connection closes when the time for it is over, and not before."""
    world, _ = filled(1, Limits(pool_idle_timeout=30))
    world.pass_time(20)
    assert not world.dialled[0].closing
    world.pass_time(11)
    assert world.dialled[0].closing


def test_busy_connection_does_not_expire() -> None:
    """The idle time of a connection says nothing about one that is serving."""
    world = World(Limits(pool_idle_timeout=30))
    wire, client = world.stock(), world.connect()
    client.arrive(b"GET / HTTP/1.1\r\nHost: x\r\nOpenSandbox-Ingress-To: abc-80\r\n\r\n")
    for _ in range(3):
        world.pass_time(31)
    assert not wire.closing


def test_forgetting_one_in_use() -> None:
    """A connection may go that is not idle."""
    world, (only,) = filled(1)
    assert world.pool.take(replayable=True) is only
    world.pool.forget(only)
    assert (len(world.pool), world.pool.connections) == (0, 0)


class Counting(dict[UpstreamConnection, None]):
    """Idle connections that count how often they are walked."""

    walks = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        self.walks += 1
        return super().__iter__()


def test_no_search() -> None:
    """Taking and giving look at one connection, however many are idle."""
    world, connections = filled(50)
    idle = world.pool._idle = Counting(dict.fromkeys(connections))
    for _ in range(20):
        taken = world.pool.take(replayable=True)
        assert taken is not None
        world.pool.give(taken)
    assert idle.walks == 0


def test_pools_are_apart() -> None:
    """A connection goes home to the pool it was made for."""
    world = World()
    other = Pool(world._connect, world.limits, world.plane.deadlines)
    connection = world.upstream(other)
    connection.home.give(connection)
    assert (len(other), len(world.pool)) == (1, 0)
    assert isinstance(connection.transport, Wire)


class Ports:
    """A sandbox all of whose ports can be asked for."""

    def __init__(self) -> None:
        self.world = World()
        self.route = self.world.table.put(SandboxRoute("all", "1", Targets("192.0.2.1")))

    def ask(self, port: int, *, connections: int = 0) -> Pool:
        """The pool of a port, with so many connections."""
        pool = self.world.plane.pool(self.route, port)
        for _ in range(connections):
            self.world.upstream(pool)
        return pool

    def pass_time(self) -> None:
        """As long as an idle connection is kept."""
        self.world.pass_time(self.world.limits.pool_idle_timeout)


def test_port_that_nobody_uses() -> None:
    """The pool of a port that has no connection leaves its route after a while."""
    ports = Ports()
    pool = ports.ask(80)
    ports.pass_time()
    assert (ports.route.pools, pool.closed) == ({}, True)
    assert ports.ask(80) is not pool


def test_port_in_use() -> None:
    """A pool stays while there is a connection, idle or not, and leaves when the last one has gone."""
    ports = Ports()
    pool = ports.ask(80, connections=1)
    for _ in range(3):
        ports.pass_time()
        assert ports.route.pools == {80: pool}
    ports.world.dialled[-1].lose()
    ports.pass_time()
    assert ports.route.pools == {}


def test_every_port_asked_for() -> None:
    """Whoever asks for every port of a sandbox makes it hold a few pools, those in use among them."""
    ports = Ports()
    used = [ports.ask(port, connections=1) for port in range(1, 10)]
    for port in range(10, 2000):
        ports.ask(port)
    assert len(ports.route.pools) <= MOST_POOLS
    assert [ports.route.pools[port] for port in range(1, 10)] == used


def test_gone_with_the_route() -> None:
    """Of a sandbox that is removed no pool waits for its time."""
    ports = Ports()
    pool = ports.ask(80)
    ports.world.table.remove("all", Removal.DELETED)
    assert pool.closed
    assert pool not in ports.world.plane.deadlines._members
