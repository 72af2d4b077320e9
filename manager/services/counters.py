"""Counters of the services; rendered only at a scrape."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tallies:
    """Counts since the start; seconds are sums."""

    creates_ok: int = 0
    creates_failed: int = 0
    create_seconds: float = 0.0
    """Time the successful creates took."""

    deletes: int = 0
    expiries: int = 0
    renewals: int = 0
