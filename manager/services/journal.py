"""The latest changes in order, for event streams and for the events of one sandbox (diagnostics).

Followers have no queue here: each keeps the sequence number of the last change it has seen and reads on from there. One
that falls behind what is kept has to list again, so a slow reader costs nothing.
"""

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime

from manager.domain.sandbox import Sandbox
from manager.runtime.base import EventNumbers
from manager.services.clock import Clock
from manager.services.followed import Followed
from manager.services.inventory import Change, Ending

KEPT = 10_000
"""Changes that are kept; memory is shared with the inventory for those that are still true."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One change: what the sandbox is since then, or None with why it ended."""

    number: int
    at: datetime
    sandbox_id: str
    sandbox: Sandbox | None
    ending: Ending | None
    owner: str
    own: int
    """How many changes there were of what this owner made, this one included: a number that tells nothing of others."""


class ProcessNumbers:
    """Counts from 1, for a runtime whose events carry no numbers: the epoch is one process lifetime."""

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)
        self.last = 0

    def advance(self) -> int:
        """The next number."""
        self.last += 1
        return self.last


class Journal(Followed):
    """Changes by ascending sequence number, with gaps where a runtime numbers more than sandboxes."""

    def __init__(self, clock: Clock, numbers: EventNumbers | None = None) -> None:
        """`numbers` are the runtime's, where its events carry any."""
        super().__init__()
        self._clock = clock
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._own: Counter[str] = Counter()
        self._numbers = numbers or ProcessNumbers()
        self._dropped = self._numbers.last  # the number of the latest change that is not kept

    @property
    def epoch(self) -> str:
        """Sequence numbers compare within one epoch: a process lifetime, unless the runtime numbers its events."""
        return self._numbers.epoch

    @property
    def last(self) -> int:
        """The number of the latest change."""
        return self._numbers.last

    def on_change(self, change: Change) -> None:
        """Appends one change."""
        number = self._numbers.advance()
        ending = change.ending if change.after is None else None
        known = change.after or change.before
        owner = "" if known is None else known.owner
        self._own[owner] += 1
        entry = Entry(number, self._clock(), change.sandbox_id, change.after, ending, owner, self._own[owner])
        if len(self._entries) == self._entries.maxlen:
            self._dropped = self._entries[0].number
        self._entries.append(entry)
        self._wake()

    def since(self, number: int, most: int = KEPT) -> list[Entry] | None:
        """The first changes after `number`; None when some are no longer kept, or the number is not from here."""
        if not self._dropped <= number <= self.last:
            return None
        start = bisect_right(self._entries, number, key=lambda entry: entry.number)
        return [self._entries[index] for index in range(start, min(start + most, len(self._entries)))]

    def count(self, viewer: str | None) -> int:
        """The number of the latest change as this viewer is told it: of its own only, or None for all."""
        return self.last if viewer is None else self._own[viewer]

    def place(self, viewer: str | None, count: int) -> int | None:
        """The number after which everything comes that a viewer who was told `count` has not seen.

        None when some of that is no longer kept, or the count is not from here.
        """
        if viewer is None:
            return count
        missed = self._own[viewer] - count
        if missed == 0:
            return self.last
        kept = [entry.number for entry in self._entries if entry.owner == viewer]
        return kept[-missed] - 1 if 0 < missed <= len(kept) else None

    def of(self, sandbox_id: str) -> list[Entry]:
        """What is kept of one sandbox, oldest first."""
        return [entry for entry in self._entries if entry.sandbox_id == sandbox_id]
