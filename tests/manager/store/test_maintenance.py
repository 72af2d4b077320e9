"""Copies of the store: made of an open one, checked, put back, also across an older schema."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from manager.domain.errors import Unavailable
from manager.store import maintenance
from manager.store.migrations import MIGRATIONS
from manager.store.store import Store

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def of_schema(path: Path, version: int) -> None:
    """A store as an earlier server has left it."""
    connection = sqlite3.connect(path)
    for statement in (statement for step in MIGRATIONS[:version] for statement in step):
        connection.execute(statement)
    connection.execute("INSERT INTO renewals VALUES ('old', ?)", (NOW.isoformat(),))
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()


async def test_an_open_store_is_copied_and_put_back(tmp_path: Path) -> None:
    """The copy is of one moment, private and in one file; what the store had become since is kept beside it."""
    path, copy = tmp_path / "gateway.db", tmp_path / "copies" / "monday.db"
    store = Store(path)
    await store.renewals.put("before", NOW)
    await asyncio.to_thread(maintenance.backup, path, copy)
    await store.renewals.put("after", NOW)
    with pytest.raises(Unavailable, match="in use by another server"):
        await asyncio.to_thread(maintenance.restore, copy, path)
    await store.close()

    assert [entry.name for entry in copy.parent.iterdir()] == ["monday.db"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    former = await asyncio.to_thread(maintenance.restore, copy, path)
    store = Store(path)
    assert await store.renewals.all() == {"before": NOW}
    await store.close()
    assert former is not None
    store = Store(former)
    assert set(await store.renewals.all()) == {"before", "after"}
    await store.close()


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_a_copy_of_an_older_schema_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    """By the start after it was put back, where no store was before."""
    of_schema(tmp_path / "old.db", version)
    assert maintenance.schema(tmp_path / "old.db") == (version, len(MIGRATIONS))
    assert maintenance.check(tmp_path / "old.db") == []
    assert await asyncio.to_thread(maintenance.restore, tmp_path / "old.db", tmp_path / "new" / "gateway.db") is None
    store = Store(tmp_path / "new" / "gateway.db")
    assert await store.renewals.all() == {"old": NOW}
    await store.close()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    """With the reason, and nothing is changed."""
    (tmp_path / "text").write_text("not a database, but long enough to look at its first bytes" * 9)
    of_schema(tmp_path / "newer", len(MIGRATIONS))
    of_schema(tmp_path / "foreign", len(MIGRATIONS))
    for name, version in (("newer", len(MIGRATIONS) + 1), ("foreign", 0)):
        connection = sqlite3.connect(tmp_path / name)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
    reasons = {"text": "not a database", "none": "no such file", "newer": "newer server", "foreign": "another program"}
    for name, reason in reasons.items():
        (problem,) = maintenance.check(tmp_path / name)
        assert reason in problem
        with pytest.raises(Unavailable, match=reason):
            maintenance.restore(tmp_path / name, tmp_path / "gateway.db")
    assert not (tmp_path / "gateway.db").exists()


def test_a_copy_never_replaces_another(tmp_path: Path) -> None:
    """Nor is a half one left where it cannot be made."""
    of_schema(tmp_path / "gateway.db", 1)
    (tmp_path / "copy").write_text("mine")
    with pytest.raises(FileExistsError):
        maintenance.backup(tmp_path / "gateway.db", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "mine"
    with pytest.raises(sqlite3.Error):
        maintenance.backup(tmp_path / "none", tmp_path / "other")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy", "gateway.db"]
