"""Deletes sandboxes when they expire: one heap of deadlines, one sleeping task.

Deadlines are wall-clock times, as the API returns them: no sandbox expires while the clock shows an earlier time, and
each does once it shows a later one, however the clock got there. So the task never sleeps long and notices a clock
that is set forward within seconds; when the clock is set back, retry times computed from the wrong time are dropped.
Deadlines that have passed when the server starts are handled at once, since every adopted sandbox is registered here.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from manager.domain.errors import ManagerError
from manager.services.clock import Clock
from manager.services.inventory import Change, Inventory
from manager.services.tasks import Tasks

RETRY = timedelta(seconds=30)
"""Seconds until a failed deletion is retried."""

LONGEST_SLEEP = 5.0
"""Longest sleep in seconds before the clock is read again."""

_AT_ONCE = 8

_logger = logging.getLogger(__name__)


class Expiry:
    """The deadlines of all sandboxes."""

    def __init__(
        self, inventory: Inventory, expire: Callable[[str], Awaitable[None]], tasks: Tasks, clock: Clock
    ) -> None:
        self._inventory = inventory
        self._expire = expire
        self._tasks = tasks
        self._clock = clock
        self._heap: list[tuple[datetime, str]] = []
        self._due: dict[str, datetime] = {}  # entries of the heap that differ from this are stale
        self._not_before: dict[str, datetime] = {}  # an attempt that fails is not repeated at once
        self._seen = clock()  # the clock when it was last read
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._failing: set[str] = set()  # what could not be ended yet
        self._told: set[str] = set()  # why not, as far as the log has it

    def on_change(self, change: Change) -> None:
        """Follows the deadline of one sandbox."""
        self._follow(change.sandbox_id)

    def check(self) -> list[asyncio.Task[None]]:
        """Starts deleting every expired sandbox; returns the tasks."""
        now, work = self._clock(), []
        if now < self._seen:
            self._begin_anew()
        self._seen = now
        while self._heap and self._heap[0][0] <= now:
            when, sandbox_id = heapq.heappop(self._heap)
            if self._due.get(sandbox_id) == when:
                del self._due[sandbox_id]
                self._not_before[sandbox_id] = now + RETRY
                work.append(self._tasks.spawn(self._end(sandbox_id), f"expire {sandbox_id}"))
        return work

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            self._changed.clear()
            self.check()
            try:
                async with asyncio.timeout(self._pause()):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def __len__(self) -> int:
        return len(self._due)

    def _follow(self, sandbox_id: str) -> None:
        deadline = self._inventory.deadline(sandbox_id)
        if deadline is None:
            self._due.pop(sandbox_id, None)
            self._not_before.pop(sandbox_id, None)
            self._note_end(sandbox_id)
            return
        when = max(deadline, self._not_before.get(sandbox_id, deadline))
        if self._due.get(sandbox_id) != when:
            self._schedule(sandbox_id, when)

    def _begin_anew(self) -> None:
        """The clock was set back: a retry must not wait until it shows its former time again."""
        waiting = list(self._not_before)
        self._not_before.clear()
        for sandbox_id in waiting:
            self._follow(sandbox_id)

    def _schedule(self, sandbox_id: str, when: datetime) -> None:
        self._due[sandbox_id] = when
        heapq.heappush(self._heap, (when, sandbox_id))
        # Renewals leave stale entries in the heap; they must not accumulate for sandboxes that are renewed for ever.
        if len(self._heap) > 2 * len(self._due) + 64:
            self._heap = [(when, sandbox_id) for sandbox_id, when in self._due.items()]
            heapq.heapify(self._heap)
        self._changed.set()

    def _pause(self) -> float:
        if not self._heap:
            return LONGEST_SLEEP
        return min(LONGEST_SLEEP, max(0.0, (self._heap[0][0] - self._clock()).total_seconds()))

    async def _end(self, sandbox_id: str) -> None:
        async with self._room:
            try:
                await self._expire(sandbox_id)
            except ManagerError as error:
                self._note_failure(sandbox_id, error.message)
            else:
                self._note_end(sandbox_id)
        self._follow(sandbox_id)

    def _note_failure(self, sandbox_id: str, why: str) -> None:
        """One line for each cause, however many sandboxes have it and however often it is met."""
        self._failing.add(sandbox_id)
        if why not in self._told:
            self._told.add(why)
            _logger.warning("cannot end sandbox %s, whose time is over, yet: %s", sandbox_id, why)

    def _note_end(self, sandbox_id: str) -> None:
        if sandbox_id in self._failing:
            self._failing.discard(sandbox_id)
            if not self._failing:
                self._told.clear()
                _logger.info("no sandbox whose time is over is left")
