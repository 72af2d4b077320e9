"""Creating a sandbox: ordered steps, each with its undo, so that a failure at any of them leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from manager.domain import errors
from manager.domain.codes import (
    API_NOT_SUPPORTED,
    INVALID_PARAMETER,
    SNAPSHOT_INVALID_RESTORE_CONFIG,
    SNAPSHOT_NOT_FOUND,
)
from manager.domain.quantities import parse_limits, parse_requests
from manager.domain.sandbox import EXECD_PORT, HTTP_PORT, SandboxSpec
from manager.runtime.base import Progress
from manager.runtime.docker.codes import CREATE_ABANDONED, ENGINE_ERROR, SANDBOX_UNREACHABLE
from manager.runtime.docker.container_defaults import Profile
from manager.runtime.docker.egress import PORTS as EGRESS_PORTS
from manager.runtime.docker.egress import Egress, Sidecar
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.error_mapping import REFUSALS, copy_error, start_error
from manager.runtime.docker.execd import Execd, Kit, archive_at
from manager.runtime.docker.host.topology import Topology
from manager.runtime.docker.host_port import HostPort
from manager.runtime.docker.images import Images, matches, platform_of
from manager.runtime.docker.isolation import check_isolation
from manager.runtime.docker.networks import Choice, Networks
from manager.runtime.docker.ports import Ports, is_port_conflict
from manager.runtime.docker.readiness import wait_until_reachable
from manager.runtime.docker.rollback import Undo
from manager.runtime.docker.sidecar import shared_volume, sidecar_name
from manager.runtime.docker.snapshots import is_id_of_snapshot, names_snapshot
from manager.runtime.docker.spec import (
    ARCHIVE_FOLDER,
    EGRESS_ENV_PREFIX,
    Extras,
    Wiring,
    container_body,
    container_name,
    entrypoint,
    needs_archive,
)
from manager.runtime.docker.variables import place_of_snapshot
from manager.runtime.docker.volumes import Volumes

log = logging.getLogger(__name__)
Json = dict[str, Any]
T = TypeVar("T")

NAMES_SNAPSHOT = "image.uri: names a snapshot; restore one by snapshotId."
PORT_ATTEMPTS = 8
"""Attempts to create the container with other ports before the range counts as exhausted."""
PUBLISHED = (EXECD_PORT, HTTP_PORT)


class Abandoned(errors.ManagerError):
    """Raised inside a create whose caller has cancelled it."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a create works with."""

    calls: Calls
    images: Images
    execd: Execd
    networks: Networks
    ports: Ports
    host_port: HostPort
    volumes: Volumes
    egress: Egress
    profile: Profile
    topology: Topology
    pool_binds: tuple[str, ...] = ()


def check(spec: SandboxSpec, profile: Profile, volumes: Volumes, egress: Egress) -> None:
    """Raises Invalid, Forbidden or Unsupported for what spec and configuration alone rule out. No I/O."""
    if not spec.image:
        raise errors.Invalid(INVALID_PARAMETER, "image: a sandbox needs an image.")
    if spec.snapshot_id is None and names_snapshot(spec.image):
        raise errors.Invalid(INVALID_PARAMETER, NAMES_SNAPSHOT)
    if spec.platform is not None and spec.platform.os != "linux":
        raise errors.Invalid(API_NOT_SUPPORTED, f"platform.os: '{spec.platform.os}' is not supported.")
    entrypoint(spec)
    parse_requests(spec.resource_requests, parse_limits(spec.resource_limits))
    volumes.check(spec.volumes)
    egress.check(spec)
    if spec.secure_runtime and profile.secure_runtime is None:
        message = "secureRuntime: no secure runtime is configured; set [secure_runtime] type, or leave it out."
        raise errors.Invalid(INVALID_PARAMETER, message)
    if spec.secure_token and (profile.publish_on is not None or profile.network_mode == "host"):
        message = "secureAccess: needs ingress mode 'gateway' and a sandbox network other than 'host'"
        raise errors.Invalid(INVALID_PARAMETER, f"{message}, or there are ways in that ask for no credential.")
    check_isolation(spec, profile)


