"""A snapshot: the kept file system of a sandbox, from which another can be created. No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime


class SnapshotState(enum.StrEnum):
    """States as the wire spells them."""

    CREATING = "Creating"
    READY = "Ready"
    FAILED = "Failed"
    DELETING = "Deleting"


SNAPSHOT_MOVES: dict[SnapshotState, frozenset[SnapshotState]] = {
    SnapshotState.CREATING: frozenset({SnapshotState.READY, SnapshotState.FAILED}),
    SnapshotState.READY: frozenset({SnapshotState.DELETING}),
    SnapshotState.FAILED: frozenset({SnapshotState.DELETING}),
    SnapshotState.DELETING: frozenset({SnapshotState.DELETING, SnapshotState.READY, SnapshotState.FAILED}),
}
"""Which state may follow which. What is being made cannot be deleted; a deletion that is refused leads back."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot; `image` is what the runtime restores from, empty until it is ready."""

    id: str
    sandbox_id: str
    created_at: datetime
    state: SnapshotState
    name: str | None = None
    reason: str | None = None
    message: str | None = None
    last_transition_at: datetime | None = None
    image: str = ""
