"""Object-storage volumes: a bucket mounted on this host by `ossfs` or `ossfs2`, and bound into one sandbox.

Every sandbox gets mounts of its own, below a folder with its id: credentials of one request never open a mount for
another, no reference counts are kept, and what a killed server leaves is found by the names of the folders alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import posixpath
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manager.domain import errors
from manager.domain.codes import (
    API_NOT_SUPPORTED,
    VOLUME_INVALID_OSSFS_MOUNT_ROOT,
    VOLUME_OSSFS_MOUNT_FAILED,
    VOLUME_OSSFS_UNMOUNT_FAILED,
)
from manager.domain.ossfs import url_of
from manager.domain.sandbox import BucketVolume, VolumeMount
from manager.runtime.docker.rollback import Undo

log = logging.getLogger(__name__)
Json = dict[str, Any]

LIMIT = 30.0
"""Timeout in seconds of one mount, and of one attempt to unmount."""
LOOK_EVERY = 0.05
"""Seconds between two checks for the mount."""
UNMOUNTS = (("fusermount", "-u"), ("umount",), ("umount", "-l"))
"""Commands that unmount, tried in this order; the last one works on a busy mount too."""
_PASSED_ON = ("PATH", "HOME", "LANG")
"""The environment variables of the mount programs; the server's own may hold keys."""


class Buckets:
    """Mounts and unmounts buckets."""

    def __init__(self, root: str, instance: str, *, local: bool) -> None:
        """`local`: the Engine and this process share one file system."""
        self.folder = os.path.join(root, instance)
        self.local = local

    def check(self, volume: VolumeMount) -> None:
        """Raises Invalid where the Engine would not see a mount of this process."""
        if not self.local:
            message = f"volumes[{volume.name}].ossfs: needs a server beside the Engine, in no container."
            raise errors.Invalid(API_NOT_SUPPORTED, message)

    async def mount(self, sandbox_id: str, volume: VolumeMount, source: BucketVolume, undo: Undo) -> Json:
        """The mounted bucket as a mount of the container. Raises Failed."""
        path = os.path.join(self.folder, sandbox_id, volume.name)
        undo.push(f"bucket at {path}", lambda: self.release(sandbox_id))
        try:
            os.makedirs(path, mode=0o700)
        except OSError as error:
            message = f"storage.ossfs_mount_root: {self.folder} cannot be used: {error.strerror}."
            raise errors.Failed(VOLUME_INVALID_OSSFS_MOUNT_ROOT, message) from error
        with tempfile.TemporaryDirectory(prefix="opensandbox-ossfs-") as private:
            secrets = os.path.join(private, "secrets")
            argv, text = mount_command(source, volume.sub_path, path, secrets)
            _write_private(secrets, text)
            try:
                async with asyncio.timeout(LIMIT):
                    await _run(argv, private)
                    await _until_mounted(path)
            except TimeoutError:
                message = f"volumes[{volume.name}]: the bucket was not mounted within {LIMIT:.0f} seconds."
                raise errors.Failed(VOLUME_OSSFS_MOUNT_FAILED, message) from None
            except _ProgramFailed as failure:
                message = f"volumes[{volume.name}]: {_without(failure.said, source)}"
                raise errors.Failed(VOLUME_OSSFS_MOUNT_FAILED, message) from failure
        return {"Type": "bind", "Source": path, "Target": volume.mount_path, "ReadOnly": volume.read_only}

    async def release(self, sandbox_id: str) -> None:
        """Unmounts everything of one sandbox; a failure is logged and retried at the next start."""
        folder = os.path.join(self.folder, sandbox_id)
        if sandbox_id not in self.owners():
            return
        for path in mounted_below(folder):
            await _unmount(path)
        try:
            for name in os.listdir(folder):
                os.rmdir(os.path.join(folder, name))
            os.rmdir(folder)
        except OSError as error:
            log.warning("%s: %s stays: %s", VOLUME_OSSFS_UNMOUNT_FAILED, folder, error.strerror)
        with contextlib.suppress(OSError):  # other sandboxes have buckets
            os.rmdir(self.folder)

    def owners(self) -> dict[str, float]:
        """The sandboxes that have mounts, with the time each was made, in epoch seconds."""
        try:
            with os.scandir(self.folder) as entries:
                return {entry.name: entry.stat(follow_symlinks=False).st_mtime for entry in entries}
        except OSError:
            return {}

    def places(self) -> tuple[str, ...]:
        """The folder on this host that holds all sandboxes' buckets; no `host` volume may contain it."""
        return (self.folder,) if os.path.isdir(self.folder) else ()


def mount_command(source: BucketVolume, prefix: str | None, path: str, secrets: str) -> tuple[list[str], str]:
    """The mount command, and the content of the file `secrets` that it reads."""
    prefix = posixpath.normpath(prefix) if prefix else ""
    if source.version == "1.0":
        bucket = f"{source.bucket}:/{prefix}" if prefix else source.bucket
        options = [f"url={url_of(source)}", f"passwd_file={secrets}", *source.options]
        argv = ["ossfs", bucket, path, *(part for option in options for part in ("-o", option))]
        return argv, f"{source.bucket}:{source.access_key_id}:{source.access_key_secret}\n"
    lines = {
        "oss_endpoint": url_of(source),
        "oss_bucket": source.bucket,
        "oss_access_key_id": source.access_key_id,
        "oss_access_key_secret": source.access_key_secret,
    }
    if prefix:
        lines["oss_bucket_prefix"] = f"{prefix}/"
    said = [*(f"{name}={value}" for name, value in lines.items()), *source.options]
    return ["ossfs2", "mount", path, "-c", secrets], "".join(f"--{line}\n" for line in said)


def mounted_below(folder: str) -> list[str]:
    """Mount points below a folder, deepest first; one whose program has died counts, though it cannot be read."""
    points = [_plain(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()]
    return sorted((point for point in points if point.startswith(folder + "/")), reverse=True)


def _plain(escaped: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), escaped)


def _write_private(path: str, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


class _ProgramFailed(Exception):
    """Raised when a program cannot be run or fails; its output is in `said`."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


async def _run(argv: Sequence[str], folder: str) -> None:
    """Runs a program to its end; what it leaves in the background keeps neither our terminal nor our pipes."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    with tempfile.TemporaryFile() as said:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            message = f"'{argv[0]}' cannot be run on this server's machine ({error.strerror}); install it."
            raise _ProgramFailed(message) from error
        try:
            code = await process.wait()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if code:
            said.seek(0)
            text = " ".join(said.read().decode("utf-8", "replace").split())
            raise _ProgramFailed(f"'{argv[0]}' ended with code {code}: {text[-300:]}")


async def _until_mounted(path: str) -> None:
    """The program may go on mounting in the background; without its mount the sandbox would get a plain directory."""
    while path not in mounted_below(os.path.dirname(path)):  # noqa: ASYNC110 - the kernel sends no event for a mount
        await asyncio.sleep(LOOK_EVERY)


async def _unmount(path: str) -> None:
    for command in UNMOUNTS:
        try:
            async with asyncio.timeout(LIMIT):
                await _run((*command, path), "/")
        except (_ProgramFailed, TimeoutError) as error:
            log.debug("%s did not unmount %s: %s", command[0], path, error)
        else:
            return


def _without(text: str, source: BucketVolume) -> str:
    for secret in (source.access_key_secret, source.access_key_id):
        text = text.replace(secret, "***")
    return text
