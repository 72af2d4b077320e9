"""A snapshot: the kept file system of a sandbox, from which another can be created. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Sequence
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


class IllegalSnapshotMove(Exception):
    """Raised when a snapshot cannot go from one state to another; names both."""

    def __init__(self, state: SnapshotState, following: SnapshotState) -> None:
        super().__init__(f"a snapshot that is {state.value} cannot become {following.value}")


def check_move(state: SnapshotState, following: SnapshotState) -> None:
    """Raises IllegalSnapshotMove when the table has no such move."""
    if following not in SNAPSHOT_MOVES[state]:
        raise IllegalSnapshotMove(state, following)


_LEFT_OUT = "Not in it is what volumes and mounts hold, at: "


def left_out(paths: Sequence[str]) -> str:
    """The suffix of a status message that lists the paths a snapshot does not keep; empty without any."""
    return f"{_LEFT_OUT}{', '.join(paths)}" if paths else ""


def with_left_out(message: str, earlier: str | None) -> str:
    """A message with the suffix of the earlier one, the paths that are not kept."""
    _, found, paths = (earlier or "").partition(_LEFT_OUT)
    return f"{message} {found}{paths}".rstrip()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot; `image` is what the runtime restores from, empty until it is ready.

    `owner` is the name of the API key it is made with, empty without one.
    """

    id: str
    sandbox_id: str
    created_at: datetime
    state: SnapshotState
    name: str | None = None
    reason: str | None = None
    message: str | None = None
    last_transition_at: datetime | None = None
    image: str = ""
    owner: str = ""
