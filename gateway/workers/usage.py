"""Usage reports of workers: counters and activity, which the first process adds to its own.

Thousands of routes may have been used in a second, so a report comes in parts, between which others have their turn.
Per route a worker tells differences, so that what has been told stays when the worker dies. Of its counters it tells
the totals: they replace what it told before, and are kept as they are when it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.metrics import Counters
from gateway.table import RouteTable, SandboxRoute

ROUTES_AT_ONCE: Final = 100
"""How many routes are looked at for one part, in about a millisecond at either end."""


@dataclass(frozen=True, slots=True)
class RouteUse:
    """What has happened on one route since the last report, and what is open on it now."""

    id: str
    uid: str
    last_active: float
    """In the monotonic clock's seconds, which all processes share."""
    requests: int
    bytes_in: int
    bytes_out: int
    open: int


@dataclass(frozen=True, slots=True)
class Report:
    """What has happened since the last report, or a part of that."""

    routes: tuple[RouteUse, ...]
    retired_in: int = 0
    retired_out: int = 0
    """Body bytes of routes that are no longer held."""
    counters: Mapping[str, Any] | None = None
    """As `Counters.snapshot` gives them; only the last part has them."""


_Figures = tuple[float, int, int, int, int]


class UsageReporter:
    """A worker's side: finds what is new since the last report."""

    def __init__(self, table: RouteTable, counters: Counters) -> None:
        self._table = table
        self._counters = counters
        self._told: dict[bytes, tuple[SandboxRoute, _Figures]] = {}
        self._retired_in = 0
        self._retired_out = 0
        """What was retired by the last report."""

    def take(self) -> Iterator[Report]:
        """What has happened since the last call, in parts; other work may be done between two of them."""
        retired = self._retired()
        used = [route for route in self._table if route.requests]
        last = max(0, (len(used) - 1) // ROUTES_AT_ONCE)
        for part in range(last):
            yield Report(self._news(used[part * ROUTES_AT_ONCE : (part + 1) * ROUTES_AT_ONCE]))
        yield Report(self._news(used[last * ROUTES_AT_ONCE :]), *retired, self._counters.snapshot())

    def _news(self, routes: list[SandboxRoute]) -> tuple[RouteUse, ...]:
        uses: list[RouteUse] = []
        for route in routes:
            told, before = self._told.get(route.id, (route, _NOTHING))
            if told is not route or self._table.get(route.id) is not route:
                continue  # it has gone while others had their turn: the next report accounts for that
            figures = _figures(route)
            if figures != before:
                self._told[route.id] = (route, figures)
                uses.append(_use(route, figures, before))
        return tuple(uses)

    def _retired(self) -> tuple[int, int]:
        """Bytes of routes that have gone since the last report, but for those that were told while they were held."""
        table = self._table
        grown_in, grown_out = table.retired_in - self._retired_in, table.retired_out - self._retired_out
        self._retired_in, self._retired_out = table.retired_in, table.retired_out
        for sandbox_id, (route, figures) in list(self._told.items()):
            if table.get(sandbox_id) is not route:
                del self._told[sandbox_id]
                grown_in -= figures[2]
                grown_out -= figures[3]
        return grown_in, grown_out


_NOTHING: _Figures = (0.0, 0, 0, 0, 0)


def _figures(route: SandboxRoute) -> _Figures:
    return route.last_active, route.requests, *route.moved(), len(route.live)


def _use(route: SandboxRoute, now: _Figures, before: _Figures) -> RouteUse:
    return RouteUse(
        route.id.decode("ascii"),
        route.uid,
        now[0],
        now[1] - before[1],
        now[2] - before[2],
        now[3] - before[3],
        now[4],
    )


class UsageTotals:
    """The first process's side, one per worker: adds what the worker tells to the route table."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._open: dict[SandboxRoute, int] = {}
        self.counters = Counters()
        """The worker's own, as it told them last."""

    def enter(self, report: Report) -> None:
        """Takes a report, or a part of one."""
        table = self._table
        table.retired_in += report.retired_in
        table.retired_out += report.retired_out
        for use in report.routes:
            route = table.get(use.id.encode("ascii"))
            if route is None or route.uid != use.uid:
                table.retired_in += use.bytes_in
                table.retired_out += use.bytes_out
            else:
                self._enter(route, use)
        if report.counters is None:
            return
        for route in [route for route in self._open if table.get(route.id) is not route]:
            del self._open[route]
        self.counters = Counters()
        self.counters.add(report.counters)

    def _enter(self, route: SandboxRoute, use: RouteUse) -> None:
        route.last_active = max(route.last_active, use.last_active)
        route.requests += use.requests
        route.bytes_in += use.bytes_in
        route.bytes_out += use.bytes_out
        self._set_open(route, use.open)

    def _set_open(self, route: SandboxRoute, count: int) -> None:
        route.open_elsewhere += count - self._open.pop(route, 0)
        if count:
            self._open[route] = count

    def close(self) -> Counters:
        """The worker has ended, and what it had open with it; returns what remains to be counted."""
        for route in list(self._open):
            self._set_open(route, 0)
        self.counters.close_open()
        return self.counters
