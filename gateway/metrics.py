"""Counters of the data plane: plain integers, incremented in place, rendered by the manager at a scrape.

Nothing is labelled per request: a list index stands for a label value. Sandbox ids are no label, so the number of
time series is bounded whatever clients do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FORMS: Final = ("header", "host", "proxy", "uri", "api", "none")
"""Ways of addressing, in the order of the first index of `Counters.responses`; `none` was refused unrouted."""
FORM_API: Final = FORMS.index("api")
FORM_NONE: Final = FORMS.index("none")
CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "aborted")
"""Status classes, in the order of the second index; `aborted` ended before a whole answer had been sent."""
ABORTED: Final = 5
DURATION_BUCKETS: Final = 64
"""Bucket `n` counts exchanges that took less than 2**n microseconds (and at least half that); no process lives to
fill the last ones, so the index needs no check."""


class Counters:
    """Counters since the process started, and gauges of what is open."""

    __slots__ = (
        "client_addresses",
        "connections",
        "connections_total",
        "dial_failures",
        "dials",
        "duration_seconds",
        "durations",
        "pool_hits",
        "refusals",
        "responses",
        "retries",
        "tunnels",
        "tunnels_total",
    )

    def __init__(self) -> None:
        self.responses = [[0] * len(CLASSES) for _ in FORMS]
        self.durations = [0] * DURATION_BUCKETS
        self.duration_seconds = 0.0
        self.refusals: dict[str, int] = {}
        self.client_addresses = 0
        """How many have a connection; a trusted proxy is none of them."""
        self.connections = 0
        self.connections_total = 0
        self.tunnels = 0
        self.tunnels_total = 0
        self.dials = 0
        self.dial_failures = 0
        self.pool_hits = 0
        self.retries = 0

    def refused(self, code: str) -> None:
        """Counts an answer of our own by its code."""
        self.refusals[code] = self.refusals.get(code, 0) + 1

    def snapshot(self) -> dict[str, Any]:
        """All of it as plain values, which go on changing with these counters where they are lists."""
        return {name: getattr(self, name) for name in self.__slots__}

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Adds what another process has counted."""
        for name in self.__slots__:
            setattr(self, name, _sum(getattr(self, name), snapshot[name]))

    def close_open(self) -> None:
        """Forgets what is open, because the process that held it has ended."""
        self.client_addresses = self.connections = self.tunnels = 0


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, list):
        return [_sum(*pair) for pair in zip(one, other, strict=True)]
    if isinstance(one, dict):
        return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
    return one + other
