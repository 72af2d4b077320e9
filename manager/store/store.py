"""The records of `manager.runtime.records` in one SQLite file: an open database and a keeper for each kind."""

from __future__ import annotations

from pathlib import Path

from manager.store.database import Database
from manager.store.events import EventRecords
from manager.store.failures import Failures
from manager.store.idempotency import IdempotencyKeys
from manager.store.limits import ChangedLimits
from manager.store.metadata import PatchedMetadata
from manager.store.pending_deletes import PendingDeletes
from manager.store.renewals import Renewals
from manager.store.snapshots import SnapshotRecords


class Store:
    """Implements `manager.runtime.records.Records`: everything that the Docker Engine cannot keep."""

    def __init__(self, path: Path) -> None:
        """Opens the file, creating it with its directory; raises Unavailable, naming the remedy."""
        self.database = Database(path)
        self.renewals = Renewals(self.database)
        self.metadata = PatchedMetadata(self.database)
        self.failures = Failures(self.database)
        self.pending_deletes = PendingDeletes(self.database)
        self.limits = ChangedLimits(self.database)
        self.snapshots = SnapshotRecords(self.database)
        self.idempotency = IdempotencyKeys(self.database)
        self.events = EventRecords(self.database)

    async def close(self) -> None:
        """Finishes what was handed in and closes the file."""
        await self.database.close()