class Creation:
    """One create under way."""

    def __init__(self, tools: Tools, spec: SandboxSpec, progress: Progress, pool: tuple[str, str] = ("", "")) -> None:
        """`pool` is the name and template of the pool that the sandbox is made for, if any."""
        self._pool = pool
        self._tools = tools
        self._spec = spec
        self._progress = progress
        self._undo = Undo()
        self._abandoned = False

    def abandon(self) -> None:
        """The caller has cancelled: stop at the next step and roll back."""
        self._abandoned = True

    async def run(self, doom: Callable[[str], None]) -> str:
        """The id of the started container. `doom` is called when the rollback failed."""
        try:
            container_id = await self._steps()
            self._go_on()
        except BaseException as error:
            if not await self._undo.run():
                doom(self._spec.id)
            if isinstance(error, REFUSALS) and error.code == ENGINE_ERROR:
                raise start_error(error) from error
            raise
        return container_id

    def _go_on(self) -> None:
        if self._abandoned:
            raise Abandoned(CREATE_ABANDONED, f"The create of sandbox {self._spec.id} was cancelled.")

    async def _steps(self) -> str:
        spec, tools = self._spec, self._tools
        choice, kit, (image, envs) = await self._prepare()
        self._go_on()
        if choice.mode != "host":
            return await self._made(choice, kit, image, envs)
        async with tools.host_port.held(spec.id):
            return await self._made(choice, kit, image, envs)

    async def _made(self, choice: Choice, kit: Kit, image: str, envs: str) -> str:
        """The container, started, on the network that was chosen."""
        spec, tools = self._spec, self._tools
        host = self._publish_on(choice)
        self._warn_of_idle_settings()
        mounted = await tools.volumes.prepare(spec, self._undo)
        self._go_on()
        extras = Extras(
            image=image,
            wiring=Wiring(choice.mode),
            execd_volume=None if needs_archive(spec) else kit.volume,
            mounts=mounted.mounts,
            owned_volumes=mounted.owned,
            binds=self._tools.pool_binds,
            pool=self._pool,
            envs=envs,
        )
        if spec.network_policy is None:
            started = await self._with_ports(host, PUBLISHED, lambda publish: self._start(extras, kit, publish))
        else:
            # Clients reach the sidecar through execd; its own port is published only if we have to wait for it there.
            ports = PUBLISHED if choice.reachable else EGRESS_PORTS
            started = await self._start_policed(extras, kit, host, ports)
        tools.volumes.started(mounted)
        if host is not None and not choice.reachable:
            owner = container_name(spec.id) if spec.network_policy is None else sidecar_name(spec.id)
            await wait_until_reachable(tools.calls, tools.topology, owner)
        return started

    def _warn_of_idle_settings(self) -> None:
        idle = [key for key in self._spec.env if key.startswith(EGRESS_ENV_PREFIX)]
        if idle and self._spec.network_policy is None:
            log.warning("sandbox %s: without networkPolicy nobody reads %s", self._spec.id, ", ".join(sorted(idle)))

    async def _start_policed(self, extras: Extras, kit: Kit, host: str | None, ports: Sequence[int]) -> str:
        """The sidecar with its policy in force first, then the sandbox in the sidecar's network."""
        spec, mode = self._spec, extras.wiring.mode

        async def sidecar(publish: Mapping[int, tuple[str, str]]) -> Sidecar:
            return await self._tools.egress.start(spec, Wiring(mode, publish), self._undo, self._progress)

        made = await self._with_ports(host, ports, sidecar)
        shared = shared_volume(spec.id)
        mount = {"Type": "volume", "Source": shared, "Target": ARCHIVE_FOLDER}
        taken = any(entry["Target"].rstrip("/") == ARCHIVE_FOLDER for entry in extras.mounts)
        policed = replace(
            extras,
            wiring=Wiring(f"container:{made.container_id}"),
            mounts=extras.mounts if taken else (*extras.mounts, mount),
            owned_volumes=(*extras.owned_volumes, shared),
            egress_token=made.token,
        )
        return await self._start(policed, kit, {})

    async def _prepare(self) -> tuple[Choice, Kit, tuple[str, str]]:
        """Network, execd and image, concurrently; the first failure is raised."""
        tools = self._tools
        try:
            async with asyncio.TaskGroup() as group:
                choice = group.create_task(tools.networks.choose(tools.profile.network_mode))
                kit = group.create_task(tools.execd.kit(self._spec.platform, self._progress))
                image = group.create_task(self._image())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return choice.result(), kit.result(), image.result()

    async def _image(self) -> tuple[str, str]:
        """Its name, and where it has the file of variables if it is a snapshot."""
        spec, tools = self._spec, self._tools
        image = str(spec.image)
        if spec.snapshot_id is not None:
            kept = await tools.calls.inspect_image(image)
            if kept is None:
                raise errors.NotFound(
                    SNAPSHOT_NOT_FOUND, f"The image of snapshot {spec.snapshot_id} is no longer there."
                )
            if not matches(kept, spec.platform):
                message = f"platform: snapshot {spec.snapshot_id} is of a sandbox for {platform_of(kept)}."
                raise errors.Conflict(SNAPSHOT_INVALID_RESTORE_CONFIG, f"{message} Leave the field out.")
            return image, place_of_snapshot((kept.get("Config") or {}).get("Labels") or {})
        found = await tools.images.ensure(image, platform=spec.platform, auth=spec.image_auth, progress=self._progress)
        if is_id_of_snapshot(image, found):
            raise errors.Invalid(INVALID_PARAMETER, NAMES_SNAPSHOT)
        return image, ""

    def _publish_on(self, choice: Choice) -> str | None:
        """The address ports are published on; None when they need not be. Raises Failed where none could be dialled."""
        asked, seen = self._tools.profile.publish_on, self._tools.topology
        if choice.shared:
            return None
        if choice.reachable:
            return asked
        problem = seen.obstacle(asked)
        if problem is not None:
            raise errors.Failed(SANDBOX_UNREACHABLE, f"No sandbox could be reached: {problem}.")
        return asked or seen.publish_for_us(choice.gateway)

    async def _with_ports(
        self, host: str | None, inside: Sequence[int], step: Callable[[Mapping[int, tuple[str, str]]], Awaitable[T]]
    ) -> T:
        """What `step` makes with published ports; a port that was taken in the meantime is replaced by another."""
        if host is None:
            return await step({})
        attempt = 1
        while True:
            async with self._tools.ports.held(host, inside) as publish:
                try:
                    return await step(publish)
                except errors.Unavailable as error:
                    if attempt == PORT_ATTEMPTS or not is_port_conflict(error):
                        raise
                    log.info("sandbox %s: a port was taken meanwhile, trying others", self._spec.id)
            attempt += 1
            for name in (container_name(self._spec.id), sidecar_name(self._spec.id)):
                await self._tools.calls.remove_container(name)

    async def _start(self, extras: Extras, kit: Kit, publish: Mapping[int, tuple[str, str]]) -> str:
        calls, spec = self._tools.calls, self._spec
        name = container_name(spec.id)
        wiring = replace(extras.wiring, publish=publish)
        body = container_body(spec, self._tools.profile, replace(extras, wiring=wiring))
        platform = f"{spec.platform.os}/{spec.platform.arch}" if spec.platform else None
        self._undo.push(f"container {name}", lambda: calls.remove_container(name))
        try:
            container_id = await calls.create_container(name, body, platform)
            if extras.execd_volume is None:
                await self._copy_execd(container_id, kit)
            self._go_on()
            await calls.start(container_id)
        except (errors.Failed, errors.Invalid, errors.Conflict, errors.NotFound) as error:
            raise start_error(error) from error
        return container_id

    async def _copy_execd(self, container_id: str, kit: Kit) -> None:
        try:
            await self._tools.calls.put_archive(container_id, "/", archive_at(kit.archive))
        except (errors.Failed, errors.Invalid, errors.Conflict, errors.NotFound) as error:
            raise copy_error(error) from error
