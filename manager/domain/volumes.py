"""Which volumes a sandbox may mount and where: rules on the request's text and on resolved paths. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from manager.domain.codes import (
    VOLUME_DUPLICATE_NAME,
    VOLUME_HOST_PATH_NOT_ALLOWED,
    VOLUME_INVALID_HOST_PATH,
    VOLUME_INVALID_MOUNT_PATH,
    VOLUME_INVALID_NAME,
    VOLUME_INVALID_PVC_NAME,
    VOLUME_INVALID_SUB_PATH,
)
from manager.domain.errors import Invalid
from manager.domain.ossfs import check_bucket
from manager.domain.sandbox import BucketVolume, HostVolume, NamedVolume, VolumeMount

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_CLAIM = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,252}")
RESERVED_CLAIMS = ("opensandbox-execd-", "opensandbox-runtime-", "opensandbox-claim-")
"""Names of the server's own volumes: a writable mount of one would change what runs in every sandbox."""
LONGEST_PATH, LONGEST_PART = 4095, 255
"""Bytes of a path, and of each name in it, that a file system takes."""
RESERVED_MOUNTS = ("/.opensandbox", "/proc", "/sys", "/dev")
"""Paths inside a sandbox that belong to the Engine or the server."""


def check_mounts(volumes: Sequence[VolumeMount]) -> None:
    """Raises Invalid unless every volume is valid by itself and does not conflict with another."""
    names: set[str] = set()
    paths: set[str] = set()
    for volume in volumes:
        _check_name(volume.name, names)
        _check_mount_path(volume, paths)
        check_sub_path(volume)
        if isinstance(volume.source, NamedVolume):
            _check_claim(volume.name, volume.source.claim_name)
        elif isinstance(volume.source, BucketVolume):
            check_bucket(volume, volume.source)
        else:
            check_host_text(volume.name, volume.source)


def _check_name(name: str, seen: set[str]) -> None:
    if _NAME.fullmatch(name) is None:
        message = f"volumes: '{name[:64]}' is not a name: lower-case letters, digits and '-', at most 63 characters."
        raise Invalid(VOLUME_INVALID_NAME, message)
    if name in seen:
        raise Invalid(VOLUME_DUPLICATE_NAME, f"volumes: the name '{name}' is used twice.")
    seen.add(name)


def _check_mount_path(volume: VolumeMount, seen: set[str]) -> None:
    path = posixpath.normpath(volume.mount_path)
    parts = volume.mount_path.split("/")
    # A path that begins with two slashes stays as it is when it is normalised, and would be none of those below.
    if not volume.mount_path.startswith("/") or path.startswith("//") or path == "/" or ".." in parts:
        message = f"volumes[{volume.name}].mountPath: '{_short(volume.mount_path)}' must be absolute and below '/'."
        raise Invalid(VOLUME_INVALID_MOUNT_PATH, message)
    if len(path.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_PART for part in parts):
        message = f"volumes[{volume.name}].mountPath: '{_short(path)}' is longer than a path can be."
        raise Invalid(VOLUME_INVALID_MOUNT_PATH, message)
    if any(within(path, reserved) for reserved in RESERVED_MOUNTS):
        raise Invalid(VOLUME_INVALID_MOUNT_PATH, f"volumes[{volume.name}].mountPath: '{path}' is reserved.")
    if path in seen:
        raise Invalid(VOLUME_INVALID_MOUNT_PATH, f"volumes[{volume.name}].mountPath: '{path}' is used twice.")
    seen.add(path)


def _short(path: str) -> str:
    return path if len(path) <= LONGEST_PART else f"{path[:LONGEST_PART]}…"


def check_sub_path(volume: VolumeMount) -> None:
    """Raises Invalid unless the sub-path, if any, is relative and stays below its volume."""
    sub = volume.sub_path
    if sub is not None and (sub.startswith("/") or ".." in sub.split("/") or "\0" in sub or "\\" in sub):
        message = f"volumes[{volume.name}].subPath: '{sub}' must be relative and must not contain '..'."
        raise Invalid(VOLUME_INVALID_SUB_PATH, message)


def _check_claim(name: str, claim: str) -> None:
    if _CLAIM.fullmatch(claim) is None or claim.startswith(RESERVED_CLAIMS):
        raise Invalid(VOLUME_INVALID_PVC_NAME, f"volumes[{name}].pvc.claimName: '{claim}' cannot be used.")


def check_host_text(name: str, source: HostVolume) -> None:
    """Raises Invalid unless the path is absolute and normalised."""
    path = source.path
    if not path.startswith("/") or "\0" in path or posixpath.normpath(path) != path or path.startswith("//"):
        message = f"volumes[{name}].host.path: '{path}' must be absolute, without '//', '.', '..' or a final '/'."
        raise Invalid(VOLUME_INVALID_HOST_PATH, message)


def check_host_place(name: str, path: str, allowed: Sequence[str], protected: Iterable[str]) -> None:
    """Raises Invalid unless `path` lies below an allowed directory and neither holds nor lies in a protected place.

    An empty `allowed` allows every directory. Call it for the path as written and for the real path, with real
    prefixes: a link below an allowed directory may lead anywhere.
    """
    if any(within(place, path) or within(path, place) for place in protected):
        message = f"volumes[{name}].host.path: '{path}' holds what belongs to the Engine or to this server."
        raise Invalid(VOLUME_HOST_PATH_NOT_ALLOWED, message)
    if allowed and not any(within(path, prefix) for prefix in allowed):
        message = f"Host path '{path}' is not under any allowed prefix. Allowed prefixes: {sorted(allowed)}"
        raise Invalid(VOLUME_HOST_PATH_NOT_ALLOWED, message)


def check_strangers(volumes: Iterable[VolumeMount]) -> None:
    """Raises Invalid for a directory of the host: none is listed as allowed, and anybody may have sent the request."""
    for volume in volumes:
        if isinstance(volume.source, HostVolume):
            message = (
                f"volumes[{volume.name}].host.path: '{volume.source.path}' is not mounted by a server without an API "
                "key of its own: set server.api_key, or list the directory in storage.allowed_host_paths."
            )
            raise Invalid(VOLUME_HOST_PATH_NOT_ALLOWED, message)


def within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or below it, by text; both normalised."""
    return folder == "/" or path == folder or path.startswith(folder.rstrip("/") + "/")
