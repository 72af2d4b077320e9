"""Creating a sandbox: admission, then the runtime, then the route; every failure leaves nothing but its record.

The work continues when the caller disconnects, since a half-made sandbox is of no use; its outcome is in the inventory.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import replace
from datetime import timedelta

from manager.domain.codes import DRAINING, Codes
from manager.domain.errors import Invalid, ManagerError, TooMany, Unavailable
from manager.domain.ids import new_id
from manager.domain.ownership import confined
from manager.domain.records import Failure
from manager.domain.request import CreateRequest
from manager.domain.sandbox import Sandbox, SandboxSpec, SandboxState, SandboxStatus
from manager.domain.volumes import check_strangers
from manager.runtime.base import Runtime
from manager.runtime.records import Records
from manager.services.admission import admit
from manager.services.capacity import Capacity
from manager.services.clock import Clock
from manager.services.counters import Tallies
from manager.services.idempotency import IdempotentCreates, KeyUse
from manager.services.inventory import Ending, Inventory
from manager.services.relist import relist
from manager.services.snapshots import Snapshots
from manager.services.tasks import Tasks
from manager.settings.exposure import is_open
from manager.settings.model import Settings

_logger = logging.getLogger(__name__)

_TOKEN_BYTES = 24


class Creation:
    """Makes sandboxes."""

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        records: Records,
        inventory: Inventory,
        snapshots: Snapshots,
        keys: IdempotentCreates,
        capacity: Capacity,
        tasks: Tasks,
        tallies: Tallies,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._records = records
        self._inventory = inventory
        self._snapshots = snapshots
        self._tasks = tasks
        self._clock = clock
        self._codes = Codes(runtime.name)
        self._keys = keys
        self._capacity = capacity
        self._tallies = tallies
        self._work: dict[str, asyncio.Task[Sandbox]] = {}
        self._expected: set[str] = set()
        self.for_strangers = is_open(settings)
        """Whether anybody may create: directories of the host have to be listed then."""
        self.draining = False
        """Set at shutdown: new creates are refused."""

    async def create(
        self, request: CreateRequest, key: KeyUse | None = None, caller: str = "", viewer: str | None = None
    ) -> Sandbox:
        """Creates and returns it once it runs and its route is live.

        With an idempotency key that was used before, returns the sandbox created then. Raises what `Runtime.create`
        does, Invalid, Conflict and TooMany. `caller` is the name of the API key, `viewer` too if its scope is "own".
        """
        pending = await self.begin(request, key, caller, viewer)
        work = self._work.get(pending.id)
        return pending if work is None else await asyncio.shield(work)

    async def begin(
        self,
        request: CreateRequest,
        key: KeyUse | None = None,
        caller: str = "",
        viewer: str | None = None,
        *,
        durable: bool = False,
    ) -> Sandbox:
        """Admits the request and starts the work; returns the sandbox as it is at the moment, Pending if it is new.

        `durable`: the id is returned before the work is done, so a failure record is stored first and survives a crash.
        """
        if self.draining:
            raise Unavailable(DRAINING, "the server is stopping; try again shortly", retry_after=5)
        admitted = confined(admit(request, self._settings, self._runtime, self._codes, self._clock()), viewer)
        if self.for_strangers and not self._settings.storage.allowed_host_paths:
            check_strangers(admitted.volumes)
        image = self._snapshots.image_of(request.snapshot_id, viewer) if request.snapshot_id else request.image
        spec = self._specify(admitted, image, caller, self._runtime.reserve(admitted.extensions) or new_id())
        self._runtime.check(spec)
        if self._capacity.limits(caller) and not self._inventory.in_sync:
            await relist(self._runtime, self._inventory)  # what is not known yet counts too
        earlier = None if key is None else await self._keys.claim(key, spec.id)
        if earlier is not None:
            return earlier
        await self._take_room(spec.id, caller, key)
        pending = _pending(spec)
        self._inventory.begin(pending)
        written = asyncio.Event()
        work = self._tasks.spawn(self._provision(spec, pending, key, written if durable else None), f"create {spec.id}")
        self._work[spec.id] = work
        work.add_done_callback(lambda _: self._work.pop(spec.id, None))
        if durable:
            await self._until_written(written, work)
        return pending

    async def _until_written(self, written: asyncio.Event, work: asyncio.Task[Sandbox]) -> None:
        """Waits until the failure record is stored; raises what kept it from being stored."""
        waiting = asyncio.ensure_future(written.wait())
        await asyncio.wait((waiting, work), return_when=asyncio.FIRST_COMPLETED)
        if not written.is_set():
            waiting.cancel()
            await work

    async def _take_room(self, sandbox_id: str, caller: str, key: KeyUse | None) -> None:
        try:
            self._capacity.check(caller)
        except TooMany:
            if key is not None:
                await self._keys.release(key, sandbox_id)
            raise

    async def _expect(self, pending: Sandbox) -> None:
        """Stores the failure record that holds if this process dies before the creation ends."""
        interrupted = ManagerError(self._codes.internal, "The server stopped while the sandbox was being created.")
        await self._records.failures.put(self._failure(pending, interrupted))
        self._expected.add(pending.id)

    def _failure(self, pending: Sandbox, error: ManagerError) -> Failure:
        now = self._clock()
        status = SandboxStatus(SandboxState.FAILED, "PROVISIONING_ERROR", error.message, now)
        until = now + timedelta(seconds=self._settings.runtime.pending_failure_ttl_seconds)
        return Failure(replace(pending, status=status, secure_token=None), until)

    def _specify(self, request: CreateRequest, image: str | None, owner: str, sandbox_id: str) -> SandboxSpec:
        now = self._clock()
        return SandboxSpec(
            id=sandbox_id,
            created_at=now,
            expires_at=None if request.timeout is None else now + timedelta(seconds=request.timeout),
            image=image,
            image_auth=request.image_auth,
            snapshot_id=request.snapshot_id,
            platform=request.platform,
            entrypoint=request.entrypoint,
            env=request.env,
            metadata=request.metadata,
            extensions=request.extensions,
            resource_limits=request.resource_limits,
            resource_requests=request.resource_requests,
            volumes=request.volumes,
            network_policy=request.network_policy,
            credential_proxy=request.credential_proxy,
            secure_token=secrets.token_urlsafe(_TOKEN_BYTES) if request.secure_access else None,
            secure_runtime=request.secure_runtime,
            owner=owner,
        )

    async def _provision(
        self, spec: SandboxSpec, pending: Sandbox, key: KeyUse | None, written: asyncio.Event | None
    ) -> Sandbox:
        began = time.monotonic()
        try:
            if written is not None:
                await self._expect(pending)
                written.set()
            sandbox = await self._runtime.create(spec, lambda message: self._inventory.progress(spec.id, message))
        except asyncio.CancelledError:
            self._inventory.abandoned(spec.id)
            raise
        except ManagerError as error:
            await self._record(pending, error, key)
            raise
        except Exception:
            unknown = ManagerError(self._codes.internal, "the server could not create the sandbox; its log says why")
            await self._record(pending, unknown, key)
            raise
        self._tallies.creates_ok += 1
        self._tallies.create_seconds += time.monotonic() - began
        if self._inventory.is_doomed(spec.id):
            await self._runtime.delete(spec.id)
            await self._end_doom(spec.id)
        else:
            self._inventory.created(sandbox)
            await self._forget_failure(spec.id)
            if key is not None:
                await self._keys.made(key, spec.id)
        return replace(sandbox, entrypoint=spec.entrypoint or sandbox.entrypoint)

    async def _record(self, pending: Sandbox, error: ManagerError, key: KeyUse | None) -> None:
        """Stores the record of a failed creation, except where the caller gets the error as the response.

        Its idempotency key is released: the caller may repeat the create.
        """
        self._tallies.creates_failed += 1
        if key is not None:
            await self._keys.release(key, pending.id)
        lifetime = self._settings.runtime.pending_failure_ttl_seconds
        if self._inventory.is_doomed(pending.id):
            await self._end_doom(pending.id)
            return
        if lifetime <= 0 or (isinstance(error, Invalid) and pending.id not in self._expected):
            self._inventory.abandoned(pending.id)
            await self._forget_failure(pending.id)
            return
        failure = self._failure(pending, error)
        self._expected.discard(pending.id)
        self._inventory.failed(failure)
        try:
            await self._records.failures.put(failure)
        except Unavailable as lost:
            _logger.warning("the failure of sandbox %s is remembered only until a restart: %s", pending.id, lost)

    async def _forget_failure(self, sandbox_id: str) -> None:
        """Deletes the record that `_expect` has stored."""
        if sandbox_id in self._expected:
            self._expected.discard(sandbox_id)
            try:
                await self._records.failures.forget([sandbox_id])
            except Unavailable as error:
                _logger.warning("the store still calls sandbox %s failed, which it is not: %s", sandbox_id, error)

    async def _end_doom(self, sandbox_id: str) -> None:
        """Ends the pending delete of a sandbox that was deleted during its creation."""
        self._inventory.abandoned(sandbox_id)
        self._inventory.removed(sandbox_id, Ending.DELETED)
        await self._records.pending_deletes.forget(sandbox_id)
        await self._forget_failure(sandbox_id)


def _pending(spec: SandboxSpec) -> Sandbox:
    return Sandbox(
        id=spec.id,
        uid="",
        status=SandboxStatus(
            SandboxState.PENDING, "SANDBOX_SCHEDULED", "The sandbox is being created.", spec.created_at
        ),
        created_at=spec.created_at,
        expires_at=spec.expires_at,
        manual_cleanup=spec.expires_at is None,
        image=None if spec.snapshot_id else spec.image,
        snapshot_id=spec.snapshot_id,
        platform=spec.platform,
        entrypoint=spec.entrypoint,
        metadata=spec.metadata,
        extensions=spec.extensions,
        secure_token=spec.secure_token,
        owner=spec.owner,
    )
