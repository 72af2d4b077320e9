"""Snapshot records: the index of what the runtime keeps as images."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime

from manager.domain.snapshot import Snapshot, SnapshotState
from manager.store.database import Database

_COLUMNS = "id, sandbox_id, name, state, reason, message, created_at, last_transition_at, image, owner"
_INSERT = f"INSERT OR {{}} INTO snapshots ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)"
_ADOPT = "INSERT OR IGNORE INTO adopted VALUES (?)"


class SnapshotRecords:
    """Snapshots by id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[Snapshot]:
        """Every snapshot, newest first. Raises Unavailable."""

        def job(connection: sqlite3.Connection) -> list[Snapshot]:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM snapshots ORDER BY created_at DESC, id DESC")
            return [_decode(row) for row in rows]

        return await self._database.run(job)

    async def put(self, snapshot: Snapshot) -> None:
        """Writes the record as a whole; on the disk when this returns. Raises Unavailable."""
        await self._database.write(_INSERT.format("REPLACE"), [_encode(snapshot)])

    async def adopt(self, found: Iterable[Snapshot]) -> list[Snapshot]:
        """Keeps those that were never taken over before, and returns them: one deleted since does not come back.

        Raises Unavailable.
        """
        snapshots = list(found)

        def job(connection: sqlite3.Connection) -> list[Snapshot]:
            fresh = [s for s in snapshots if connection.execute(_ADOPT, (s.id,)).rowcount]
            connection.executemany(_INSERT.format("IGNORE"), map(_encode, fresh))
            return fresh

        return await self._database.run(job)

    async def forget(self, snapshot_id: str) -> None:
        """Drops the record. Raises Unavailable."""
        await self._database.write("DELETE FROM snapshots WHERE id = ?", [(snapshot_id,)])


def _encode(snapshot: Snapshot) -> tuple[str | None, ...]:
    transition = snapshot.last_transition_at
    return (
        snapshot.id,
        snapshot.sandbox_id,
        snapshot.name,
        snapshot.state.value,
        snapshot.reason,
        snapshot.message,
        snapshot.created_at.isoformat(),
        transition.isoformat() if transition else None,
        snapshot.image,
        snapshot.owner,
    )


def _decode(row: tuple[str, ...]) -> Snapshot:
    id_, sandbox_id, name, state, reason, message, created, transition, image, owner = row
    return Snapshot(
        id=id_,
        sandbox_id=sandbox_id,
        name=name,
        state=SnapshotState(state),
        reason=reason,
        message=message,
        created_at=datetime.fromisoformat(created),
        last_transition_at=datetime.fromisoformat(transition) if transition else None,
        image=image,
        owner=owner,
    )
