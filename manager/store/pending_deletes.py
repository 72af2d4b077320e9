"""Pending deletes: sandboxes deleted during their creation, whose containers are removed as soon as they appear."""

from __future__ import annotations

import sqlite3

from manager.store.database import Database


class PendingDeletes:
    """Ids that must not outlive their creation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> set[str]:
        """Every doomed id. Raises Unavailable."""

        def job(connection: sqlite3.Connection) -> set[str]:
            return {row[0] for row in connection.execute("SELECT sandbox_id FROM doomed")}

        return await self._database.run(job)

    async def put(self, sandbox_id: str) -> None:
        """Dooms the id; on the disk when this returns. Raises Unavailable."""
        await self._database.write("INSERT OR IGNORE INTO doomed VALUES (?)", [(sandbox_id,)])

    async def forget(self, sandbox_id: str) -> None:
        """The id is gone. Raises Unavailable."""
        await self._database.write("DELETE FROM doomed WHERE sandbox_id = ?", [(sandbox_id,)])
