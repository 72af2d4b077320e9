"""Sandboxes as containers of a Docker Engine: the parts of this package put together as a Runtime."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from manager.domain import errors
from manager.domain.codes import INVALID_PARAMETER
from manager.domain.sandbox import RegistryAuth, Sandbox, SandboxSpec
from manager.domain.snapshot import Snapshot
from manager.runtime.base import EventNumbers, EventSink, Feature, LogQuery, Output, Progress
from manager.runtime.docker.buckets import Buckets
from manager.runtime.docker.callers import Callers, addresses_of_host, gateways_with_sandboxes
from manager.runtime.docker.codes import SANDBOX_DELETE_FAILED, SANDBOX_NOT_FOUND, SANDBOX_START_FAILED
from manager.runtime.docker.container_cache import ContainerCache
from manager.runtime.docker.container_defaults import profile
from manager.runtime.docker.create import Creation, Tools, check
from manager.runtime.docker.egress import Egress
from manager.runtime.docker.engine.client import Calls, Json
from manager.runtime.docker.engine.connection import Engine
from manager.runtime.docker.error_mapping import query_error
from manager.runtime.docker.events import Watch
from manager.runtime.docker.execd import Execd
from manager.runtime.docker.garbage import GRACE, GarbageCollector, repeat_until_settled
from manager.runtime.docker.host.own_container import own_container
from manager.runtime.docker.host.path_policy import host_rules
from manager.runtime.docker.host.topology import (
    GatewayReachable,
    find_place,
    is_ours,
    separate_network_namespace,
    topology,
)
from manager.runtime.docker.host_port import HostPort
from manager.runtime.docker.images import Images
from manager.runtime.docker.legacy import Legacy
from manager.runtime.docker.legacy_snapshots import earlier_snapshots
from manager.runtime.docker.limits import Holding, check_held, holding
from manager.runtime.docker.networks import Networks
from manager.runtime.docker.pause import Freezer
from manager.runtime.docker.pools import Pools
from manager.runtime.docker.ports import Ports, probe_here, probe_there
from manager.runtime.docker.redaction import masked
from manager.runtime.docker.requirements import Missing, lacking
from manager.runtime.docker.resolvers import resolvers_for
from manager.runtime.docker.snapshots import Snapshots, check_runtime, image_of, mounted_over
from manager.runtime.docker.status import LOOPBACK, network_owner
from manager.runtime.docker.volumes import Volumes
from manager.settings.model import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

NOT_ALONE = (
    "secureAccess: this server reaches sandboxes only through published ports, which others reach too and without a "
    "credential; it needs a server on the network of the Engine's host."
)
STOP_GRACE = 10.0
"""Seconds that `stop` waits for creates and deletes in progress."""


class DockerRuntime:
    """Implements `manager.runtime.base.Runtime`."""

    name = "docker"
    features: frozenset[Feature] = frozenset()
    numbers: EventNumbers | None = None

    def __init__(self, settings: Settings, *, config: Path | None = None, leftover_grace: float = GRACE) -> None:
        """No I/O to the Engine; `config` is the configuration file, which no sandbox may mount.

        Raises Invalid when the configured seccomp profile cannot be read.
        """
        docker = settings.docker
        environment = {**os.environ, "DOCKER_HOST": docker.host} if docker.host else dict(os.environ)
        threads = settings.server.thread_pool_size
        self._engine = Engine(environment, timeout=docker.api_timeout, silence=docker.pull_timeout, threads=threads)
        self._calls = Calls(self._engine)
        self._profile = profile(settings)
        instance = self._profile.instance
        self._reach = GatewayReachable()
        remote, internal = self._engine.address.remote_host, settings.proxy.resolve_internal
        self._topology = topology(remote, docker.host_ip, find_place(), self._reach, internal=internal)
        view = self._topology.sight
        legacy = Legacy(Path("~/.opensandbox").expanduser()) if docker.adopt_unowned else None
        self._adopts = docker.adopt_unowned
        self._cache = ContainerCache(self._calls, instance, legacy, view)
        registries = {
            host: RegistryAuth(entry.username, entry.password.get_secret_value())
            for host, entry in docker.registries.items()
        }
        images = Images(self._calls, registries, limit=docker.pull_limit)
        self._execd = Execd(self._calls, images, settings.runtime.execd_image, instance)
        buckets = Buckets(settings.storage.ossfs_mount_root, instance, local=not self._topology.remote)
        self._volumes = Volumes(self._calls, host_rules(settings, self._engine, config), instance, buckets)
        resolvers = resolvers_for(settings, self._calls, self._topology, self._reach)
        self._egress = Egress(self._calls, images, settings.egress, self._profile, view, resolvers)
        self._tools = Tools(
            calls=self._calls,
            images=images,
            execd=self._execd,
            networks=Networks(self._calls, view, own=None if docker.inter_container else docker.network_name),
            ports=Ports(self._profile.ports, probe_here() if view.engine_host == LOOPBACK else probe_there(view.dials)),
            host_port=HostPort(self._calls, view.engine_host),
            volumes=self._volumes,
            egress=self._egress,
            profile=self._profile,
            topology=self._topology,
        )
        self._callers = Callers(self._calls, is_own_machine=lambda text: self._reach.apart and is_ours(text))
        self._snapshots = Snapshots(self._calls, self._cache)
        self._freezer = Freezer(self._calls)
        self._making: set[str] = set()
        self._exposed = self._topology.exposed
        self._lacks: Missing | None = None
        self._holding = Holding()
        self._leftovers = GarbageCollector(self._calls, self._cache, self._volumes, self._in_the_making, leftover_grace)
        self._grace = leftover_grace
        self._watch = Watch(self._calls, self._cache, self._tidy, lambda: self._pools.disturbed())
        self._pools = Pools(docker.pools, self._calls, self._cache, self._tools, self._stock)
        self._background: set[asyncio.Task[object]] = set()
        self._settled: asyncio.Task[object] | None = None

    # life

    async def start(self, sink: EventSink) -> None:
        """Starts the watcher; returns at once, whether or not the Engine answers."""
        self._watch.start(sink)
        self._callers.start()

    async def stop(self) -> None:
        """Stops the watcher, lets operations in progress finish for a moment, and leaves the sandboxes running."""
        await self._watch.stop()
        await self._callers.stop()
        if self._settled is not None:
            self._settled.cancel()
        await self._pools.drain()
        if self._background:
            await asyncio.wait(self._background, timeout=STOP_GRACE)
        self._engine.close()

    def degraded(self) -> str | None:
        """Why the Engine cannot be relied on at present, or None."""
        return self._watch.trouble or (self._lacks.for_all(self._profile) if self._lacks else None)

    def is_sandbox_address(self, address: str) -> bool:
        """Whether calls from this address are, or may be, those of a sandbox on this Engine, of whatever server."""
        return address in self._callers

    async def _tidy(self) -> None:
        """After every (re)connection: collects garbage and prepares execd for the first create."""
        await self._meet()
        container = await own_container(self._calls)
        self._volumes.seen_from(container)
        elsewhere = await addresses_of_host(self._engine.address.remote_host)
        self._callers.detours = gateways_with_sandboxes(container) | elsewhere
        if self._topology.exposed:
            self._exposed = not await self._tools.networks.within_reach(self._profile.network_mode)
        young = await self._leftovers.remove()
        # Once more in any case: the Engine may still be processing requests of a server that was killed.
        if self._settled is None or (young and self._settled.done()):
            self._settled = self._spawn(repeat_until_settled(self._leftovers, self._grace))
        await self._pools.disown()
        self._spawn(self._warm_up())

    def _in_the_making(self) -> set[str]:
        return self._making | self._execd.filling

    async def _meet(self) -> Missing:
        """Reads `docker info`; returns the features that are missing."""
        info = await self._calls.info()
        self._reach.apart = separate_network_namespace(info)
        if not self._reach.apart:
            self._volumes.pins.meet(self._engine.address.url)
        self._volumes.protect(str(info.get("DockerRootDir") or "/var/lib/docker"))
        self._lacks, self._holding = lacking(info, self._profile), holding(info)
        return self._lacks

    async def _warm_up(self) -> None:
        try:
            await self._execd.kit(None)
            await self._execd.collect()
            self._pools.start()
        except errors.ManagerError as error:
            log.warning("execd is not ready, creates will try again: %s", error.message)

    # create and delete

    def check(self, spec: SandboxSpec) -> None:
        """Raises Invalid, Forbidden or Unsupported for what spec and configuration alone rule out."""
        check(self._pools.completed(spec), self._pools.tools(spec).profile, self._volumes, self._egress)
        if spec.secure_token and self._exposed:
            raise errors.Invalid(INVALID_PARAMETER, NOT_ALONE)

    def has_pool(self, name: str) -> bool:
        """Whether `docker.pools` has it."""
        return name in self._pools

    def reserve(self, extensions: Mapping[str, str]) -> str | None:
        """The id of a container reserved from the pool that these extensions name; None without one."""
        return self._pools.reserve(extensions)

    async def create(self, spec: SandboxSpec, progress: Progress) -> Sandbox:
        """Creates and starts; the answer shows the state observed after the start."""
        self.check(spec)
        lacks = self._lacks or await self._meet()
        if missing := lacks.for_spec(spec, self._pools.tools(spec).profile):
            raise errors.Unavailable(SANDBOX_START_FAILED, f"{missing}.")
        spec = self._pools.completed(spec)
        check_held(spec, self._holding)
        if await self._pools.claim(spec):
            return await self._observed(spec.id)
        creation = Creation(self._pools.tools(spec), spec, progress)
        task = self._spawn(self._create(creation, spec.id))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            creation.abandon()
            self._spawn(self._withdraw(task, spec.id))
            raise

    async def _create(self, creation: Creation, sandbox_id: str) -> Sandbox:
        self._making.add(sandbox_id)
        try:
            await creation.run(self._leftovers.doomed.add)
            return await self._observed(sandbox_id)
        finally:
            self._making.discard(sandbox_id)

    async def _stock(self, spec: SandboxSpec, tools: Tools, pool: tuple[str, str]) -> None:
        """A container for a pool."""
        check_held(spec, self._holding)
        self._making.add(spec.id)
        try:
            await Creation(tools, spec, log.info, pool).run(self._leftovers.doomed.add)
        finally:
            self._making.discard(spec.id)

    async def _observed(self, sandbox_id: str) -> Sandbox:
        sandbox = await self._cache.one(sandbox_id)
        if sandbox is None:
            raise errors.Failed(SANDBOX_START_FAILED, "The sandbox was removed by somebody else while it started.")
        return sandbox

    async def _withdraw(self, task: asyncio.Task[Sandbox], sandbox_id: str) -> None:
        """The create was cancelled: its result is removed."""
        await asyncio.wait([task])
        if task.exception() is None:
            try:
                await self._delete(sandbox_id)
            except errors.ManagerError:
                self._leftovers.doomed.add(sandbox_id)

    async def delete(self, sandbox_id: str) -> bool:
        """Removes the sandbox with everything that belongs to it; goes on when the caller has gone."""
        with self._watch.deleting(sandbox_id):
            return await asyncio.shield(self._spawn(self._delete(sandbox_id)))

    async def _delete(self, sandbox_id: str) -> bool:
        details = await self._cache.details(sandbox_id)
        try:
            if details is None:
                await self._egress.remove(sandbox_id)
                return False
            if self._cache.is_stock(sandbox_id, details["Config"]["Labels"]):
                return False
            await self._freezer.thaw_for_removal(details)
            await self._calls.remove_container(details["Id"])
            if network_owner(details):
                await self._egress.remove(sandbox_id)
            await self._volumes.release(self._cache.facts(details).volumes)
            await self._volumes.buckets.release(sandbox_id)
            self._cache.claims.pop(sandbox_id, None)
        except (errors.Failed, errors.Conflict) as error:
            message = f"Failed to delete sandbox {sandbox_id}: {error.message}"
            raise errors.Failed(SANDBOX_DELETE_FAILED, message) from error
        return True

    # looking

    async def get(self, sandbox_id: str) -> Sandbox | None:
        """The sandbox as it is this moment, or None."""
        seen = await _answered(self._cache.one(sandbox_id), f"sandbox {sandbox_id}")
        self._watch.looked_at(sandbox_id)
        return seen

    async def list(self) -> Sequence[Sandbox]:
        """Every sandbox of this server."""
        return await _answered(self._cache.all(), "the sandboxes")

    async def inspect(self, sandbox_id: str) -> dict[str, object] | None:
        """The Engine's description with secrets masked, or None."""
        details = await self._details(sandbox_id)
        return masked(details) if details is not None else None

    async def logs(self, sandbox_id: str, query: LogQuery) -> Output:
        """Output with timestamps. Raises NotFound, TooMany, Failed."""
        details = await self._needed(sandbox_id)
        opening = self._calls.logs(details["Id"], tail=query.tail, since=query.since, follow=query.follow)
        return await _answered(opening, f"the output of sandbox {sandbox_id}")

    # pause and resume

    async def pause(self, sandbox_id: str) -> None:
        """Pauses it. Raises NotFound, Conflict, Failed."""
        await self._freezer.pause(sandbox_id, await self._needed(sandbox_id))

    async def resume(self, sandbox_id: str) -> None:
        """Resumes it. Raises NotFound, Conflict, Failed."""
        await self._freezer.resume(sandbox_id, await self._needed(sandbox_id))

    async def _details(self, sandbox_id: str) -> Json | None:
        return await _answered(self._cache.details(sandbox_id), f"sandbox {sandbox_id}")

    async def _needed(self, sandbox_id: str) -> Json:
        details = await self._details(sandbox_id)
        if details is None or self._cache.is_stock(sandbox_id, details["Config"]["Labels"]):
            raise errors.NotFound(SANDBOX_NOT_FOUND, f"Sandbox {sandbox_id} not found.")
        return details

    # snapshots

    async def check_snapshot(self, sandbox_id: str) -> Sequence[str]:
        """The paths that a commit leaves out. Raises Conflict where a commit would contain no writes at all."""
        details = await self._needed(sandbox_id)
        check_runtime(details["HostConfig"].get("Runtime"), self._profile)
        return mounted_over(details, sandbox_id, self._profile)

    async def snapshot(self, sandbox_id: str, snapshot_id: str) -> str:
        """Keeps the file system of a running sandbox; the image reference."""
        return await self._snapshots.make(sandbox_id, snapshot_id)

    def snapshot_image(self, snapshot_id: str) -> str:
        """The image reference that `snapshot` returns for this id."""
        return image_of(snapshot_id)

    async def delete_snapshot(self, image: str) -> None:
        """Removes a snapshot's image; a missing one is no error."""
        await self._snapshots.remove(image)

    async def has_snapshot(self, image: str) -> bool:
        """Whether a snapshot's image is there."""
        return await self._snapshots.exists(image)

    async def earlier_snapshots(self) -> Sequence[Snapshot]:
        """Those of the earlier server's index, with `docker.adopt_unowned`."""
        return await asyncio.to_thread(earlier_snapshots) if self._adopts else ()

    def _spawn(self, work: Awaitable[T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


async def _answered(question: Awaitable[T], what: str) -> T:
    """What the Engine tells; Failed when all it tells is an error of its own."""
    try:
        return await question
    except errors.Failed as error:
        raise query_error(error, what) from error
