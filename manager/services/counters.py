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
    events_sent: int = 0
    """Events that the webhook's receiver has taken."""
    events_undelivered: int = 0
    """Events that it never took, however often they were sent: dead letters."""
