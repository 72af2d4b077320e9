"""The lasting record of changes of state: numbered as they happen, written behind, read by followers at their own pace.

A change is in memory until it is written, a moment later: no operation on a sandbox waits for it. Followers have no
queue here; each keeps the number it has seen and reads on from there, so a slow one costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import timedelta

from manager.domain.errors import Unavailable
from manager.domain.events import Cause, LifecycleEvent, Origin, cause_of
from manager.domain.sandbox import SandboxState
from manager.runtime.records import EventRecords
from manager.services import origin
from manager.services.clock import Clock
from manager.services.followed import Followed
from manager.services.inventory import Change, Ending

_logger = logging.getLogger(__name__)

PENDING = 10_000
"""Events that wait for a store which does not work; older ones are lost then."""
RETRY_SECONDS = 5.0
TRIM_EVERY = 500
"""Events after which those past their time are dropped."""

_UNDER_WAY = frozenset({SandboxState.PENDING, SandboxState.PAUSING, SandboxState.RESUMING, SandboxState.STOPPING})
_GONE = {Ending.VANISHED: Cause.REMOVED_OUTSIDE, Ending.EXPIRED: Cause.EXPIRY}


class Events(Followed):
    """What has happened to sandboxes, the latest `most` changes of the last `days` days."""

    def __init__(self, records: EventRecords, clock: Clock, *, days: float, most: int) -> None:
        super().__init__()
        self._records = records
        self._clock = clock
        self._kept = timedelta(days=days)
        self._most = most
        self._own: Counter[str] = Counter()
        self._pending: list[LifecycleEvent] = []
        self._origins: dict[str, Origin] = {}
        self._writing = asyncio.Lock()
        self._untrimmed = 0
        self._lost = False
        self.last = 0
        """The number of the latest event."""

    async def load(self) -> None:
        """Goes on from the numbers of the last process. Raises Unavailable."""
        await self._records.trim(self._clock() - self._kept, self._most)
        self.last, own = await self._records.last()
        self._own.update(own)

    def on_change(self, change: Change) -> None:
        """Notes the event that a change of the inventory is, if it is one, and logs it."""
        before, after = change.before, change.after
        asked = self._origin(change)
        gone = _GONE.get(change.ending) if after is None and change.ending is not None else None
        cause = cause_of(before, after, gone, asked)
        known = after or before
        if cause is None or known is None:
            return
        self.last += 1
        self._own[known.owner] += 1
        event = LifecycleEvent(
            id=self.last,
            own=self._own[known.owner],
            at=self._clock(),
            sandbox_id=change.sandbox_id,
            before=None if before is None else before.status.state,
            after=None if after is None else after.status.state,
            cause=cause,
            message=_message(change, cause),
            actor=asked.actor if asked else "",
            request_id=asked.request_id if asked else "",
            owner=known.owner,
        )
        self._pending.append(event)
        if len(self._pending) > PENDING:
            del self._pending[0]
        _logger.info("%s", _line(event))
        self._wake()

    def _origin(self, change: Change) -> Origin | None:
        """Who asks now, or who began what the runtime now reports as done."""
        begun = self._origins.pop(change.sandbox_id, None)
        asked = origin.current() or begun
        if asked is not None and change.after is not None and change.after.status.state in _UNDER_WAY:
            self._origins[change.sandbox_id] = asked
        return asked

    async def run(self) -> None:
        """Writes what happens until cancelled."""
        while True:
            news = self._news
            try:
                await self.flush()
            except Unavailable as error:
                if not self._lost:
                    _logger.warning("events are kept in memory only for now: %s", error.message)
                self._lost = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._lost = False
            if not self._pending:
                await news.wait()

    async def flush(self) -> None:
        """Writes everything that has happened so far. Raises Unavailable."""
        async with self._writing:
            batch = list(self._pending)
            if not batch:
                return
            await self._records.append(batch)
            written = batch[-1].id
            self._pending = [event for event in self._pending if event.id > written]
            self._untrimmed += len(batch)
            if self._untrimmed >= TRIM_EVERY:
                self._untrimmed = 0
                await self._records.trim(self._clock() - self._kept, self._most)

    def count(self, viewer: str | None) -> int:
        """The number of the latest event as this viewer is told it."""
        return self.last if viewer is None else self._own[viewer]

    async def since(
        self, number: int, most: int, viewer: str | None = None, sandbox_id: str | None = None
    ) -> list[LifecycleEvent]:
        """The first events after `number`, oldest first, of one sandbox or of all. Raises Unavailable."""
        await self.flush()
        return await self._records.since(number, most, viewer, sandbox_id)

    async def knows(self, number: int, viewer: str | None = None) -> bool:
        """Whether everything after `number` is still kept. Raises Unavailable."""
        if number == self.count(viewer):
            return True
        await self.flush()
        first = await self._records.first(viewer)
        return first is not None and first - 1 <= number < self.count(viewer)


def _message(change: Change, cause: Cause) -> str | None:
    if cause is Cause.REMOVED_OUTSIDE:
        return "Its container was removed outside of this server."
    if change.after is None:
        return None
    if cause is Cause.RENEWED:
        return f"It expires at {change.after.expires_at:%Y-%m-%dT%H:%M:%SZ}." if change.after.expires_at else None
    return change.after.status.message


def _line(event: LifecycleEvent) -> str:
    states = [state.value if state else word for state, word in ((event.before, "none"), (event.after, "gone"))]
    by = f" by key {event.actor}" if event.actor else ""
    told = f": {event.message}" if event.message else ""
    return f"sandbox {event.sandbox_id}: {states[0]} to {states[1]}, {event.cause.value}{by}{told}"
