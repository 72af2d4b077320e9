"""Records in memory, for tests of services and API: what one server has kept, the next one of its folder finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from manager.domain.codes import STORE_UNAVAILABLE
from manager.domain.errors import Unavailable
from manager.domain.events import LifecycleEvent
from manager.domain.records import Failure, KeyRecord
from manager.domain.snapshot import Snapshot

K = TypeVar("K")
V = TypeVar("V")

_FOLDERS: dict[Path, dict[str, dict[object, object]]] = {}


class _Kept(Generic[K, V]):
    """One kind of record in a dict."""

    def __init__(self, records: FakeRecords, name: str) -> None:
        self._records = records
        self._rows: dict[K, V] = records.kept.setdefault(name, {})  # type: ignore[assignment]

    @property
    def rows(self) -> dict[K, V]:
        """The dict, unless the records are closed."""
        if self._records.closed:
            raise Unavailable(STORE_UNAVAILABLE, "the server is stopping and its records are closed")
        return self._rows

    async def forget(self, keys: Iterable[K]) -> None:
        for key in keys:
            self.rows.pop(key, None)


class FakeRenewals(_Kept[str, datetime]):
    """By sandbox id."""

    async def all(self) -> dict[str, datetime]:
        return dict(self.rows)

    async def put(self, sandbox_id: str, expires_at: datetime) -> None:
        self.rows[sandbox_id] = expires_at


class FakeDocuments(_Kept[str, dict[str, str]]):
    """By sandbox id."""

    async def all(self) -> dict[str, dict[str, str]]:
        return {sandbox_id: dict(document) for sandbox_id, document in self.rows.items()}

    async def put(self, sandbox_id: str, document: Mapping[str, str], /) -> None:
        self.rows[sandbox_id] = dict(document)


class FakeFailures(_Kept[str, Failure]):
    """By sandbox id."""

    async def all(self) -> list[Failure]:
        return list(self.rows.values())

    async def put(self, failure: Failure) -> None:
        self.rows[failure.sandbox.id] = failure


class FakePendingDeletes(_Kept[str, None]):
    """Sandbox ids."""

    async def all(self) -> set[str]:
        return set(self.rows)

    async def put(self, sandbox_id: str) -> None:
        self.rows[sandbox_id] = None

    async def forget(self, sandbox_id: str) -> None:  # type: ignore[override]
        self.rows.pop(sandbox_id, None)


class FakeSnapshots(_Kept[str, Snapshot]):
    """By snapshot id, with the ids that were ever adopted."""

    async def all(self) -> list[Snapshot]:
        return sorted(self.rows.values(), key=lambda item: (item.created_at, item.id), reverse=True)

    async def put(self, snapshot: Snapshot) -> None:
        self.rows[snapshot.id] = snapshot

    async def adopt(self, found: Iterable[Snapshot]) -> list[Snapshot]:
        adopted = self._records.kept.setdefault("adopted", {})
        fresh = [snapshot for snapshot in found if snapshot.id not in adopted]
        for snapshot in fresh:
            adopted[snapshot.id] = None
            self.rows.setdefault(snapshot.id, snapshot)
        return fresh

    async def forget(self, snapshot_id: str) -> None:  # type: ignore[override]
        self.rows.pop(snapshot_id, None)


class FakeIdempotency(_Kept[tuple[str, str], KeyRecord]):
    """By owner and key."""

    async def claim(self, record: KeyRecord, now: datetime) -> KeyRecord | None:
        for place in [place for place, held in self.rows.items() if held.until <= now]:
            del self.rows[place]
        held = self.rows.get((record.owner, record.key))
        if held is None:
            self.rows[record.owner, record.key] = record
        return held

    async def made(self, owner: str, key: str, sandbox_id: str) -> None:
        held = self.rows.get((owner, key))
        if held is not None and held.sandbox_id == sandbox_id:
            self.rows[owner, key] = replace(held, made=True)

    async def release(self, owner: str, key: str, sandbox_id: str) -> None:
        held = self.rows.get((owner, key))
        if held is not None and held.sandbox_id == sandbox_id:
            del self.rows[owner, key]


class FakeEvents(_Kept[int, LifecycleEvent]):
    """By number."""

    async def append(self, events: Sequence[LifecycleEvent]) -> None:
        self.rows.update({event.id: event for event in events})

    async def since(
        self, number: int, most: int, owner: str | None = None, sandbox_id: str | None = None
    ) -> list[LifecycleEvent]:
        found = [
            event
            for event in self.rows.values()
            if event.number(owner) > number and owner in (None, event.owner) and sandbox_id in (None, event.sandbox_id)
        ]
        return found[:most]

    async def first(self, owner: str | None = None) -> int | None:
        return min((event.number(owner) for event in self.rows.values() if owner in (None, event.owner)), default=None)

    async def last(self) -> tuple[int, dict[str, int]]:
        own: dict[str, int] = {}
        for event in self.rows.values():
            own[event.owner] = max(event.own, own.get(event.owner, 0))
        return max(self.rows, default=0), own

    async def trim(self, before: datetime, most: int) -> None:
        last = max(self.rows, default=0)
        for event in list(self.rows.values()):
            if event.id <= last - most or (event.at < before and event.id < last):
                del self.rows[event.id]


class FakeRecords:
    """Implements `manager.runtime.records.Records` without a file; `folder` stands for the place it would be in."""

    def __init__(self, folder: Path) -> None:
        self.kept = _FOLDERS.setdefault(folder, {})
        self.closed = False
        self.renewals = FakeRenewals(self, "renewals")
        self.metadata = FakeDocuments(self, "metadata")
        self.limits = FakeDocuments(self, "limits")
        self.failures = FakeFailures(self, "failures")
        self.pending_deletes = FakePendingDeletes(self, "pending deletes")
        self.snapshots = FakeSnapshots(self, "snapshots")
        self.idempotency = FakeIdempotency(self, "idempotency")
        self.events = FakeEvents(self, "events")

    async def close(self) -> None:
        self.closed = True
