"""Snapshots: the file system of a sandbox as an image, without settings that a restored sandbox must not inherit."""

from __future__ import annotations

import json
from typing import Any

from manager.domain import errors
from manager.domain.codes import (
    SNAPSHOT_DELETE_CONFLICT,
    SNAPSHOT_INVALID_SOURCE_STATE,
    SNAPSHOT_RUNTIME_CREATE_FAILED,
    SNAPSHOT_UNSUPPORTED_RUNTIME,
)
from manager.domain.sandbox import SandboxState
from manager.runtime.docker.codes import SANDBOX_NOT_FOUND, SNAPSHOT_IMAGE_REMOVE_FAILED
from manager.runtime.docker.container_cache import ContainerCache
from manager.runtime.docker.container_defaults import Profile, secure_runtime_name
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.images import said
from manager.runtime.docker.isolation import ISOLATION_FOLDER
from manager.runtime.docker.labels import SANDBOX_LABELS, SNAPSHOT, SNAPSHOT_ENVS
from manager.runtime.docker.sidecar import shared_volume
from manager.runtime.docker.spec import EXECD_MOUNT, OWN_VARIABLES
from manager.runtime.docker.status import status_of
from manager.runtime.docker.variables import place_in

Json = dict[str, Any]

REPOSITORY = "opensandbox-snapshots"


class Snapshots:
    """Makes, finds and removes snapshot images."""

    def __init__(self, calls: Calls, cache: ContainerCache) -> None:
        self._calls = calls
        self._cache = cache

    async def make(self, sandbox_id: str, snapshot_id: str) -> str:
        """The image reference. Raises NotFound, Conflict (not running), Failed, TimedOut."""
        details = await self._cache.details(sandbox_id)
        if details is None:
            raise errors.NotFound(SANDBOX_NOT_FOUND, f"Sandbox {sandbox_id} not found.")
        if status_of(details).state is not SandboxState.RUNNING:
            raise errors.Conflict(SNAPSHOT_INVALID_SOURCE_STATE, "Snapshot can only be created from a Running sandbox.")
        config = details["Config"]
        lines = changes(config.get("Cmd") or [], self._cache.instance, place_in(config.get("Env") or []))
        try:
            await self._calls.commit(details["Id"], REPOSITORY, snapshot_id, lines)
        except (errors.Failed, errors.Conflict, errors.NotFound) as error:
            raise errors.Failed(
                SNAPSHOT_RUNTIME_CREATE_FAILED, f"Failed to commit sandbox {sandbox_id}: {error.message}"
            ) from error
        return image_of(snapshot_id)

    async def remove(self, image: str) -> None:
        """Removes the image, if any. Raises Conflict while a container uses it, Failed when the Engine cannot."""
        try:
            await self._calls.remove_image(image)
        except errors.Conflict as error:
            message = "A sandbox still uses this snapshot; delete the sandbox first."
            raise errors.Conflict(SNAPSHOT_DELETE_CONFLICT, message) from error
        except errors.Failed as error:
            message = f"The image of the snapshot could not be removed: {said(error)}"
            raise errors.Failed(SNAPSHOT_IMAGE_REMOVE_FAILED, message) from error

    async def exists(self, image: str) -> bool:
        """Whether the image is on the Engine."""
        return await self._calls.inspect_image(image) is not None


def check_runtime(runtime: str | None, profile: Profile) -> None:
    """Raises Conflict for gVisor, by its usual name or the configured one.

    It keeps what is written below /tmp to itself, since 2023 all that is written: a commit would lose it silently.
    """
    configured = profile.secure_runtime if profile.secure_kind == "gvisor" else None
    if runtime is not None and runtime in (secure_runtime_name("gvisor", None), configured):
        message = "Snapshots of sandboxes on gVisor are not possible: it keeps what they write where no commit sees it."
        raise errors.Conflict(SNAPSHOT_UNSUPPORTED_RUNTIME, message)


def mounted_over(details: Json, sandbox_id: str, profile: Profile) -> tuple[str, ...]:
    """The paths of a sandbox whose content is in volumes, directories of the host or memory: no commit takes it.

    Without the server's own mounts and those of `docker.sandbox_binds`, which a restored sandbox has too.
    """
    everywhere = {bind.split(":")[1] for bind in profile.binds if ":" in bind}
    ours = {EXECD_MOUNT, ISOLATION_FOLDER, *everywhere}
    mounts = [mount for mount in details.get("Mounts") or () if mount.get("Name") != shared_volume(sandbox_id)]
    found = {str(mount["Destination"]) for mount in mounts} | set(details["HostConfig"].get("Tmpfs") or ())
    return tuple(sorted(found - ours))


def image_of(snapshot_id: str) -> str:
    """The reference under which a snapshot is kept."""
    return f"{REPOSITORY}:{snapshot_id}"


def names_snapshot(image: str) -> bool:
    """Whether the reference is a snapshot's: only for those is the owner checked."""
    name = image
    for start in ("index.docker.io/", "docker.io/", "library/"):
        name = name.removeprefix(start)
    return name == REPOSITORY or name.startswith((f"{REPOSITORY}:", f"{REPOSITORY}@"))


def is_id_of_snapshot(image: str, found: Json) -> bool:
    """Whether the reference is the id, or its beginning, of an image of ours that the Engine describes so."""
    by_id = str(found.get("Id", "")).removeprefix("sha256:").startswith(image.removeprefix("sha256:"))
    return by_id and any(map(names_snapshot, found.get("RepoTags") or ()))


def changes(command: list[str], instance: str, envs: str) -> list[str]:
    """Dockerfile lines that blank what a commit keeps and containers inherit: the source's labels, entrypoint, ours.

    The variables of the request stay, as programs in the file system may have been set up with them.
    """
    labels = " ".join(f'{name}=""' for name in SANDBOX_LABELS)
    variables = " ".join(f'{name}=""' for name in OWN_VARIABLES)
    return [
        f"LABEL {labels} {SNAPSHOT}={json.dumps(instance)} {SNAPSHOT_ENVS}={json.dumps(envs)}",
        "ENTRYPOINT []",
        f"CMD {json.dumps(command)}",
        f"ENV {variables}",
    ]
