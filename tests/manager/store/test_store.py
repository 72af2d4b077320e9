"""The store: what was put is there after it was closed; a file that does not work is one clear error."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from manager.domain.errors import Unavailable
from manager.domain.sandbox import Sandbox, SandboxState, SandboxStatus
from manager.domain.snapshot import Snapshot, SnapshotState
from manager.store import database
from manager.store.failures import Failure
from manager.store.idempotency import KeyRecord
from manager.store.migrations import MIGRATIONS
from manager.store.store import Store

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
    ),
    LATER,
)
SNAPSHOT = Snapshot("s", "box", NOW, SnapshotState.READY, "name", "reason", "message", LATER, "image:s")
KEY = KeyRecord("owner", "key", "digest", "box", LATER)


async def test_everything_survives_closing(tmp_path: Path) -> None:
    """Each kind of record reads back equal from a reopened file."""
    store = Store(tmp_path / "deep" / "gateway.db")
    await store.renewals.put("a", NOW)
    await store.metadata.put("a", {"k": "ü"})
    await store.failures.put(FAILURE)
    await store.doomed.put("d")
    await store.snapshots.put(SNAPSHOT)
    await store.close()
    store = Store(tmp_path / "deep" / "gateway.db")
    assert await store.renewals.all() == {"a": NOW}
    assert await store.metadata.all() == {"a": {"k": "ü"}}
    assert await store.failures.all() == [FAILURE]
    assert await store.doomed.all() == {"d"}
    assert await store.snapshots.all() == [SNAPSHOT]
    await store.close()


async def test_forgetting(tmp_path: Path) -> None:
    """What is forgotten is gone; forgetting what is not there is no error."""
    store = Store(tmp_path / "gateway.db")
    await store.renewals.put("a", NOW)
    await store.renewals.forget(["a", "b"])
    await store.metadata.forget(["b"])
    await store.snapshots.forget("b")
    assert await store.renewals.all() == {}
    await store.close()


async def test_an_idempotency_key_is_claimed_once(tmp_path: Path) -> None:
    """The second claim gets the first's record, until its time is over."""
    store = Store(tmp_path / "gateway.db")
    assert await store.idempotency.claim(KEY, NOW) is None
    held = await store.idempotency.claim(KEY, NOW)
    assert held is not None
    assert held.sandbox_id == "box"
    assert await store.idempotency.claim(KEY, LATER) is None
    await store.close()


async def test_the_file_is_private(tmp_path: Path) -> None:
    """Nobody else on the machine may read it."""
    store = Store(tmp_path / "gateway.db")
    assert stat.S_IMODE(os.stat(tmp_path / "gateway.db").st_mode) == 0o600
    await store.close()


async def test_a_failing_job_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    """Jobs that share a commit fail one by one."""
    store = Store(tmp_path / "gateway.db")

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO doomed VALUES ('half')")
        raise ValueError("a bug")

    results = await asyncio.gather(
        store.doomed.put("a"), store.database.run(broken), store.doomed.put("b"), return_exceptions=True
    )
    assert isinstance(results[1], ValueError)
    assert await store.doomed.all() == {"a", "b"}
    await store.close()


async def test_a_locked_file_is_an_error_that_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process holds the file: Unavailable, and the store works again when it lets go."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    store = Store(tmp_path / "gateway.db")
    other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="another process has held it") as refused:
        await store.doomed.put("a")
    assert refused.value.code == "SERVER::STORE_UNAVAILABLE"
    other.execute("ROLLBACK")
    other.close()
    await store.doomed.put("a")
    assert await store.doomed.all() == {"a"}
    await store.close()


async def test_a_full_disk_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    """SQLite's own page limit stands for the disk: nothing that was kept is lost."""
    store = Store(tmp_path / "gateway.db")
    await store.doomed.put("kept")

    def limit(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await store.database.run(limit)
    with pytest.raises(Unavailable, match="free some space"):
        await store.metadata.put("big", {"k": "x" * 1_000_000})
    assert await store.doomed.all() == {"kept"}
    await store.close()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """The directory is a file: one error that names the setting."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"store\.path"):
        Store(tmp_path / "file" / "gateway.db")


def test_what_is_no_database(tmp_path: Path) -> None:
    """A file of another kind is left alone."""
    (tmp_path / "gateway.db").write_text("hello" * 1000)
    with pytest.raises(Unavailable, match="move the file away"):
        Store(tmp_path / "gateway.db")
    assert (tmp_path / "gateway.db").read_text() == "hello" * 1000


async def test_a_file_of_a_newer_server_is_left_alone(tmp_path: Path) -> None:
    """A schema we do not know is refused, not migrated."""
    await Store(tmp_path / "gateway.db").close()
    connection = sqlite3.connect(tmp_path / "gateway.db")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(Unavailable, match="newer server"):
        Store(tmp_path / "gateway.db")


async def test_one_server_per_file(tmp_path: Path) -> None:
    """A second one is told to use another file, and may have this one when the first is done."""
    first = Store(tmp_path / "gateway.db")
    with pytest.raises(Unavailable, match=r"store\.path"):
        Store(tmp_path / "gateway.db")
    await first.close()
    await Store(tmp_path / "gateway.db").close()


def test_a_start_that_fails_leaves_the_file_free(tmp_path: Path) -> None:
    """Trying again says the same, not that the file is in use."""
    (tmp_path / "gateway.db").write_text("no database" * 1000)
    for _ in range(2):
        with pytest.raises(Unavailable, match="move the file away"):
            Store(tmp_path / "gateway.db")


async def test_a_closed_store(tmp_path: Path) -> None:
    """What comes after closing is refused, closing again is nothing."""
    store = Store(tmp_path / "gateway.db")
    await store.close()
    await store.close()
    with pytest.raises(Unavailable, match="stopping"):
        await store.doomed.all()
