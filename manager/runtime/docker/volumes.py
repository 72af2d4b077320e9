"""The volumes of a request as mounts of a container, made where they are missing and remembered for removal."""

from __future__ import annotations

import contextlib
import logging
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from manager.domain import errors
from manager.domain.codes import (
    VOLUME_HOST_PATH_CREATE_FAILED,
    VOLUME_HOST_PATH_NOT_ALLOWED,
    VOLUME_INVALID_PVC_NAME,
    VOLUME_INVALID_SUB_PATH,
    VOLUME_PVC_INSPECT_FAILED,
    VOLUME_PVC_NOT_FOUND,
    VOLUME_PVC_SUBPATH_UNSUPPORTED_DRIVER,
)
from manager.domain.sandbox import BucketVolume, HostVolume, NamedVolume, SandboxSpec, VolumeMount
from manager.domain.volumes import check_mounts, within
from manager.runtime.docker.buckets import Buckets
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.error_mapping import REFUSALS, query_error, volume_error
from manager.runtime.docker.host.path_policy import HostRules, own_places, real_path
from manager.runtime.docker.labels import INSTANCE, VOLUME_FOR, VOLUMES
from manager.runtime.docker.pinning import Moved, Pins
from manager.runtime.docker.rollback import Undo

log = logging.getLogger(__name__)
Json = dict[str, Any]

