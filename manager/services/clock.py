"""The wall clock. Services take it as an argument, so that tests move time instead of waiting for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""The present moment, in UTC."""


def system_clock() -> datetime:
    """The machine's wall clock."""
    return datetime.now(UTC)
