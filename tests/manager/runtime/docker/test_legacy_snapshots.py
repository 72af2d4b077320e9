"""Snapshots of an earlier server's index are taken over once, and its file stays as it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from manager.domain.errors import Unavailable
from manager.domain.snapshot import SnapshotState
from manager.runtime.docker.legacy_snapshots import earlier_snapshots
from manager.runtime.docker.runtime import DockerRuntime
from manager.store.store import Store
from tests.manager.fake_runtime import FakeRuntime
from tests.manager.harness import open_house, settings_of

SCHEMA = """CREATE TABLE snapshots (id TEXT PRIMARY KEY, source_sandbox_id TEXT NOT NULL, namespace TEXT DEFAULT NULL,
    name TEXT, description TEXT, restore_config TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, message TEXT,
    last_transition_at TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL)"""
AT = "2026-10-01T10:00:00.123456+00:00"
ROW = "INSERT INTO snapshots VALUES (?, 'box', NULL, 'n', NULL, ?, ?, 'r', 'm', ?, ?, ?)"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the index of an earlier server."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".opensandbox").mkdir()
    with sqlite3.connect(tmp_path / ".opensandbox" / "opensandbox.db") as connection:
        connection.execute(SCHEMA)
        connection.execute(ROW, ("s1", '{"image": "opensandbox-snapshots:s1"}', "Ready", AT, AT, AT))
        connection.execute(ROW, ("s2", "{}", "Failed", None, "2026-10-01T10:00:00", AT))
    connection.close()
    return tmp_path


def test_reading(home: Path) -> None:
    """States, times and images as they were; a time without zone is UTC."""
    first, second = sorted(earlier_snapshots(), key=lambda snapshot: snapshot.id)
    assert (first.state, first.image, first.created_at.isoformat()) == (
        SnapshotState.READY,
        "opensandbox-snapshots:s1",
        AT,
    )
    assert (second.state, second.image, second.last_transition_at) == (
        SnapshotState.FAILED,
        "opensandbox-snapshots:s2",
        None,
    )
    assert second.created_at.utcoffset() is not None


@pytest.mark.parametrize(
    ("adopts", "found"), [(False, []), (True, ["opensandbox-snapshots:s1", "opensandbox-snapshots:s2"])]
)
async def test_taking_over(home: Path, adopts: bool, found: list[str]) -> None:
    """Only where it is asked for; an image that is not named is the one this server would have made."""
    runtime = DockerRuntime(settings_of(docker={"adopt_unowned": adopts}))
    try:
        images = {snapshot.image for snapshot in await runtime.earlier_snapshots()}
        assert images == ({"opensandbox-snapshots:s1", "opensandbox-snapshots:s2"} if adopts else set())
    finally:
        await runtime.stop()


async def test_what_was_taken_over_is_not_taken_twice(home: Path) -> None:
    """The earlier index still names it at the next start; what was deleted meanwhile does not come back."""
    runtime = FakeRuntime()
    runtime.earlier = earlier_snapshots()
    async with open_house(home, runtime) as house:
        assert set(house.services.snapshots._known) == {"s1", "s2"}
        await house.services.snapshots.delete("s1")
    async with open_house(home, runtime) as house:
        assert set(house.services.snapshots._known) == {"s2"}


def test_its_index_is_not_taken_for_our_store(home: Path) -> None:
    """A store.path left over from that server's configuration is refused in words, and the file is left as it was."""
    place = home / ".opensandbox" / "opensandbox.db"
    before = place.read_bytes()
    with pytest.raises(Unavailable, match=r"another program.*set store\.path to another place"):
        Store(place)
    with sqlite3.connect(place) as connection:
        assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")] == [
            "snapshots"
        ]
    connection.close()
    assert len(place.read_bytes()) == len(before)


@pytest.mark.parametrize("content", ["", "no database", None])
def test_what_is_no_index(tmp_path: Path, content: str | None) -> None:
    """Nothing is taken over, nothing fails."""
    place = tmp_path / "x.db"
    if content is not None:
        place.write_text(content)
    assert earlier_snapshots(str(place)) == []
