"""Events of sandboxes, bounded in number and age."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime

from manager.domain.events import Cause, LifecycleEvent
from manager.domain.sandbox import SandboxState
from manager.store.database import Database

_COLUMNS = "id, own, at, sandbox_id, owner, document"


class EventRecords:
    """Events by number."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, events: Sequence[LifecycleEvent]) -> None:
        """Keeps events with higher numbers than any before; on the disk when this returns. Raises Unavailable."""
        rows = [_encode(event) for event in events]

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(f"INSERT OR REPLACE INTO events ({_COLUMNS}) VALUES (?,?,?,?,?,?)", rows)

        await self._database.run(job)

    async def since(
        self, number: int, most: int, owner: str | None = None, sandbox_id: str | None = None
    ) -> list[LifecycleEvent]:
        """The first after `number`, oldest first; numbers are the owner's where one is given. Raises Unavailable."""
        count = "id" if owner is None else "own"
        conditions, values = [f"{count} > ?"], [number, *([owner] if owner is not None else [])]
        if owner is not None:
            conditions.append("owner = ?")
        if sandbox_id is not None:
            conditions.append("sandbox_id = ?")
            values.append(sandbox_id)
        query = f"SELECT {_COLUMNS} FROM events WHERE {' AND '.join(conditions)} ORDER BY id LIMIT ?"

        def job(connection: sqlite3.Connection) -> list[LifecycleEvent]:
            return [_decode(row) for row in connection.execute(query, (*values, most))]

        return await self._database.run(job)

    async def first(self, owner: str | None = None) -> int | None:
        """The lowest number that is kept; None where nothing is. Raises Unavailable."""

        def job(connection: sqlite3.Connection) -> int | None:
            if owner is None:
                row = connection.execute("SELECT MIN(id) FROM events").fetchone()
            else:
                row = connection.execute("SELECT MIN(own) FROM events WHERE owner = ?", (owner,)).fetchone()
            return None if row[0] is None else int(row[0])

        return await self._database.run(job)

    async def last(self) -> tuple[int, dict[str, int]]:
        """The highest number, and the highest of each owner. Raises Unavailable."""

        def job(connection: sqlite3.Connection) -> tuple[int, dict[str, int]]:
            own = dict(connection.execute("SELECT owner, MAX(own) FROM events GROUP BY owner").fetchall())
            return int(connection.execute("SELECT COALESCE(MAX(id), 0) FROM events").fetchone()[0]), own

        return await self._database.run(job)

    async def trim(self, before: datetime, most: int) -> None:
        """Drops what is older, and all but the latest `most`; the very last stays, whose number counts on.

        Raises Unavailable.
        """

        def job(connection: sqlite3.Connection) -> None:
            (last,) = connection.execute("SELECT COALESCE(MAX(id), 0) FROM events").fetchone()
            connection.execute("DELETE FROM events WHERE id <= ?", (last - most,))
            connection.execute("DELETE FROM events WHERE at < ? AND id < ?", (before.isoformat(), last))

        await self._database.run(job)


def _encode(event: LifecycleEvent) -> tuple[int | str, ...]:
    told = {
        "before": event.before and event.before.value,
        "after": event.after and event.after.value,
        "cause": event.cause.value,
        "message": event.message,
        "actor": event.actor,
        "request_id": event.request_id,
    }
    return event.id, event.own, event.at.isoformat(), event.sandbox_id, event.owner, json.dumps(told)


def _decode(row: tuple[int, int, str, str, str, str]) -> LifecycleEvent:
    number, own, at, sandbox_id, owner, text = row
    told = json.loads(text)
    return LifecycleEvent(
        id=number,
        own=own,
        at=datetime.fromisoformat(at),
        sandbox_id=sandbox_id,
        before=SandboxState(told["before"]) if told["before"] else None,
        after=SandboxState(told["after"]) if told["after"] else None,
        cause=Cause(told["cause"]),
        message=told["message"],
        actor=told["actor"],
        request_id=told["request_id"],
        owner=owner,
    )