SUBPATH_API = (1, 45)
"""Since this API version (Docker 26) the Engine itself mounts a subpath of a volume."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """The mounts of one container, the volumes that are removed with it, and the paths pinned until it has started."""

    mounts: tuple[Json, ...] = ()
    owned: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


class Volumes:
    """Prepares volumes and removes them."""

    def __init__(self, calls: Calls, rules: HostRules, instance: str, buckets: Buckets) -> None:
        self._calls = calls
        self._rules = rules
        self._own: frozenset[str] = frozenset()
        self._instance = instance
        self.buckets = buckets
        self.pins = Pins()

    def seen_from(self, container: Json | None) -> None:
        """Sets the container that this process runs in: its paths are not the host's, its volumes are never mounted."""
        if container is None:
            return
        own = [mount for mount in container.get("Mounts") or () if mount.get("Type") == "volume"]
        self._own = frozenset(str(mount.get("Name")) for mount in own)
        places = own_places(container, self._rules.protected)
        self._rules = replace(self._rules, local=False)
        self.protect(*(str(mount["Source"]) for mount in own), *places)
        self.buckets.local = False

    def protect(self, *places: str) -> None:
        """These paths of the host are never mounted, nor a parent of them."""
        new = [place for place in places if place not in self._rules.protected]
        self._rules = replace(self._rules, protected=(*self._rules.protected, *new))

    def check(self, volumes: Sequence[VolumeMount]) -> None:
        """Raises Invalid for what can be checked without the Engine."""
        check_mounts(volumes)
        for volume in volumes:
            if isinstance(volume.source, HostVolume):
                self._host_path(volume, volume.source)
            elif isinstance(volume.source, BucketVolume):
                self.buckets.check(volume)
            elif volume.source.claim_name in self._own:
                message = f"volumes[{volume.name}]: '{volume.source.claim_name}' is a volume of this server's own."
                raise errors.Invalid(VOLUME_INVALID_PVC_NAME, message)

    async def prepare(self, spec: SandboxSpec, undo: Undo) -> Mounted:
        """Creates missing volumes and directories, with their undo. Raises Invalid or Failed."""
        mounts: list[Json] = []
        owned: list[str] = []
        for volume in spec.volumes:
            if isinstance(volume.source, HostVolume):
                mounts.append(self._host(volume, volume.source, undo))
            elif isinstance(volume.source, BucketVolume):
                mounts.append(await self.buckets.mount(spec.id, volume, volume.source, undo))
            else:
                mounts.append(await self._named(spec.id, volume, volume.source, undo, owned))
        return Mounted(tuple(mounts), tuple(owned), tuple(str(mount["Source"]) for mount in mounts))

    def started(self, mounted: Mounted) -> None:
        """Releases the pinned paths once the Engine has mounted them."""
        self.pins.let_go(mounted.held)

    def _held(self, volume: VolumeMount, path: str, undo: Undo) -> str:
        """A pinned path under which the Engine finds what is at this real path now."""
        if not self._rules.local:
            return path
        try:
            place = self.pins.hold(path)
        except Moved as error:
            message = f"volumes[{volume.name}]: '{path}' became a link while it was looked at."
            raise errors.Invalid(VOLUME_HOST_PATH_NOT_ALLOWED, message) from error
        except OSError as error:
            message = f"volumes[{volume.name}]: directory {path} could not be held: {error.strerror}."
            raise errors.Failed(VOLUME_HOST_PATH_CREATE_FAILED, message) from error

        async def let_go() -> None:
            self.pins.let_go([place])

        undo.push(f"the hold on {path}", let_go)
        return place

    async def release(self, names: Sequence[str]) -> None:
        """Removes the volumes of a sandbox; one that another container mounts stays."""
        for name in names:
            volume = await self._calls.inspect_volume(name)
            if volume is None or not self._is_ours(volume):
                continue
            try:
                await self._calls.remove_volume(name)
            except errors.Conflict:
                log.info("volume %s stays: another container has it", name)

    def _is_ours(self, volume: Json) -> bool:
        labels = volume.get("Labels") or {}
        return labels.get(INSTANCE) == self._instance or (INSTANCE not in labels and labels.get(VOLUMES) == "server")

    # the host's directories

    def _host_path(self, volume: VolumeMount, source: HostVolume) -> str:
        """The real path that is mounted, allowed both as written and with every link followed."""
        path = posixpath.join(source.path, posixpath.normpath(volume.sub_path)) if volume.sub_path else source.path
        return self._rules.real_path(volume.name, path, self.buckets.places())

    def _host(self, volume: VolumeMount, source: HostVolume, undo: Undo) -> Json:
        path = self._host_path(volume, source)
        if self._rules.local:
            try:
                _make_directory(path, undo)
            except OSError as error:
                message = f"volumes[{volume.name}]: directory {path} could not be made: {error.strerror}."
                raise errors.Failed(VOLUME_HOST_PATH_CREATE_FAILED, message) from error
        held = self._held(volume, path, undo)
        return {"Type": "bind", "Source": held, "Target": volume.mount_path, "ReadOnly": volume.read_only}

    # the Engine's volumes

    async def _named(
        self, sandbox_id: str, volume: VolumeMount, source: NamedVolume, undo: Undo, owned: list[str]
    ) -> Json:
        found = await self._look_at(source.claim_name)
        if found is None:
            if not source.create_if_not_exists:
                message = f"volumes[{volume.name}]: volume '{source.claim_name}' does not exist."
                raise errors.Invalid(VOLUME_PVC_NOT_FOUND, f"{message} Create it, or set createIfNotExists.")
            _warn_of_idle_settings(volume, source)
            found = await self._make(sandbox_id, source, undo)
            if source.delete_on_termination:
                owned.append(source.claim_name)
        if (device := bound_directory(found)) is not None:
            self._rules.check_device(volume.name, device, self.buckets.places())
        mount: Json = {
            "Type": "volume",
            "Source": source.claim_name,
            "Target": volume.mount_path,
            "ReadOnly": volume.read_only,
        }
        if not volume.sub_path:
            return mount
        part = posixpath.normpath(volume.sub_path)
        if await self._calls.api_version() < SUBPATH_API:
            return self._part(volume, found, undo)
        if is_folder(found):
            self._folder(volume, found, undo)
        return mount if part == "." else {**mount, "VolumeOptions": {"Subpath": part}}

    async def _make(self, sandbox_id: str, source: NamedVolume, undo: Undo) -> Json:
        name = source.claim_name
        labels = {INSTANCE: self._instance, VOLUMES: "server"}
        if source.delete_on_termination:
            labels[VOLUME_FOR] = sandbox_id  # so that it is found again if we are killed before it is mounted
        undo.push(f"volume {name}", lambda: self.release([name]))
        try:
            await self._calls.create_volume(name, labels)
        except REFUSALS as error:
            raise volume_error(error, name) from error
        made = await self._look_at(name)
        if made is None:
            raise errors.Failed(VOLUME_PVC_INSPECT_FAILED, f"Volume '{name}' was made and is not there.")
        return made

    async def _look_at(self, name: str) -> Json | None:
        try:
            return await self._calls.inspect_volume(name)
        except REFUSALS as error:
            raise errors.Failed(VOLUME_PVC_INSPECT_FAILED, query_error(error, f"volume '{name}'").message) from error

    def _part(self, volume: VolumeMount, found: Json, undo: Undo) -> Json:
        """A bind mount of a folder inside a local volume, for Engines without `Subpath`.

        With another driver or mount options the content is not below the volume's directory on the host.
        """
        if not is_folder(found):
            what = "with mount options" if found.get("Driver") == "local" else f"of driver '{found.get('Driver')}'"
            message = (
                f"volumes[{volume.name}].subPath: volume '{found.get('Name')}' is one {what}, of which this Engine"
            )
            raise errors.Invalid(
                VOLUME_PVC_SUBPATH_UNSUPPORTED_DRIVER,
                f"{message} mounts no part; Docker 26 does. Mount the whole, or update it.",
            )
        path = self._held(volume, self._folder(volume, found, undo), undo)
        return {"Type": "bind", "Source": path, "Target": volume.mount_path, "ReadOnly": volume.read_only}

    def _folder(self, volume: VolumeMount, found: Json, undo: Undo) -> str:
        """The directory on the Engine's host, made if it is missing and the host is ours. Raises Invalid."""
        base = str(found["Mountpoint"])
        path = posixpath.join(base, posixpath.normpath(volume.sub_path or "."))
        if self._rules.local:
            path = real_path(volume.name, path)
            if not within(path, os.path.realpath(base)):
                message = f"volumes[{volume.name}].subPath: '{volume.sub_path}' leads out of its volume."
                raise errors.Invalid(VOLUME_INVALID_SUB_PATH, message)
            with contextlib.suppress(OSError):
                _make_directory(path, undo)
        return path


