"""Snapshots: file systems of sandboxes kept as images, their records, and the recovery of both after a crash.

A record is written before the work it describes, so that a crash leaves nothing unknown: a snapshot in creation is
looked up, a deletion is completed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from manager.domain import extensions
from manager.domain.codes import (
    INVALID_PARAMETER,
    SNAPSHOT_INVALID_RESTORE_CONFIG,
    SNAPSHOT_INVALID_SOURCE_STATE,
    SNAPSHOT_INVALID_STATE,
    SNAPSHOT_NOT_FOUND,
    SNAPSHOT_NOT_READY,
    SNAPSHOT_RUNTIME_PREFLIGHT_FAILED,
)
from manager.domain.errors import Conflict, Invalid, ManagerError, NotFound, TimedOut
from manager.domain.ids import new_id
from manager.domain.lifecycle import Event, IllegalMove, move
from manager.domain.ownership import sees
from manager.domain.snapshot import IllegalSnapshotMove, Snapshot, SnapshotState, check_move, left_out, with_left_out
from manager.runtime.base import Runtime
from manager.runtime.records import Records
from manager.services.clock import Clock
from manager.services.filters import Page, Paging, page_of
from manager.services.locks import KeyedLocks
from manager.services.sandboxes import Sandboxes
from manager.services.tasks import Tasks

_NOTHING: Mapping[str, str] = {}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SnapshotFilter:
    """What must match: source and name exactly, states are alternatives in any case."""

    sandbox_id: str | None = None
    name: str | None = None
    states: frozenset[str] = frozenset()
    viewer: str | None = None
    """The name of a key of scope "own"; None sees everything."""

    def matches(self, snapshot: Snapshot) -> bool:
        """Whether the snapshot belongs in the list."""
        return (
            self.sandbox_id in (None, snapshot.sandbox_id)
            and self.name in (None, snapshot.name)
            and sees(self.viewer, snapshot.owner)
            and (not self.states or snapshot.state.value.lower() in self.states)
        )


class Snapshots:
    """The operations of the API on snapshots."""

    def __init__(
        self, runtime: Runtime, records: Records, sandboxes: Sandboxes, locks: KeyedLocks, tasks: Tasks, clock: Clock
    ) -> None:
        self._runtime = runtime
        self._records = records
        self._sandboxes = sandboxes
        self._locks = locks
        self._tasks = tasks
        self._clock = clock
        self._known: dict[str, Snapshot] = {}
        self._making: set[str] = set()
        self._deletions = KeyedLocks()

    def load(self, snapshots: list[Snapshot]) -> None:
        """Loads the records at start."""
        self._known = {snapshot.id: snapshot for snapshot in snapshots}

    async def adopt(self, snapshots: Iterable[Snapshot]) -> None:
        """Takes over snapshots of an earlier server that were not taken over before. Raises Unavailable."""
        for taken in await self._records.snapshots.adopt(snapshots):
            self._known.setdefault(taken.id, taken)

    def get(self, snapshot_id: str, viewer: str | None = None) -> Snapshot:
        """The snapshot, as far as the viewer sees it; raises NotFound."""
        snapshot = self._known.get(snapshot_id)
        if snapshot is None or not sees(viewer, snapshot.owner):
            raise NotFound(SNAPSHOT_NOT_FOUND, f"Snapshot {snapshot_id[:64]} not found.")
        return snapshot

    def list(self, wanted: SnapshotFilter, paging: Paging) -> Page[Snapshot]:
        """One page of what matches, newest first."""
        newest = sorted(self._known.values(), key=lambda item: (item.created_at, item.id), reverse=True)
        return page_of(filter(wanted.matches, newest), paging)

    def image_of(self, snapshot_id: str, viewer: str | None = None) -> str:
        """The image to restore from; raises NotFound, Conflict while there is none."""
        snapshot = self.get(snapshot_id, viewer)
        if snapshot.state is not SnapshotState.READY:
            raise Conflict(SNAPSHOT_NOT_READY, f"Snapshot {snapshot_id} is {snapshot.state.value}, not Ready.")
        if not snapshot.image:
            raise Conflict(SNAPSHOT_INVALID_RESTORE_CONFIG, f"Snapshot {snapshot_id} has no image to restore from.")
        return snapshot.image

    async def create(
        self, sandbox_id: str, name: str | None, asked: Mapping[str, str] = _NOTHING, owner: str = ""
    ) -> Snapshot:
        """Starts a snapshot of a running sandbox. Raises NotFound, Conflict, Invalid, Unavailable.

        `asked` are the extensions of the request; those of the sandbox count where it says nothing. `owner` is the name
        of the API key.
        """
        problem = extensions.problem(asked)
        if problem is not None:
            raise Invalid(INVALID_PARAMETER, problem)
        sandbox = await self._sandboxes.get(sandbox_id)
        try:
            move(sandbox.status.state, Event.SNAPSHOT)
        except IllegalMove as error:
            raise Conflict(
                SNAPSHOT_INVALID_SOURCE_STATE,
                f"Snapshot can only be created from a Running sandbox. Sandbox {sandbox_id} is {error.state.value}.",
            ) from error
        lost = left_out(await self._runtime.check_snapshot(sandbox_id))
        if lost and extensions.strict_snapshots(asked, sandbox.extensions):
            raise Conflict(SNAPSHOT_RUNTIME_PREFLIGHT_FAILED, f"The snapshot would not keep everything. {lost}")
        now, snapshot_id = self._clock(), new_id()
        snapshot = Snapshot(
            id=snapshot_id,
            sandbox_id=sandbox_id,
            created_at=now,
            state=SnapshotState.CREATING,
            name=name,
            reason="snapshot_accepted",
            message=f"Snapshot creation accepted. {lost}".rstrip(),
            last_transition_at=now,
            image=self._runtime.snapshot_image(snapshot_id),
            owner=owner,
        )
        await self._records.snapshots.put(snapshot)
        self._known[snapshot_id] = snapshot
        self._making.add(snapshot_id)
        self._tasks.spawn(self._make(snapshot), f"snapshot {snapshot_id}")
        return snapshot

    async def delete(self, snapshot_id: str) -> None:
        """Removes the snapshot and its image. Raises NotFound, Conflict, Failed, Unavailable."""
        async with self._deletions.take(snapshot_id, "deletion"):
            snapshot = self.get(snapshot_id)
            try:
                check_move(snapshot.state, SnapshotState.DELETING)
            except IllegalSnapshotMove as error:
                raise Conflict(
                    SNAPSHOT_INVALID_STATE, f"Snapshot {snapshot_id} is {snapshot.state.value} and cannot be deleted."
                ) from error
            try:
                await self._write(snapshot, SnapshotState.DELETING, "snapshot_deleting", "Deletion is under way.")
                await self._runtime.delete_snapshot(snapshot.image)
            except ManagerError as error:
                state = SnapshotState.READY if snapshot.state is SnapshotState.DELETING else snapshot.state
                await self._write(snapshot, state, "snapshot_delete_failed", error.message)
                raise
            await self._records.snapshots.forget(snapshot_id)
            del self._known[snapshot_id]

    async def recover(self) -> None:
        """Finishes what an earlier process had begun; called when the runtime answers."""
        for snapshot in list(self._known.values()):
            try:
                await self._recover(snapshot)
            except ManagerError as error:
                _logger.warning("cannot put snapshot %s right yet: %s", snapshot.id, error.message)

    async def _recover(self, snapshot: Snapshot) -> None:
        if snapshot.state is SnapshotState.DELETING:
            await self.delete(snapshot.id)
        elif snapshot.state is SnapshotState.CREATING and snapshot.id not in self._making:
            if await self._runtime.has_snapshot(snapshot.image):
                await self._write(
                    snapshot, SnapshotState.READY, "snapshot_recovery_ready", "The snapshot was found after a restart."
                )
            else:
                await self._write(
                    snapshot,
                    SnapshotState.FAILED,
                    "snapshot_recovery_missing_image",
                    "The server stopped while the snapshot was being made.",
                )

    async def _make(self, snapshot: Snapshot) -> None:
        state, image = SnapshotState.FAILED, snapshot.image
        try:
            async with self._locks.take(snapshot.sandbox_id, Event.SNAPSHOT.value):
                image = await self._runtime.snapshot(snapshot.sandbox_id, snapshot.id)
            state, outcome = SnapshotState.READY, ("snapshot_runtime_ready", "Snapshot image created successfully.")
        except TimedOut as error:
            outcome = ("snapshot_runtime_timeout", error.message)
        except ManagerError as error:
            outcome = ("snapshot_runtime_failed", error.message)
        except Exception:
            _logger.exception("snapshot %s failed", snapshot.id)
            outcome = ("snapshot_runtime_failed", "The server could not make the snapshot; its log says why.")
        finally:
            self._making.discard(snapshot.id)
        await self._write(replace(snapshot, image=image), state, *outcome)

    async def _write(self, snapshot: Snapshot, state: SnapshotState, reason: str, message: str) -> None:
        """Moves the snapshot to `state`; raises IllegalSnapshotMove, which is a defect of ours."""
        check_move(self._known[snapshot.id].state, state)
        changes: Mapping[str, Any] = {
            "state": state,
            "reason": reason,
            "message": message if state is SnapshotState.FAILED else with_left_out(message, snapshot.message),
            "last_transition_at": self._clock(),
        }
        changed = replace(snapshot, **changes)
        self._known[snapshot.id] = changed
        await self._records.snapshots.put(changed)
