"""What workers tell of their traffic: nothing is counted twice, nothing is lost, the dead have nothing open."""

from __future__ import annotations

import pytest

from gateway.metrics import Counters
from gateway.table import Removal, RouteTable, SandboxRoute
from gateway.upstream.targets import Targets
from gateway.workers.usage import ROUTES_AT_ONCE, RouteUse, UsageReporter, UsageTotals


class Open:
    """Something open on a route, through which bytes have gone."""

    keys: tuple[bytes, ...] = ()
    bytes_in: int = 5
    bytes_out: int = 7
    since: float = 0.0

    def revoke(self, reason: Removal) -> None:
        pass


class Pair:
    """A worker's table with its reporter, and the first process's with its ledger."""

    def __init__(self) -> None:
        self.worker, self.first = RouteTable(), RouteTable()
        self.counters = Counters()
        self.reporter, self.ledger = UsageReporter(self.worker, self.counters), UsageTotals(self.first)
        self.put("1")

    def put(self, uid: str) -> None:
        """Publishes the sandbox to both."""
        self.used = self.worker.put(SandboxRoute("abc", uid, Targets()))
        self.held = self.first.put(SandboxRoute("abc", uid, Targets()))

    def use(self, size: int = 10, at: float = 1.0) -> None:
        """One request through the worker."""
        self.used.requests += 1
        self.used.bytes_in += size
        self.used.bytes_out += size * 2
        self.used.last_active = at

    def tell(self) -> None:
        """One report."""
        for part in self.reporter.take():
            self.ledger.enter(part)

    def news(self) -> tuple[RouteUse, ...]:
        """What the next report tells of routes."""
        (report,) = self.reporter.take()
        return report.routes

    @property
    def total(self) -> tuple[int, int]:
        """Body bytes both ways, as they are scraped."""
        return (
            self.first.retired_in + sum(route.bytes_in for route in self.first),
            self.first.retired_out + sum(route.bytes_out for route in self.first),
        )


def test_nothing_new_is_not_told() -> None:
    """A report holds the routes that were used since the last one, and no other."""
    pair = Pair()
    pair.use(at=3.0)
    assert pair.news() == (RouteUse("abc", "1", 3.0, 1, 10, 20, 0),)
    assert pair.news() == ()
    pair.use(at=4.0)
    assert pair.news() == (RouteUse("abc", "1", 4.0, 1, 10, 20, 0),)


def test_differences_add_up() -> None:
    """What two reports tell of a route is what has happened on it, beside the first process's own."""
    pair = Pair()
    pair.held.requests, pair.held.bytes_in = 5, 100
    for _ in range(3):
        pair.use()
        pair.tell()
    assert (pair.held.requests, pair.held.bytes_in, pair.held.bytes_out) == (8, 130, 60)


def test_latest_activity_counts() -> None:
    """The sandbox was active when any process saw it last."""
    pair = Pair()
    pair.use(at=5.0)
    pair.held.last_active = 7.0
    pair.tell()
    assert pair.held.last_active == 7.0
    pair.use(at=9.0)
    pair.tell()
    assert pair.held.last_active == 9.0


def test_open_is_the_workers_word() -> None:
    """What is open is added over the processes, and follows the last report."""
    pair, live = Pair(), Open()
    pair.held.live.add(Open())
    pair.use()
    pair.used.live.add(live)
    pair.tell()
    assert pair.held.open == 2
    pair.used.live.discard(live)
    pair.tell()
    assert pair.held.open == 1


def test_what_is_open_counts_already() -> None:
    """A stream of hours is seen while it lasts, and once: its end adds nothing."""
    pair = Pair()
    pair.use()
    stream = Open()
    pair.used.live.add(stream)
    pair.tell()
    assert pair.held.moved() == (15, 27)
    pair.used.live.discard(stream)
    pair.used.bytes_in += stream.bytes_in
    pair.used.bytes_out += stream.bytes_out
    pair.tell()
    assert pair.held.moved() == (15, 27)


def test_bytes_of_removed_routes_are_kept() -> None:
    """Bytes that went through a route between its last report and its end are counted all the same."""
    pair = Pair()
    pair.use()
    pair.tell()
    pair.use()
    for table in (pair.worker, pair.first):
        table.remove("abc", Removal.DELETED)
    pair.tell()
    assert pair.total == (20, 40)


