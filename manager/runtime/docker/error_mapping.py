"""Maps errors of the Engine to errors for the caller of a create. Pure."""

from __future__ import annotations

from manager.domain import errors
from manager.domain.codes import INTERNAL_ERROR, INVALID_PARAMETER, VOLUME_INVALID_MOUNT_PATH, VOLUME_INVALID_SUB_PATH
from manager.runtime.docker.codes import (
    ENGINE_DISK_FULL,
    SANDBOX_BOOTSTRAP_INSTALL_FAILED,
    SANDBOX_QUERY_FAILED,
    SANDBOX_START_FAILED,
)
from manager.runtime.docker.images import said
from manager.runtime.docker.ports import is_port_conflict, no_port

REFUSALS = (
    errors.Failed,
    errors.Invalid,
    errors.Conflict,
    errors.NotFound,
    errors.Forbidden,
    errors.Unsupported,
)
"""Errors about the requested object; the other kinds are about the Engine itself."""
_LIMITS = (
    ("range of cpus", "resourceLimits.cpu", None),
    ("cpu.cfs_quota_us", "resourceLimits.cpu", "its kernel refuses this share of the CPU"),
    ("cpu.max", "resourceLimits.cpu", "its kernel refuses this share of the CPU"),
    ("memory reservation", "resourceRequests.memory", None),
    ("minimum memory", "resourceLimits.memory", None),
    ("memory limit too low", "resourceLimits.memory", None),
    ("memory.limit_in_bytes", "resourceLimits.memory", "its kernel refuses so little memory"),
    ("memory.max", "resourceLimits.memory", "its kernel refuses so little memory"),
    ("could not select device driver", "resourceLimits.gpu", None),
    ("limit qgroup", "resourceLimits.ephemeral-storage", "on btrfs the image counts too, and is larger"),
    ("storage-opt", "resourceLimits.ephemeral-storage", None),
    ("storage opt", "resourceLimits.ephemeral-storage", None),
)
"""What is said of amounts that only the Engine and its kernel can judge: the cores, the devices, the quotas.

The last column is said in place of a text that names files of the Engine's host.
"""
_NO_SUCH_PART = ("cannot access path", "path concatenation escapes", "subpath")
_MOUNTS = ("is not directory", "directory onto a file")
COMMAND_NOT_FOUND = 127
NO_TOOLS = "On this network its image needs /bin/sh and iptables (docs/network.md)."
NO_SUCH_ADDRESS = (
    "The Engine's host does not have that address: change docker.publish_host in direct mode; in gateway mode run the "
    "server with the host's network, or set docker.host_ip = 'host.docker.internal' on Docker Desktop."
)


def start_error(error: errors.ManagerError) -> errors.ManagerError:
    """Maps a failed create or start of a container; a failed copy of execd has its own error already."""
    if error.code in (SANDBOX_BOOTSTRAP_INSTALL_FAILED, ENGINE_DISK_FULL):
        return error
    text = said(error)
    if full := _disk_full(text):
        return full
    for fragment, field, instead in _LIMITS:
        if fragment in text.lower():
            return errors.Invalid(INVALID_PARAMETER, f"{field}: the Engine cannot give this: {instead or text}")
    if any(fragment in text.lower() for fragment in _NO_SUCH_PART):
        message = "volumes: a subPath is not in its volume; make it from a sandbox that mounts the whole volume."
        return errors.Invalid(VOLUME_INVALID_SUB_PATH, message)
    if any(fragment in text.lower() for fragment in _MOUNTS):
        message = "volumes: the image has a file where one of them is to be mounted, and only a directory gives way"
        return errors.Invalid(VOLUME_INVALID_MOUNT_PATH, f"{message}: {text}")
    hint = ""
    if "bootstrap.sh" in text or "/bin/sh" in text:
        hint = " The image needs /bin/sh."
    if "cannot assign requested address" in text:
        hint = f" {NO_SUCH_ADDRESS}"
    if is_port_conflict(error):
        return no_port(f"The Engine found no free host port: {text}")
    return errors.Failed(SANDBOX_START_FAILED, f"Failed to create or start container: {text}{hint}")


def copy_error(error: errors.ManagerError) -> errors.ManagerError:
    """execd could not be copied into a container that takes it as a copy."""
    text = said(error)
    message = f"Failed to copy execd into the container: {text} The image must leave /opt/opensandbox to it."
    return _disk_full(text) or errors.Failed(SANDBOX_BOOTSTRAP_INSTALL_FAILED, message)


def sidecar_error(error: errors.ManagerError) -> errors.ManagerError:
    """A refused create or start of the egress sidecar."""
    text = said(error)
    if is_port_conflict(error):
        return no_port(f"The Engine found no free host port: {text}")
    hint = f" {NO_TOOLS}" if "/bin/sh" in text else ""
    return _disk_full(text) or errors.Failed(
        SANDBOX_START_FAILED, f"Egress sidecar container failed to start: {text}{hint}"
    )


def sidecar_ended(code: int | None) -> errors.ManagerError:
    """A sidecar that has ended before it was ready."""
    hint = f" {NO_TOOLS}" if code == COMMAND_NOT_FOUND else ""
    return errors.Failed(SANDBOX_START_FAILED, f"Egress sidecar container ended with code {code}.{hint}")


def volume_error(error: errors.ManagerError, name: str) -> errors.ManagerError:
    """A refused create of a named volume."""
    text = said(error)
    return _disk_full(text) or errors.Failed(INTERNAL_ERROR, f"Volume '{name}' could not be made: {text}")


def query_error(error: errors.ManagerError, what: str) -> errors.ManagerError:
    """The Engine answered a question with an error of its own."""
    return errors.Failed(SANDBOX_QUERY_FAILED, f"The Docker Engine could not tell about {what}: {said(error)}")


def _disk_full(text: str) -> errors.ManagerError | None:
    if "no space left" not in text.lower():
        return None
    return errors.Failed(ENGINE_DISK_FULL, f"The Engine's disk is full; free space on it. ({text})")
