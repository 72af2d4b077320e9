"""Limits that were changed after the create: the full set per sandbox, which replaces the one in the runtime."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping

from manager.store.database import Database


class ChangedLimits:
    """The limits of sandboxes whose limits were changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> dict[str, dict[str, str]]:
        """Every changed set of limits by sandbox id. Raises Unavailable."""

        def job(connection: sqlite3.Connection) -> dict[str, dict[str, str]]:
            return {row[0]: json.loads(row[1]) for row in connection.execute("SELECT * FROM limits")}

        return await self._database.run(job)

    async def put(self, sandbox_id: str, limits: Mapping[str, str]) -> None:
        """Keeps the limits as a whole; on the disk when this returns. Raises Unavailable."""
        await self._database.write(
            "INSERT OR REPLACE INTO limits VALUES (?, ?)", [(sandbox_id, json.dumps(dict(limits)))]
        )

    async def forget(self, sandbox_ids: Iterable[str]) -> None:
        """Drops what is kept for sandboxes that are gone. Raises Unavailable."""
        rows = [(sandbox_id,) for sandbox_id in sandbox_ids]
        await self._database.write("DELETE FROM limits WHERE sandbox_id = ?", rows)
