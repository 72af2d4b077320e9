"""execd in every sandbox: a read-only volume filled once per execd image, or a copy into the container.

The volume is mounted, so a create costs nothing for it; the copy is for sandboxes that write to execd's folder and for
Engines without volumes. The volume is named after the image, so all servers of an Engine share it and a new image gets
a new one; it is removed after its image. It is filled through a container that never runs and whose name is the lock;
the last file written marks it complete, because the server that fills it may be killed half-way.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import tarfile
import time
from dataclasses import dataclass, field
from typing import Any

from manager.domain import errors
from manager.domain.sandbox import Platform
from manager.runtime.base import Progress
from manager.runtime.docker.codes import SANDBOX_EXECD_DISTRIBUTION_FAILED, SANDBOX_EXECD_START_FAILED
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.error_mapping import REFUSALS
from manager.runtime.docker.images import Images, said
from manager.runtime.docker.labels import EXECD_VOLUME, HELPER, INSTANCE, read_time
from manager.runtime.docker.spec import ARCHIVE_FOLDER, EXECD_MOUNT

log = logging.getLogger(__name__)
NEEDED = ("/execd", "/bootstrap.sh")
WELCOME = (
    "/usr/local/bin/bwrap",
    "/usr/local/libexec/opensandbox-session-gate",
    "/usr/local/libexec/opensandbox-launcher",
)
COMPLETE = ".complete"
FILL_LIMIT = 60.0
"""Seconds after which the holder of a volume's lock counts as killed; filling takes well under one."""


@dataclass(frozen=True, slots=True)
class Kit:
    """The files of one execd image: its id, the archive that unpacks them, and the volume that has them if one has."""

    image_id: str
    archive: bytes = field(repr=False)
    volume: str | None


def untold(message: str) -> None:
    """The progress callback of work without a waiter; the log has each line anyway."""


