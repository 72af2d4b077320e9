"""Reconciles the inventory with the runtime: its events, and its list after every (re)connection.

A runtime's list can be older than what this server has done since: a sandbox that is missing from it is looked up once
more before it is removed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from manager.domain.errors import ManagerError
from manager.domain.sandbox import Sandbox
from manager.runtime.base import Appeared, Departed, Departure, OutOfSync, Runtime, RuntimeEvent, Synced
from manager.runtime.records import Records
from manager.services.inventory import Ending, Inventory
from manager.services.snapshots import Snapshots
from manager.services.tasks import Tasks

_logger = logging.getLogger(__name__)

SLICE = 50
"""Sandboxes of a list that are handled before control returns to the event loop."""

_ENDINGS = {Departure.DELETED: Ending.DELETED, Departure.VANISHED: Ending.VANISHED}


class Watch:
    """The sink of a runtime's events."""

    def __init__(
        self,
        runtime: Runtime,
        records: Records,
        inventory: Inventory,
        snapshots: Snapshots,
        tasks: Tasks,
        synced: Callable[[bool], None],
    ) -> None:
        self._runtime = runtime
        self._records = records
        self._inventory = inventory
        self._snapshots = snapshots
        self._tasks = tasks
        self._tell_synced = synced
        self.reason: str | None = "the runtime has not been reached yet"
        """Why the inventory may be stale; None while events are live."""
        self._lost_at: float | None = None
        self._taking: asyncio.Task[None] | None = None
        self._newer: set[str] = set()  # what events have told since the list that is being taken was made

    def on_event(self, event: RuntimeEvent) -> None:
        """Handles one event; called on the loop, in order."""
        if isinstance(event, Appeared):
            self._note(event.sandbox.id)
            self._inventory.report(event.sandbox)
        elif isinstance(event, Departed):
            self._note(event.sandbox_id)
            self._inventory.report_gone(event.sandbox_id, _ENDINGS[event.reason])
        elif isinstance(event, Synced):
            self._on_synced(event)
        elif isinstance(event, OutOfSync):
            self._stop_taking()
            self._set_synced(event.reason)
            _logger.warning("out of step with the runtime, trying again until it answers: %s", event.reason)

    def _on_synced(self, event: Synced) -> None:
        """Handles a short list at once, a long one in slices: thousands of sandboxes must not block the loop."""
        self._stop_taking()
        if len(event.sandboxes) <= SLICE:
            self._report(event.sandboxes)
            self._finish(event)
        else:
            self._taking = self._tasks.spawn(self._take(event), "take the runtime's list")

    async def _take(self, event: Synced) -> None:
        for start in range(0, len(event.sandboxes), SLICE):
            self._report(event.sandboxes[start : start + SLICE])
            await asyncio.sleep(0)
        self._finish(event)

    def _report(self, sandboxes: Sequence[Sandbox]) -> None:
        for sandbox in sandboxes:
            if sandbox.id not in self._newer:  # events after the list are newer
                self._inventory.report(sandbox)

    def _finish(self, event: Synced) -> None:
        self._taking = None
        self._newer.clear()
        missing = self._inventory.reported_ids() - {sandbox.id for sandbox in event.sandboxes}
        self._set_synced(None)
        _logger.info("in step with the runtime: %d sandboxes", len(event.sandboxes))
        self._tasks.spawn(self._reconcile(missing), "reconcile")

    def _note(self, sandbox_id: str) -> None:
        if self._taking is not None:
            self._newer.add(sandbox_id)

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
            self._newer.clear()

    def age(self) -> float:
        """For how many seconds the inventory may have been stale; 0 while events are live."""
        return 0.0 if self.reason is None or self._lost_at is None else time.monotonic() - self._lost_at

    def begin(self) -> None:
        """Called before the runtime's watcher starts."""
        self._lost_at = time.monotonic()

    def _set_synced(self, reason: str | None) -> None:
        if reason is not None and self.reason is None:
            self._lost_at = time.monotonic()
        self.reason = reason
        self._inventory.in_sync = reason is None
        self._tell_synced(reason is None)

    async def _reconcile(self, missing: set[str]) -> None:
        for sandbox_id in missing:
            await self._look_again(sandbox_id)
        for sandbox_id in self._inventory.doomed_ids():
            if not self._inventory.is_creating(sandbox_id):
                await self._delete_doomed(sandbox_id)
        disproved = self._inventory.disproved_failures()
        if disproved:
            await self._records.failures.forget(disproved)
            for sandbox_id in disproved:
                self._inventory.forget_failure(sandbox_id)
        await self._snapshots.recover()
        stale = self._inventory.stale_facts()
        if stale:
            await self._records.renewals.forget(stale)
            await self._records.metadata.forget(stale)
            await self._records.limits.forget(stale)
            self._inventory.forget_facts(stale)

    async def _look_again(self, sandbox_id: str) -> None:
        try:
            sandbox = await self._runtime.get(sandbox_id)
        except ManagerError as error:
            _logger.warning("cannot tell whether sandbox %s still exists: %s", sandbox_id, error.message)
            return
        if sandbox is None:
            self._inventory.report_gone(sandbox_id, Ending.VANISHED)

    async def _delete_doomed(self, sandbox_id: str) -> None:
        try:
            await self._runtime.delete(sandbox_id)
            await self._records.pending_deletes.forget(sandbox_id)
        except ManagerError as error:
            _logger.warning("deferred delete of sandbox %s failed, will retry: %s", sandbox_id, error.message)
            return
        self._inventory.removed(sandbox_id, Ending.DELETED)
