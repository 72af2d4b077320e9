"""What the server remembers of sandboxes where the runtime's objects cannot: one Protocol per kind of record.

A container's labels are fixed at create, so beside Docker the records are an SQLite file (`manager.store`); a runtime
whose objects can be changed keeps them there and opens no file. A write is durable when it returns, and every method
raises `manager.domain.errors.Unavailable` when the records cannot be read or written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from manager.domain.events import LifecycleEvent
from manager.domain.records import Failure, KeyRecord
from manager.domain.snapshot import Snapshot


class RenewalRecords(Protocol):
    """When a sandbox expires, for those that were renewed."""

    async def all(self) -> dict[str, datetime]:
        """Every renewed expiry by sandbox id."""

    async def put(self, sandbox_id: str, expires_at: datetime) -> None:
        """Keeps the expiry."""

    async def forget(self, sandbox_ids: Iterable[str]) -> None:
        """Drops the expiries of sandboxes that are gone; an unknown id is no error."""


class DocumentRecords(Protocol):
    """A set of names and values per sandbox, kept as a whole: patched metadata, changed limits."""

    async def all(self) -> dict[str, dict[str, str]]:
        """Every document by sandbox id."""

    async def put(self, sandbox_id: str, document: Mapping[str, str], /) -> None:
        """Keeps the document as a whole."""

    async def forget(self, sandbox_ids: Iterable[str]) -> None:
        """Drops the documents of sandboxes that are gone; an unknown id is no error."""


class FailureRecords(Protocol):
    """Failed creations, which exist nowhere else, with the names of their owners."""

    async def all(self) -> list[Failure]:
        """Every failure that is kept, in any order."""

    async def put(self, failure: Failure) -> None:
        """Keeps the failure in place of an earlier one of the same id."""

    async def forget(self, sandbox_ids: Iterable[str]) -> None:
        """Drops failures; an unknown id is no error."""


class PendingDeletes(Protocol):
    """Sandboxes whose deletion was promised while they were still being made."""

    async def all(self) -> set[str]:
        """Every such id."""

    async def put(self, sandbox_id: str) -> None:
        """Keeps the id; twice is as good as once."""

    async def forget(self, sandbox_id: str) -> None:
        """The sandbox is gone; an unknown id is no error."""


class SnapshotRecords(Protocol):
    """The index of snapshots, with the names of their owners."""

    async def all(self) -> list[Snapshot]:
        """Every snapshot, newest first."""

    async def put(self, snapshot: Snapshot) -> None:
        """Keeps the record in place of an earlier one of the same id."""

    async def adopt(self, found: Iterable[Snapshot]) -> list[Snapshot]:
        """Keeps those that were never adopted before, and returns them: one deleted since does not come back."""

    async def forget(self, snapshot_id: str) -> None:
        """Drops the record; an unknown id is no error."""


class IdempotencyRecords(Protocol):
    """Used idempotency keys, by the name of the API key and the key itself."""

    async def claim(self, record: KeyRecord, now: datetime) -> KeyRecord | None:
        """Takes the key, or returns the record that has it already; keys past their time are free again. Atomic."""

    async def made(self, owner: str, key: str, sandbox_id: str) -> None:
        """The sandbox of this key has come to exist; nothing happens when another holds the key by now."""

    async def release(self, owner: str, key: str, sandbox_id: str) -> None:
        """Frees the key of a create that did not come about, unless another has taken it since."""


class EventRecords(Protocol):
    """What has happened to sandboxes: events by number, and by a number of each owner's own."""

    async def append(self, events: Sequence[LifecycleEvent]) -> None:
        """Keeps events with higher numbers than any before."""

    async def since(
        self, number: int, most: int, owner: str | None = None, sandbox_id: str | None = None
    ) -> list[LifecycleEvent]:
        """The first after `number`, oldest first; with `owner` its own only, and numbers are the owner's."""

    async def first(self, owner: str | None = None) -> int | None:
        """The lowest number that is kept; None where nothing is."""

    async def last(self) -> tuple[int, dict[str, int]]:
        """The highest number, and the highest of each owner."""

    async def trim(self, before: datetime, most: int) -> None:
        """Drops what is older, and all but the latest `most`; the very last stays, whose number counts on."""


class Records(Protocol):
    """Everything that outlives the process beside the sandboxes."""

    @property
    def renewals(self) -> RenewalRecords: ...

    @property
    def metadata(self) -> DocumentRecords: ...

    @property
    def limits(self) -> DocumentRecords: ...

    @property
    def failures(self) -> FailureRecords: ...

    @property
    def pending_deletes(self) -> PendingDeletes: ...

    @property
    def snapshots(self) -> SnapshotRecords: ...

    @property
    def idempotency(self) -> IdempotencyRecords: ...

    @property
    def events(self) -> EventRecords: ...

    async def close(self) -> None:
        """Finishes what was handed in; what comes later is refused. Closing again does nothing."""
