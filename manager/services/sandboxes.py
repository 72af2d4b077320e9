"""Operations on sandboxes that exist: look, list, delete, renew, pause, resume, patch.

A deletion waits for the sandbox's lock; pause and resume are refused with the current state while it is held.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from manager.domain import labels
from manager.domain.codes import INVALID_METADATA_LABEL, Codes
from manager.domain.errors import Conflict, Gone, Invalid, NotFound, Unavailable
from manager.domain.events import Cause, Origin
from manager.domain.lifecycle import Event, IllegalMove, move
from manager.domain.ownership import sees
from manager.domain.sandbox import Sandbox, SandboxState, SandboxStatus
from manager.runtime.base import Runtime
from manager.runtime.records import Records
from manager.services.clock import Clock
from manager.services.counters import Tallies
from manager.services.filters import Page, Paging, SandboxFilter, page_in_slices
from manager.services.inventory import Ending, Inventory
from manager.services.limits import check_limits, limits_in
from manager.services.locks import KeyedLocks, LockHeld
from manager.services.origin import originating
from manager.services.relist import relist

_logger = logging.getLogger(__name__)


class Sandboxes:
    """The operations of the API on sandboxes."""

    def __init__(
        self,
        runtime: Runtime,
        records: Records,
        inventory: Inventory,
        locks: KeyedLocks,
        tallies: Tallies,
        clock: Clock,
        has_expired: Callable[[str, str | None], bool],
    ) -> None:
        """`has_expired` tells whether an id is remembered as that of a sandbox whose time was over."""
        self._runtime = runtime
        self._records = records
        self._inventory = inventory
        self._clock = clock
        self._codes = Codes(runtime.name)
        self._locks = locks
        self._tallies = tallies
        self._has_expired = has_expired
        # Expiry and metadata change in the store only, so they need not wait for a slow runtime.
        self._facts = KeyedLocks()

    async def get(self, sandbox_id: str, viewer: str | None = None) -> Sandbox:
        """The sandbox; from memory while events are live, else from the runtime.

        With a `viewer`, a key of scope "own", sandboxes of other keys do not exist. Raises NotFound (Gone for one that
        has expired), Unavailable.
        """
        if not self._inventory.in_sync and not self._is_ours_alone(sandbox_id, viewer):
            fresh = await self._runtime.get(sandbox_id)
            if fresh is None:
                self._inventory.report_gone(sandbox_id, Ending.VANISHED)
            else:
                self._inventory.report(fresh)
        sandbox = self._inventory.get(sandbox_id)
        if sandbox is None and self._has_expired(sandbox_id, viewer):
            message = f"Sandbox {sandbox_id} reached the end of its lifetime. Create a new one, with a longer timeout."
            raise Gone(self._codes.expired, message)
        if sandbox is None or not sees(viewer, sandbox.owner):
            raise NotFound(self._codes.not_found, f"Sandbox {sandbox_id[:64]} not found.")
        return sandbox

    async def list(self, wanted: SandboxFilter, paging: Paging, viewer: str | None = None) -> Page[Sandbox]:
        """One page of what matches and what the viewer sees, newest first. Raises Unavailable."""
        if not self._inventory.in_sync:
            await relist(self._runtime, self._inventory)
        anything = wanted.anything and viewer is None
        matches = None if anything else lambda sandbox: sees(viewer, sandbox.owner) and wanted.matches(sandbox)
        return await page_in_slices(self._inventory.ids_newest_first(), self._inventory.get, matches, paging)

    async def delete(self, sandbox_id: str) -> None:
        """Deletes it with everything that belongs to it; its route is gone when the deletion begins.

        Raises NotFound, Failed, Unavailable.
        """
        if self._inventory.is_creating(sandbox_id):
            await self._doom(sandbox_id)
            return
        async with self._locks.take(sandbox_id, Event.DELETE.value):
            sandbox = await self.get(sandbox_id)
            await self._end(sandbox, Ending.DELETED)

    async def expire(self, sandbox_id: str) -> None:
        """Deletes it if its time is over by now; nothing happens when it was renewed or is gone."""
        with originating(Origin(Cause.EXPIRY)):
            await self._expire(sandbox_id)

    async def _expire(self, sandbox_id: str) -> None:
        async with self._locks.take(sandbox_id, Event.DELETE.value):
            async with self._facts.take(sandbox_id, "expiry"):
                deadline, sandbox = self._inventory.deadline(sandbox_id), self._inventory.get(sandbox_id)
                if sandbox is None or deadline is None or deadline > self._clock():
                    return
                self._show_stopping(sandbox, Ending.EXPIRED)
            await self._end(sandbox, Ending.EXPIRED)

    async def pause(self, sandbox_id: str) -> None:
        """Pauses it. Raises NotFound, Conflict, Failed, Unavailable."""
        await self._operate(sandbox_id, Event.PAUSE, self._codes.not_running, self._runtime.pause)

    async def resume(self, sandbox_id: str) -> None:
        """Resumes it. Raises NotFound, Conflict, Failed, Unavailable."""
        await self._operate(sandbox_id, Event.RESUME, self._codes.not_paused, self._runtime.resume)

    async def renew(self, sandbox_id: str, expires_at: datetime) -> datetime:
        """Moves the expiry, later or earlier; kept on disk when this returns. Raises NotFound, Conflict, Invalid."""
        async with self._facts.take(sandbox_id, "renewal"):
            sandbox = await self.get(sandbox_id)
            code = self._codes.invalid_expiration
            if expires_at <= self._clock():
                raise Invalid(code, "New expiration time must be in the future.")
            if sandbox.status.state is SandboxState.STOPPING or self._inventory.is_failure(sandbox_id):
                raise Conflict(code, f"Sandbox {sandbox_id} is {sandbox.status.state.value} and cannot be renewed.")
            if sandbox.expires_at is None:
                raise Conflict(code, f"Sandbox {sandbox_id} does not have automatic expiration enabled.")
            await self._records.renewals.put(sandbox_id, expires_at)
            self._inventory.renew(sandbox_id, expires_at)
            self._tallies.renewals += 1
        return expires_at

    async def patch_metadata(self, sandbox_id: str, patch: Mapping[str, str | None]) -> Sandbox:
        """Merges the patch, None deleting a key; kept on disk when this returns. Raises NotFound, Invalid."""
        _check_patch(patch)
        async with self._facts.take(sandbox_id, "patch"):
            sandbox = await self.get(sandbox_id)
            merged = {**sandbox.metadata, **patch}
            metadata = {key: value for key, value in merged.items() if value is not None}
            if metadata == dict(sandbox.metadata):
                return sandbox
            _check_size(metadata)
            await self._records.metadata.put(sandbox_id, metadata)
            self._inventory.patch(sandbox_id, metadata)
            return await self.get(sandbox_id)

    async def patch_limits(self, sandbox_id: str, patch: Mapping[str, str | None]) -> Sandbox:
        """Merges the patch into its limits, None removing one; in force and on disk when this returns.

        Raises NotFound, Invalid.
        """
        async with self._facts.take(sandbox_id, "patch"):
            sandbox = await self.get(sandbox_id)
            merged = {**limits_in(sandbox.extensions), **patch}
            limits = {key: value for key, value in merged.items() if value is not None}
            check_limits(limits)
            await self._records.limits.put(sandbox_id, limits)
            self._inventory.limit(sandbox_id, limits)
            return await self.get(sandbox_id)

    # How operations are carried out

    async def _operate(
        self, sandbox_id: str, event: Event, code: str, action: Callable[[str], Awaitable[None]]
    ) -> None:
        """Runs the operation under its transitional state; refuses with `code` and the current state."""
        try:
            async with self._locks.try_acquire(sandbox_id, event.value):
                sandbox = await self.get(sandbox_id)
                await self._carry_out(sandbox_id, move(sandbox.status.state, event), action)
        except (LockHeld, IllegalMove) as error:
            state = (await self.get(sandbox_id)).status.state.value
            why = f"while {error}" if isinstance(error, LockHeld) else "in this state"
            raise Conflict(code, f"Sandbox {sandbox_id} is {state}: {event.value} is not possible {why}.") from error

    async def _carry_out(self, sandbox_id: str, state: SandboxState, action: Callable[[str], Awaitable[None]]) -> None:
        status = SandboxStatus(state, f"SANDBOX_{state.value.upper()}", None, self._clock())
        self._inventory.moving(sandbox_id, status)
        fresh: Sandbox | None = None
        try:
            await action(sandbox_id)
            fresh = await self._runtime.get(sandbox_id)
        finally:
            self._inventory.settle(sandbox_id, fresh)

    async def _end(self, sandbox: Sandbox, ending: Ending) -> None:
        if self._inventory.is_failure(sandbox.id):
            self._inventory.forget_failure(sandbox.id)
            await self._records.failures.forget([sandbox.id])
            return
        self._show_stopping(sandbox, ending)
        try:
            await self._runtime.delete(sandbox.id)
        except BaseException:
            self._inventory.settle(sandbox.id)
            raise
        self._inventory.removed(sandbox.id, ending)
        self._tallies.deletes += ending is Ending.DELETED
        self._tallies.expiries += ending is Ending.EXPIRED
        await self._forget(sandbox.id)

    def _show_stopping(self, sandbox: Sandbox, ending: Ending) -> None:
        if not self._inventory.is_failure(sandbox.id):
            word = "expired" if ending is Ending.EXPIRED else "deleted"
            state = move(sandbox.status.state, Event.DELETE)
            status = SandboxStatus(state, "SANDBOX_STOPPING", f"The sandbox is being {word}.", self._clock())
            self._inventory.moving(sandbox.id, status, ending)

    async def _doom(self, sandbox_id: str) -> None:
        if self._inventory.is_doomed(sandbox_id):
            raise NotFound(self._codes.not_found, f"Sandbox {sandbox_id[:64]} not found.")
        await self._records.pending_deletes.put(sandbox_id)
        self._inventory.doom(sandbox_id)

    async def _forget(self, sandbox_id: str) -> None:
        """Deletes the records of a removed sandbox; on failure the next reconcile deletes them.

        Most sandboxes have none, and each write would wait for the disk.
        """
        try:
            if self._inventory.has_facts(sandbox_id):
                await self._records.renewals.forget([sandbox_id])
                await self._records.metadata.forget([sandbox_id])
                await self._records.limits.forget([sandbox_id])
                self._inventory.forget_facts([sandbox_id])
        except Unavailable as error:
            _logger.warning("facts of deleted sandboxes stay in the store for now: %s", error.message)

    def _is_ours_alone(self, sandbox_id: str, viewer: str | None) -> bool:
        """Whether the runtime need not be asked; of what is another's it is, as of what never was."""
        known = self._inventory.is_creating(sandbox_id) or self._inventory.is_failure(sandbox_id)
        sandbox = self._inventory.get(sandbox_id)
        return known and (sandbox is None or sees(viewer, sandbox.owner))


def _check_size(metadata: Mapping[str, str]) -> None:
    problem = labels.size_problem(metadata)
    if problem is not None:
        raise Invalid(INVALID_METADATA_LABEL, problem)


def _check_patch(patch: Mapping[str, str | None]) -> None:
    for key, value in patch.items():
        if labels.is_reserved(key):
            raise Invalid(INVALID_METADATA_LABEL, f"Metadata key '{key[:80]}' is reserved (opensandbox.io/ prefix).")
        if value is None:
            continue
        problem = labels.first_problem({key: value})
        if problem is not None:
            raise Invalid(INVALID_METADATA_LABEL, problem)
