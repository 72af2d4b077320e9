"""The store's file: who may use it, and that one which does not work is one clear error."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
from pathlib import Path

import pytest

from manager.domain.errors import Unavailable
from manager.store import database
from manager.store.migrations import MIGRATIONS
from manager.store.store import Store


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
        store.pending_deletes.put("a"),
        store.database.run(broken),
        store.pending_deletes.put("b"),
        return_exceptions=True,
    )
    assert isinstance(results[1], ValueError)
    assert await store.pending_deletes.all() == {"a", "b"}
    await store.close()


async def test_a_locked_file_is_an_error_that_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process holds the file: Unavailable, and the store works again when it lets go."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    store = Store(tmp_path / "gateway.db")
    other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="another process has held it") as refused:
        await store.pending_deletes.put("a")
    assert refused.value.code == "SERVER::STORE_UNAVAILABLE"
    other.execute("ROLLBACK")
    other.close()
    await store.pending_deletes.put("a")
    assert await store.pending_deletes.all() == {"a"}
    await store.close()


async def test_a_full_disk_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    """SQLite's own page limit stands for the disk: nothing that was kept is lost."""
    store = Store(tmp_path / "gateway.db")
    await store.pending_deletes.put("kept")

    def limit(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await store.database.run(limit)
    with pytest.raises(Unavailable, match="free some space"):
        await store.metadata.put("big", {"k": "x" * 1_000_000})
    assert await store.pending_deletes.all() == {"kept"}
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


def test_a_file_in_no_directory_is_named_whole(tmp_path: Path) -> None:
    """The operator sees at start which path is meant, whatever directory the server runs in."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "below" / "gateway.db"

    with pytest.raises(Unavailable, match=f"the store {re.escape(str(path))} does not work"):
        Store(path)
