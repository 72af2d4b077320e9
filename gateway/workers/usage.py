"""Usage reports of workers: counters and activity, which the first process adds to its own.

Per route a worker tells differences, so that what has been told stays when the worker dies. Of its counters it tells
the totals: they replace what it told before, and are kept as they are when it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.metrics import Counters
from gateway.table import RouteTable, SandboxRoute


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
    """Everything since the last report."""

    routes: tuple[RouteUse, ...]
    retired_in: int
    retired_out: int
    """Body bytes of routes that are no longer held."""
    counters: Mapping[str, Any]
    """As `Counters.snapshot` gives them."""


_Figures = tuple[float, int, int, int, int]


class UsageReporter:
    """A worker's side: finds what is new since the last report."""

    def __init__(self, table: RouteTable, counters: Counters) -> None:
        self._table = table
        self._counters = counters
        self._told: dict[bytes, tuple[SandboxRoute, _Figures]] = {}
        self._told_in = 0
        self._told_out = 0

    def take(self) -> Report:
        """What has happened since the last call."""
        table, told_before, told_now = self._table, self._told, {}
        uses: list[RouteUse] = []
        total_in, total_out = table.retired_in, table.retired_out
        for route in table:
            if not route.requests:
                continue
            figures = _figures(route)
            total_in += figures[2]
            total_out += figures[3]
            told_now[route.id] = (route, figures)
            held = told_before.get(route.id)
            before = held[1] if held is not None and held[0] is route else _NOTHING
            if figures != before:
                uses.append(_use(route, figures, before))
        self._told = told_now
        grown_in, grown_out = total_in - self._told_in, total_out - self._told_out
        self._told_in, self._told_out = total_in, total_out
        return Report(
            tuple(uses),
            grown_in - sum(use.bytes_in for use in uses),
            grown_out - sum(use.bytes_out for use in uses),
            self._counters.snapshot(),
        )


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
        """Takes a report."""
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
