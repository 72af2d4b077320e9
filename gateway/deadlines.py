"""One sweep for every timeout: a deadline is a number on an object, looked at once a second.

A timer per request would cost more than the request's parsing. Timeouts here are long beside a second, so the sweep
also keeps the coarse clock that stamps activity: `now` is loop time, at most one sweep old.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from gateway.flow import Held, in_turns

SWEEP_SECONDS = 1.0
MOST_AT_ONCE = 64
"""Most that expire, or whose peer is looked for, in one turn of the loop: some 0.03 ms each with an error response."""
NEVER = float("inf")

log = logging.getLogger(__name__)


class Expiring(Protocol):
    """Something with a deadline in loop time; NEVER means it has none at present."""

    deadline: float

    def expire(self, now: float) -> None:
        """The deadline has passed: close, answer, or set a later one."""


class Deadlines:
    """All objects with a deadline."""

    def __init__(self) -> None:
        self.now = 0.0
        self._members: set[Expiring] = set()
        self.held: set[Held] = set()
        """Connections whose reading is paused; each sweep checks whether their peer is gone."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.add = self._members.add
        self.discard = self._members.discard

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins sweeping on `loop`."""
        self._loop = loop
        self.now = loop.time()
        self._timer = loop.call_later(SWEEP_SECONDS, self._tick)

    def stop(self) -> None:
        """Ends sweeping."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def sweep(self, now: float) -> None:
        """Expires everything due at `now`; thousands at once are spread over several iterations of the loop."""
        self.now = now
        in_turns(self._expire, [member for member in self._members if member.deadline <= now], MOST_AT_ONCE)
        in_turns(self._look, tuple(self.held), MOST_AT_ONCE)

    def _expire(self, member: Expiring) -> None:
        """One member that fails does not keep the others waiting."""
        try:
            if member in self._members and member.deadline <= self.now:
                member.expire(self.now)
        except Exception:
            log.exception("unexpected error while expiring a deadline")

    def _look(self, held: Held) -> None:
        try:
            if held in self.held:
                held.look()
        except Exception:
            log.exception("unexpected error while checking a paused connection")

    def _tick(self) -> None:
        if self._loop is not None and self._timer is not None:
            self._timer = self._loop.call_later(SWEEP_SECONDS, self._tick)
            self.sweep(self._loop.time())
