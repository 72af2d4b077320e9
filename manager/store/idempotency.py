"""Idempotency keys of creates: which sandbox a key stands for. Outlives a restart."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from manager.domain.records import KeyRecord
from manager.store.database import Database

_HELD = "WHERE owner = ? AND key = ? AND sandbox_id = ?"


class IdempotencyKeys:
    """Used keys by owner (the name of the API key) and key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, record: KeyRecord, now: datetime) -> KeyRecord | None:
        """Takes the key, or returns the record that has it already; keys past their time are free again."""

        def job(connection: sqlite3.Connection) -> KeyRecord | None:
            connection.execute("DELETE FROM idempotency WHERE until <= ?", (now.isoformat(),))
            row = connection.execute(
                "SELECT owner, key, request, sandbox_id, until, made FROM idempotency WHERE owner = ? AND key = ?",
                (record.owner, record.key),
            ).fetchone()
            if row is not None:
                return KeyRecord(row[0], row[1], row[2], row[3], datetime.fromisoformat(row[4]), bool(row[5]))
            connection.execute(
                "INSERT INTO idempotency (owner, key, request, sandbox_id, until) VALUES (?,?,?,?,?)",
                (record.owner, record.key, record.request, record.sandbox_id, record.until.isoformat()),
            )
            return None

        return await self._database.run(job)

    async def made(self, owner: str, key: str, sandbox_id: str) -> None:
        """The sandbox of this key has come to exist. Raises Unavailable."""
        await self._database.write(f"UPDATE idempotency SET made = '1' {_HELD}", [(owner, key, sandbox_id)])

    async def release(self, owner: str, key: str, sandbox_id: str) -> None:
        """Frees the key of a create that did not come about, unless another has taken it since. Raises Unavailable."""
        await self._database.write(f"DELETE FROM idempotency {_HELD}", [(owner, key, sandbox_id)])
