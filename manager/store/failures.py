"""Failed creations, kept for a while so that a request for the id gets the cause. Nothing else of them exists."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime

from manager.domain.records import Failure
from manager.domain.sandbox import Sandbox, SandboxState, SandboxStatus
from manager.store.database import Database


class Failures:
    """Failed creations by sandbox id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[Failure]:
        """Every failure that is kept. Raises Unavailable."""

        def job(connection: sqlite3.Connection) -> list[Failure]:
            rows = connection.execute("SELECT sandbox_id, until, document FROM failures")
            return [Failure(_decode(row[0], row[2]), datetime.fromisoformat(row[1])) for row in rows]

        return await self._database.run(job)

    async def put(self, failure: Failure) -> None:
        """Keeps the failure; on the disk when this returns. Raises Unavailable."""
        row = (failure.sandbox.id, failure.until.isoformat(), _encode(failure.sandbox))
        await self._database.write("INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", [row])

    async def forget(self, sandbox_ids: Iterable[str]) -> None:
        """Drops failures. Raises Unavailable."""
        rows = [(sandbox_id,) for sandbox_id in sandbox_ids]
        await self._database.write("DELETE FROM failures WHERE sandbox_id = ?", rows)


def _encode(sandbox: Sandbox) -> str:
    status = sandbox.status
    return json.dumps(
        {
            "reason": status.reason,
            "message": status.message,
            "at": status.last_transition_at.isoformat() if status.last_transition_at else None,
            "created": sandbox.created_at.isoformat(),
            "expires": sandbox.expires_at.isoformat() if sandbox.expires_at else None,
            "image": sandbox.image,
            "snapshot": sandbox.snapshot_id,
            "entrypoint": list(sandbox.entrypoint),
            "metadata": dict(sandbox.metadata),
            "extensions": dict(sandbox.extensions),
            "owner": sandbox.owner,
        }
    )


def _decode(sandbox_id: str, text: str) -> Sandbox:
    document = json.loads(text)
    return Sandbox(
        id=sandbox_id,
        uid="",
        status=SandboxStatus(
            SandboxState.FAILED, document["reason"], document["message"], _time_or_none(document["at"])
        ),
        created_at=datetime.fromisoformat(document["created"]),
        expires_at=_time_or_none(document["expires"]),
        manual_cleanup=document["expires"] is None,
        image=document["image"],
        snapshot_id=document["snapshot"],
        entrypoint=tuple(document["entrypoint"]),
        metadata=document["metadata"],
        extensions=document["extensions"],
        owner=document.get("owner", ""),
    )


def _time_or_none(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
