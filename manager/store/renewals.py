"""Renewed expiries: the one fact about time that a runtime cannot keep, since its labels are fixed at create."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime

from manager.store.database import Database


class Renewals:
    """When a sandbox expires, for those that were renewed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> dict[str, datetime]:
        """Every renewed expiry by sandbox id. Raises Unavailable."""

        def job(connection: sqlite3.Connection) -> dict[str, datetime]:
            rows = connection.execute("SELECT sandbox_id, expires_at FROM renewals")
            return {sandbox_id: datetime.fromisoformat(text) for sandbox_id, text in rows}

        return await self._database.run(job)

    async def put(self, sandbox_id: str, expires_at: datetime) -> None:
        """Keeps the expiry; on the disk when this returns. Raises Unavailable."""
        row = (sandbox_id, expires_at.isoformat())
        await self._database.write("INSERT OR REPLACE INTO renewals VALUES (?, ?)", [row])

    async def forget(self, sandbox_ids: Iterable[str]) -> None:
        """Drops what is kept for sandboxes that are gone. Raises Unavailable."""
        rows = [(sandbox_id,) for sandbox_id in sandbox_ids]
        await self._database.write("DELETE FROM renewals WHERE sandbox_id = ?", rows)
