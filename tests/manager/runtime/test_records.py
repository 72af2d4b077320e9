"""What every implementation of `Records` promises: one suite for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from manager.domain.errors import Unavailable
from manager.domain.events import Cause, LifecycleEvent
from manager.domain.records import Failure, KeyRecord
from manager.domain.sandbox import Sandbox, SandboxState, SandboxStatus
from manager.domain.snapshot import Snapshot, SnapshotState
from manager.runtime.records import Records
from manager.store.store import Store
from tests.manager.fake_records import FakeRecords

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = datetime(2026, 6, 1, 13, tzinfo=UTC)
FAILURE = Failure(
    Sandbox(
        id="f",
        uid="",
        status=SandboxStatus(SandboxState.FAILED, "PROVISIONING_ERROR", "no such image", NOW),
        created_at=NOW,
        image="image:1",
        entrypoint=("a", "b"),
        metadata={"k": "v"},
        extensions={"e": "1"},
        manual_cleanup=True,
        owner="alice",
    ),
    LATER,
)
SNAPSHOT = Snapshot("s", "box", NOW, SnapshotState.READY, "name", "reason", "message", LATER, "image:s", "alice")
KEY = KeyRecord("owner", "key", "digest", "box", LATER)

Open = Callable[[], Records]
"""Opens the records of this test; again, after closing, it is a restart."""


def in_sqlite(folder: Path) -> Records:
    """As beside Docker."""
    return Store(folder / "deep" / "gateway.db")


def in_memory(folder: Path) -> Records:
    """As in the tests of the services."""
    return FakeRecords(folder)


@pytest.fixture(params=[in_sqlite, in_memory])
def open_records(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return lambda: request.param(tmp_path)


async def test_everything_survives_closing(open_records: Open) -> None:
    """Each kind of record reads back equal after a restart."""
    records = open_records()
    await records.renewals.put("a", NOW)
    await records.metadata.put("a", {"k": "ü"})
    await records.limits.put("a", {"l": "1"})
    await records.failures.put(FAILURE)
    await records.pending_deletes.put("d")
    await records.snapshots.put(SNAPSHOT)
    await records.close()
    records = open_records()
    assert await records.renewals.all() == {"a": NOW}
    assert await records.metadata.all() == {"a": {"k": "ü"}}
    assert await records.limits.all() == {"a": {"l": "1"}}
    assert await records.failures.all() == [FAILURE]
    assert await records.pending_deletes.all() == {"d"}
    assert await records.snapshots.all() == [SNAPSHOT]
    await records.close()


EVENT = LifecycleEvent(
    1, 1, NOW, "box", SandboxState.RUNNING, None, Cause.REMOVED_OUTSIDE, "gone", "alice", "request", "alice"
)


def event(number: int, owner: str = "alice", own: int = 1, at: datetime = NOW) -> LifecycleEvent:
    return replace(EVENT, id=number, own=own, owner=owner, at=at, sandbox_id=f"box-{owner}", before=None)


async def test_events_are_read_by_number(open_records: Open) -> None:
    """From a number on, of all or of one owner by its own numbers, of one sandbox, and after a restart."""
    records = open_records()
    assert (await records.events.last(), await records.events.first()) == ((0, {}), None)
    kept = [EVENT, event(2, "bob", 1), event(3, own=2), event(4, "bob", 2)]
    await records.events.append(kept[:2])
    await records.events.append(kept[2:])
    await records.close()
    records = open_records()
    assert await records.events.since(0, 9) == kept
    assert await records.events.since(1, 2) == kept[1:3]
    assert await records.events.since(1, 9, "bob") == kept[3:]
    assert await records.events.since(0, 9, None, "box-alice") == kept[2:3]
    assert await records.events.since(0, 9, "bob", "box-alice") == []
    assert await records.events.last() == (4, {"alice": 2, "bob": 2})
    assert [await records.events.first(owner) for owner in (None, "bob", "carol")] == [1, 1, None]
    await records.close()


async def test_events_are_bounded(open_records: Open) -> None:
    """In number and in age; the last stays, so that numbers go on."""
    records = open_records()
    await records.events.append([event(number, own=number) for number in range(1, 6)])
    await records.events.trim(NOW, 3)
    assert [item.id for item in await records.events.since(0, 9)] == [3, 4, 5]
    await records.events.trim(LATER, 3)
    assert [item.id for item in await records.events.since(0, 9)] == [5]
    await records.close()


async def test_forgetting(open_records: Open) -> None:
    """What is forgotten is gone; forgetting what is not there is no error."""
    records = open_records()
    await records.renewals.put("a", NOW)
    await records.metadata.put("a", {"k": "v"})
    await records.limits.put("a", {"l": "1"})
    await records.failures.put(FAILURE)
    await records.pending_deletes.put("a")
    await records.snapshots.put(SNAPSHOT)
    for kept in (records.renewals, records.metadata, records.limits):
        await kept.forget(["a", "b"])
        assert await kept.all() == {}
    await records.failures.forget([FAILURE.sandbox.id, "b"])
    assert await records.failures.all() == []
    for sandbox_id in ("a", "b"):
        await records.pending_deletes.forget(sandbox_id)
    assert await records.pending_deletes.all() == set()
    for snapshot_id in (SNAPSHOT.id, "b"):
        await records.snapshots.forget(snapshot_id)
    assert await records.snapshots.all() == []
    await records.close()


async def test_what_is_put_again_replaces(open_records: Open) -> None:
    """There is one record per id, the latest as a whole."""
    records = open_records()
    for at, document in ((NOW, {"a": "1", "b": "2"}), (LATER, {"a": "3"})):
        await records.renewals.put("a", at)
        await records.metadata.put("a", document)
    for state in (SnapshotState.CREATING, SnapshotState.READY):
        await records.snapshots.put(replace(SNAPSHOT, state=state))
    for _ in range(2):
        await records.pending_deletes.put("a")
    await records.failures.put(FAILURE)
    await records.failures.put(replace(FAILURE, until=NOW))
    assert await records.renewals.all() == {"a": LATER}
    assert await records.metadata.all() == {"a": {"a": "3"}}
    assert await records.snapshots.all() == [SNAPSHOT]
    assert await records.pending_deletes.all() == {"a"}
    assert await records.failures.all() == [replace(FAILURE, until=NOW)]
    await records.close()


async def test_what_was_put_is_a_copy(open_records: Open) -> None:
    """Changing a document afterwards changes no record."""
    records = open_records()
    document = {"a": "1"}
    await records.metadata.put("a", document)
    document["a"] = "2"
    (await records.metadata.all())["a"]["a"] = "3"
    assert await records.metadata.all() == {"a": {"a": "1"}}
    await records.close()


async def test_snapshots_come_newest_first(open_records: Open) -> None:
    """Of the same moment, the greater id first."""
    records = open_records()
    for snapshot_id, at in (("b", NOW), ("c", LATER), ("a", NOW)):
        await records.snapshots.put(replace(SNAPSHOT, id=snapshot_id, created_at=at))
    assert [snapshot.id for snapshot in await records.snapshots.all()] == ["c", "b", "a"]
    await records.close()


async def test_a_snapshot_is_adopted_once(open_records: Open) -> None:
    """One that was deleted since does not come back, also after a restart; one of ours stays as it is."""
    records = open_records()
    await records.snapshots.put(replace(SNAPSHOT, name="ours"))
    other = replace(SNAPSHOT, id="t")
    assert {snapshot.id for snapshot in await records.snapshots.adopt([SNAPSHOT, other])} == {"s", "t"}
    assert {snapshot.name for snapshot in await records.snapshots.all()} == {"ours", "name"}
    await records.snapshots.forget("t")
    await records.close()
    records = open_records()
    assert await records.snapshots.adopt([other]) == []
    assert [snapshot.id for snapshot in await records.snapshots.all()] == ["s"]
    await records.close()


async def test_an_idempotency_key_is_claimed_once(open_records: Open) -> None:
    """The second claim gets the first's record, until its time is over."""
    records = open_records()
    assert await records.idempotency.claim(KEY, NOW) is None
    assert await records.idempotency.claim(replace(KEY, sandbox_id="other"), NOW) == KEY
    assert await records.idempotency.claim(replace(KEY, owner="other"), NOW) is None
    assert await records.idempotency.claim(KEY, LATER) is None
    await records.close()


async def test_a_key_belongs_to_one_sandbox(open_records: Open) -> None:
    """What another's create tells of it changes nothing."""
    records = open_records()
    await records.idempotency.claim(KEY, NOW)
    await records.idempotency.made("owner", "key", "other")
    await records.idempotency.release("owner", "key", "other")
    assert await records.idempotency.claim(KEY, NOW) == KEY
    await records.idempotency.made("owner", "key", "box")
    assert await records.idempotency.claim(KEY, NOW) == replace(KEY, made=True)
    await records.idempotency.release("owner", "key", "box")
    assert await records.idempotency.claim(KEY, NOW) is None
    await records.close()


async def test_closed_records(open_records: Open) -> None:
    """What comes after closing is refused, closing again is nothing."""
    records = open_records()
    await records.close()
    await records.close()
    with pytest.raises(Unavailable, match="stopping"):
        await records.pending_deletes.all()