def test_bytes_of_routes_removed_here_first() -> None:
    """A report that comes after the route's end in the first process adds to what is retired."""
    pair = Pair()
    pair.use()
    pair.first.remove("abc", Removal.DELETED)
    pair.tell()
    assert pair.total == (10, 20)


def test_another_life_is_not_credited() -> None:
    """What the earlier life of a sandbox has done is no activity of the later one."""
    pair = Pair()
    pair.use(at=9.0)
    held = pair.first.put(SandboxRoute("abc", "2", Targets()))
    pair.tell()
    assert (held.requests, held.bytes_in, held.last_active, held.open) == (0, 0, 0.0, 0)
    assert pair.total == (10, 20)


def test_replaced_life_in_the_worker() -> None:
    """A new life starts at nothing, and the bytes of the old one stay counted."""
    pair = Pair()
    pair.use()
    pair.tell()
    pair.put("2")
    pair.use(size=1)
    pair.tell()
    assert (pair.held.requests, pair.held.bytes_in) == (1, 1)
    assert pair.total == (11, 22)


def test_counters_of_the_dead_stay() -> None:
    """A worker that ends keeps what it has counted, and has nothing open."""
    pair = Pair()
    pair.counters.connections_total, pair.counters.connections, pair.counters.tunnels = 9, 4, 2
    pair.counters.refused("A")
    pair.counters.responses[0][1] = 3
    pair.used.live.add(Open())
    pair.use()
    pair.tell()
    left, total = pair.ledger.close(), Counters()
    total.refused("A")
    total.responses[0][1] = 1
    total.add(left.snapshot())
    assert (total.connections_total, total.connections, total.tunnels) == (9, 0, 0)
    assert (total.refusals, total.responses[0][1]) == ({"A": 2}, 4)
    assert pair.held.open == 0


def test_a_removed_route_is_forgotten() -> None:
    """What was open on a route that has gone keeps no hold on it."""
    pair = Pair()
    pair.used.live.add(Open())
    pair.use()
    pair.tell()
    pair.first.remove("abc", Removal.DELETED)
    pair.worker.remove("abc", Removal.DELETED)
    pair.tell()
    assert not pair.ledger._open


# Many routes: a report in parts, between which anything may happen.

MANY = 3 * ROUTES_AT_ONCE + 1


class Many:
    """A worker's table and the first process's, with many routes that have been used."""

    def __init__(self) -> None:
        self.worker, self.first = RouteTable(), RouteTable()
        self.reporter, self.ledger = UsageReporter(self.worker, Counters()), UsageTotals(self.first)
        self.used = [self.put(number) for number in range(MANY)]
        self.use()

    def put(self, number: int, uid: str = "1") -> SandboxRoute:
        """Publishes a sandbox to both; returns the worker's route."""
        self.first.put(SandboxRoute(f"a{number}", uid, Targets()))
        return self.worker.put(SandboxRoute(f"a{number}", uid, Targets()))

    def use(self) -> None:
        """One request to each."""
        for route in self.used:
            route.requests += 1
            route.bytes_in += 10

    def tell(self) -> None:
        for part in self.reporter.take():
            self.ledger.enter(part)

    def remove(self, number: int) -> None:
        for table in (self.worker, self.first):
            table.remove(f"a{number}", Removal.DELETED)

    @property
    def total(self) -> int:
        return self.first.retired_in + sum(route.bytes_in for route in self.first)


def test_parts_of_a_report() -> None:
    """No part is about more than so many routes, and together they are about all; the last has the counters."""
    many = Many()
    parts = list(many.reporter.take())
    assert [len(part.routes) for part in parts] == [ROUTES_AT_ONCE] * 3 + [1]
    assert [part.counters is None for part in parts] == [True] * 3 + [False]
    for part in parts:
        many.ledger.enter(part)
    assert many.total == 10 * MANY


@pytest.mark.parametrize("number", [0, MANY - 1], ids=["told", "not told yet"])
@pytest.mark.parametrize("event", ["gone", "another life"])
def test_between_two_parts(number: int, event: str) -> None:
    """What ends, begins anew or is used between two parts is counted once, now or by the next report."""
    many = Many()
    for index, part in enumerate(many.reporter.take()):
        many.ledger.enter(part)
        if index == 0:
            many.use()
            if event == "gone":
                many.remove(number)
            else:
                many.used[number] = many.put(number, uid="2")
    many.tell()
    assert many.total == 20 * MANY
    many.use()
    many.tell()
    assert many.total == 30 * MANY - (10 if event == "gone" else 0)