class Execd:
    """Extracts execd from its image, once per image and process."""

    def __init__(self, calls: Calls, images: Images, image: str, instance: str) -> None:
        self._calls = calls
        self._images = images
        self._image = image
        self._instance = instance
        self._kits: dict[str, asyncio.Task[Kit]] = {}
        self.filling: set[str] = set()
        """Names of the helper containers in use at the moment."""

    async def kit(self, platform: Platform | None, progress: Progress = untold) -> Kit:
        """The files for this platform. Raises Failed, Unavailable or TimedOut when the image cannot give them."""
        image = await self._pull(platform, progress)
        image_id = str(image["Id"])
        task = self._kits.get(image_id)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._kits[image_id] = asyncio.get_running_loop().create_task(self._make(image_id))
        kit = await asyncio.shield(task)
        if kit.volume and await self._calls.inspect_volume(kit.volume) is None:
            # Removed by someone else; the Engine would create an empty one in its place.
            self._kits.pop(image_id, None)
            return await self.kit(platform, progress)
        return kit

    async def _pull(self, platform: Platform | None, progress: Progress) -> dict[str, Any]:
        """The caller did not choose this image, so its failures are the server's errors, not the caller's."""
        try:
            return await self._images.ensure(self._image, platform=platform, auth=None, progress=progress)
        except (errors.Invalid, errors.NotFound, errors.Forbidden) as error:
            raise errors.Failed(SANDBOX_EXECD_DISTRIBUTION_FAILED, f"runtime.execd_image: {error.message}") from error

    async def collect(self) -> None:
        """Removes volumes whose execd image is no longer on the Engine and that no container uses."""
        for volume in await self._calls.list_volumes([EXECD_VOLUME]):
            if await self._calls.inspect_image(volume["Labels"][EXECD_VOLUME]) is None:
                await self._drop(volume["Name"])

    async def _drop(self, volume: str) -> None:
        """Removes a volume that no container uses; it would be filled again when it is needed."""
        with contextlib.suppress(errors.Conflict):
            await self._calls.remove_volume(volume)

    async def _make(self, image_id: str) -> Kit:
        digest = image_id.rpartition(":")[2][:12]
        helper = f"sandbox-execd-{digest}"
        self.filling.add(helper)
        try:
            return await self._fill(helper, image_id, f"opensandbox-execd-{digest}")
        finally:
            self.filling.discard(helper)

    async def _fill(self, helper: str, image_id: str, wanted: str) -> Kit:
        volume = await self._lock(helper, image_id, wanted)
        complete = False
        try:
            complete = (
                volume is not None and await self._calls.get_archive(helper, f"{EXECD_MOUNT}/{COMPLETE}") is not None
            )
            archive = await self._gather(helper)
            if volume and not complete:
                await self._calls.put_archive(helper, EXECD_MOUNT, archive)
                await self._calls.put_archive(helper, EXECD_MOUNT, pack({COMPLETE: (b"", 0o644)}))
                complete = True
        finally:
            await self._calls.remove_container(helper)
            if volume and not complete:
                await self._drop(volume)
        return Kit(image_id, archive, volume)

    async def _lock(self, helper: str, image_id: str, volume: str) -> str | None:
        """Creates the helper container; waits for another server that is filling the same volume."""
        while True:
            try:
                return await self._create_helper(helper, image_id, volume)
            except errors.Conflict:
                other = await self._calls.inspect_container(helper)
                created = read_time(other["Created"]) if other else None
                if created is not None and time.time() - created.timestamp() > FILL_LIMIT:
                    await self._calls.remove_container(helper)
                await asyncio.sleep(0.1)

    async def _create_helper(self, name: str, image_id: str, volume: str | None) -> str | None:
        """A container of the execd image that is never started; returns the volume it has, None if it got none."""
        body = {"Image": image_id, "Cmd": ["true"], "Labels": {HELPER: "execd", INSTANCE: self._instance}}
        if volume:
            fresh = await self._calls.inspect_volume(volume) is None
            try:
                await self._calls.create_volume(volume, {EXECD_VOLUME: image_id})
                mount = {"Type": "volume", "Source": volume, "Target": EXECD_MOUNT}
                await self._calls.create_container(name, {**body, "HostConfig": {"Mounts": [mount]}})
            except (errors.Failed, errors.Invalid, errors.Unsupported, errors.Forbidden) as error:
                log.warning("execd is copied into every sandbox, no volume could be made for it: %s", error.message)
                if fresh:
                    await self._drop(volume)
            else:
                return volume
        try:
            await self._calls.create_container(name, body)
        except (errors.Failed, errors.Invalid, errors.NotFound) as error:
            message = f"The container that execd is taken from could not be made: {error.message}"
            raise errors.Unavailable(SANDBOX_EXECD_START_FAILED, message) from error
        return None

    async def _gather(self, helper: str) -> bytes:
        files: dict[str, tuple[bytes, int]] = {}
        for path in NEEDED + WELCOME:
            try:
                archive = await self._calls.get_archive(helper, path)
            except REFUSALS as error:
                message = f"execd could not be taken out of {self._image}: {said(error)}"
                raise errors.Failed(SANDBOX_EXECD_DISTRIBUTION_FAILED, message) from error
            if archive is not None:
                files[path.rpartition("/")[2]] = unpack(archive)
            elif path in NEEDED:
                message = f"The image {self._image} has no {path}; set runtime.execd_image to an execd image."
                raise errors.Failed(SANDBOX_EXECD_DISTRIBUTION_FAILED, message)
        return pack(files)


def unpack(archive: bytes) -> tuple[bytes, int]:
    """Content and mode of the one file in a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            data = tar.extractfile(member) if member.isfile() else None
            if data is not None:
                return data.read(), member.mode
    raise errors.Failed(SANDBOX_EXECD_DISTRIBUTION_FAILED, "The execd image has a folder where a program should be.")


def pack(files: dict[str, tuple[bytes, int]], folder: str = "") -> bytes:
    """A tar archive of these files (name → content, mode), below `folder` if one is given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        path = ""
        for part in folder.strip("/").split("/") if folder else ():
            path += part + "/"
            info = tarfile.TarInfo(path)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for name, (content, mode) in files.items():
            info = tarfile.TarInfo(path + name)
            info.size, info.mode = len(content), mode | 0o555
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive_at(archive: bytes, folder: str = ARCHIVE_FOLDER) -> bytes:
    """The same files below `folder`, to be unpacked at `/` of a container that may not have that folder."""
    files: dict[str, tuple[bytes, int]] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            data = tar.extractfile(member)
            if data is not None:
                files[member.name] = (data.read(), member.mode)
    return pack(files, folder)
