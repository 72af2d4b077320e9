"""Which API key made which sandbox, so that limits per key hold across restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from manager.store.database import Database


class Owners:
    """Names of keys by sandbox id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> dict[str, str]:
        """Every owner by sandbox id. Raises Unavailable."""

        def job(connection: sqlite3.Connection) -> dict[str, str]:
            return dict(connection.execute("SELECT sandbox_id, owner FROM owners"))

        return await self._database.run(job)

    async def put(self, sandbox_id: str, owner: str) -> None:
        """Keeps the owner; on the disk when this returns. Raises Unavailable."""
        await self._database.write("INSERT OR REPLACE INTO owners VALUES (?, ?)", [(sandbox_id, owner)])

    async def forget(self, sandbox_ids: Iterable[str]) -> None:
        """Drops what is kept for sandboxes that are gone. Raises Unavailable."""
        rows = [(sandbox_id,) for sandbox_id in sandbox_ids]
        await self._database.write("DELETE FROM owners WHERE sandbox_id = ?", rows)