def is_folder(volume: Json) -> bool:
    """Whether an inspected volume is no more than a directory on the disk of the Engine's host. Pure.

    With mount options the local driver mounts something else there, NFS or another directory, while a container has it.
    """
    options = volume.get("Options") or {}
    plain = volume.get("Driver") == "local" and not (options.get("device") or options.get("type"))
    return plain and bool(volume.get("Mountpoint"))


def bound_directory(volume: Json) -> str | None:
    """The directory of the Engine's host that a volume of the local driver shows by a bind mount; None for others."""
    options = volume.get("Options") or {}
    device = str(options.get("device") or "")
    words = str(options.get("o") or "").split(",")
    bound = {"bind", "rbind"} & set(words) or options.get("type") in (None, "", "none")
    return device if volume.get("Driver") == "local" and bound and device.startswith("/") else None


def _warn_of_idle_settings(volume: VolumeMount, source: NamedVolume) -> None:
    """A request written for Kubernetes works here too; fields without effect on Docker are logged."""
    given = {"storageClass": source.storage_class, "storage": source.storage, "accessModes": source.access_modes}
    idle = [name for name, value in given.items() if value]
    if idle:
        log.warning("volumes[%s].pvc: Docker volumes have no %s", volume.name, ", ".join(idle))


def _make_directory(path: str, undo: Undo) -> None:
    """Makes what is missing of a path. Raises OSError."""
    if os.path.exists(path):
        return
    missing = path
    while not os.path.exists(os.path.dirname(missing)):
        missing = os.path.dirname(missing)
    undo.push(f"directory {missing}", lambda: _remove_empty(path, missing))
    os.makedirs(path)


async def _remove_empty(path: str, top: str) -> None:
    """Removes the directories we made from `path` up to `top`, as far as they are empty."""
    while True:
        try:
            os.rmdir(path)
        except OSError:
            return
        if path == top:
            return
        path = os.path.dirname(path)
