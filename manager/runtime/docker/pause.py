"""Pause and resume of a sandbox together with its sidecar: in order, the first half undone if the second fails.

A server may be killed between the two halves, so a sidecar that is in the wanted state already is left alone.
"""

from __future__ import annotations

import contextlib
from typing import Any

from manager.domain import errors
from manager.domain.sandbox import SandboxState
from manager.runtime.docker.codes import (
    SANDBOX_NOT_PAUSED,
    SANDBOX_NOT_RUNNING,
    SANDBOX_PAUSE_FAILED,
    SANDBOX_RESUME_FAILED,
)
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.status import network_owner, status_of

Json = dict[str, Any]

_ON_THIS_KERNEL = (None, "", "runc", "io.containerd.runc.v2", "io.containerd.runtime.v1.linux")
"""Runtimes whose sandboxes are processes of the host."""
FREEZE_TRIES = 3
_REFUSALS = (errors.Failed, errors.Conflict, errors.NotFound)
"""Errors about a container that cannot be changed; any other is about the Engine."""


class Freezer:
    """Pauses and unpauses containers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def pause(self, sandbox_id: str, details: Json) -> None:
        """Sandbox first, then its sidecar. Raises Conflict (not running), Failed."""
        if status_of(details).state is not SandboxState.RUNNING:
            raise errors.Conflict(SANDBOX_NOT_RUNNING, f"Sandbox {sandbox_id} is not running.")
        try:
            await self._freeze(details["Id"])
        except errors.Conflict as error:
            raise errors.Conflict(
                SANDBOX_NOT_RUNNING, f"Failed to pause sandbox {sandbox_id}: {error.message}"
            ) from error
        except (errors.Failed, errors.NotFound) as error:
            raise errors.Failed(
                SANDBOX_PAUSE_FAILED, f"Failed to pause sandbox {sandbox_id}: {error.message}"
            ) from error
        owner = network_owner(details)
        if owner is None:
            return
        try:
            await self._freeze_sidecar(owner)
        except errors.ManagerError as error:
            with contextlib.suppress(errors.ManagerError):
                await self._calls.unpause(details["Id"])
            raise _of_sidecar(error, SANDBOX_PAUSE_FAILED, f"pause sandbox {sandbox_id}") from error

    async def thaw_for_removal(self, details: Json) -> None:
        """Unpauses a container before its removal where a paused one cannot be killed.

        The kernel kills its own frozen processes; a sandbox with another kernel, such as gVisor's, receives no signal
        while paused: the Engine waits ten seconds for it and leaves its processes behind.
        """
        if details["State"].get("Paused") and details["HostConfig"].get("Runtime") not in _ON_THIS_KERNEL:
            with contextlib.suppress(errors.ManagerError):
                await self._calls.unpause(details["Id"])

    async def resume(self, sandbox_id: str, details: Json) -> None:
        """Sidecar first: the policy is in force before the sandbox's first packet. Raises Conflict, Failed."""
        if status_of(details).state is not SandboxState.PAUSED:
            raise errors.Conflict(SANDBOX_NOT_PAUSED, f"Sandbox {sandbox_id} is not paused.")
        owner = network_owner(details)
        thawed = False
        if owner is not None:
            try:
                thawed = await self._thaw_sidecar(owner)
            except errors.ManagerError as error:
                raise _of_sidecar(error, SANDBOX_RESUME_FAILED, f"resume sandbox {sandbox_id}") from error
        try:
            await self._calls.unpause(details["Id"])
        except errors.ManagerError as error:
            if owner is not None and thawed:
                with contextlib.suppress(errors.ManagerError):
                    await self._calls.pause(owner)
            raise _of_sandbox(error, sandbox_id) from error

    async def _freeze(self, container: str) -> None:
        """Pauses a container, with retries; raises the last error.

        On a busy host the freezer of cgroup v1 does not always stop every process in time: runc thaws them again and
        fails with "unable to freeze". A retry mostly succeeds.
        """
        for _ in range(FREEZE_TRIES - 1):
            with contextlib.suppress(errors.Failed):
                await self._calls.pause(container)
                return
        await self._calls.pause(container)

    async def _freeze_sidecar(self, owner: str) -> None:
        if not (await self._running(owner))["Paused"]:
            await self._freeze(owner)

    async def _thaw_sidecar(self, owner: str) -> bool:
        """Unpauses it; whether it was paused."""
        if not (await self._running(owner))["Paused"]:
            return False
        await self._calls.unpause(owner)
        return True

    async def _running(self, owner: str) -> Json:
        """The state of a sidecar, which a frozen one has too. Raises NotFound, Conflict."""
        details = await self._calls.inspect_container(owner)
        if details is None:
            raise errors.NotFound("", "its egress sidecar was removed")
        state: Json = details["State"]
        if not state.get("Running"):
            raise errors.Conflict("", "its egress sidecar has ended")
        return state


def _of_sidecar(error: errors.ManagerError, code: str, what: str) -> errors.ManagerError:
    """An error that names the sidecar: the Engine may report an exited one as running for a while."""
    if not isinstance(error, _REFUSALS):
        return error
    text = error.message.rstrip(".")
    return errors.Failed(code, f"Failed to {what}: {text if 'sidecar' in text else f'its egress sidecar: {text}'}.")


def _of_sandbox(error: errors.ManagerError, sandbox_id: str) -> errors.ManagerError:
    message = f"Failed to resume sandbox {sandbox_id}: {error.message}"
    if isinstance(error, errors.Conflict):
        return errors.Conflict(SANDBOX_NOT_PAUSED, message)
    return errors.Failed(SANDBOX_RESUME_FAILED, message) if isinstance(error, _REFUSALS) else error
