"""Privileges of a sandbox whose execd runs sessions in namespaces of their own, and their risk.

execd starts bubblewrap as root of the container and without a user namespace: it unshares mount, process, host name,
IPC and cgroup namespaces, mounts /proc, /dev and tmpfs anew, and pivots into the result. That takes CAP_SYS_ADMIN and
the calls below, which Docker's own profiles forbid; it takes none of the rest that "privileged" means.

The other way, bubblewrap with a user namespace, needs no capability, and is worse where it would matter: the kernel
lets a user namespace mount /proc only where no part of the container's own is masked or read-only, so root of the
container would write /proc/sys/kernel/core_pattern without even mounting anything. Hence masks stay on, and the seccomp
profile refuses user namespaces.

A process with CAP_SYS_ADMIN can mount /proc once more, without the masks. On an Engine with user namespaces, or a
rootless one, that gains nothing: those files need root of the host. On any other Engine a hostile program in such a
sandbox can become root of the host. So the operator has to allow it (`docker.allow_isolation`).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from manager.domain import errors
from manager.domain.codes import INVALID_PARAMETER
from manager.domain.sandbox import SandboxSpec
from manager.runtime.docker.codes import ISOLATION_NOT_ALLOWED
from manager.runtime.docker.container_defaults import Profile

Json = dict[str, Any]

ISOLATION_EXTENSION = "bootstrap.execd.isolation"
ISOLATION_FOLDER = "/var/lib/execd/isolation"
"""Where execd keeps what overlays write: on a tmpfs, since an overlay does not lie upon the container's own."""
_SECCOMP = Path(__file__).with_name("isolation_seccomp.json")
_FORBIDS_MOUNTS = "apparmor=docker-default"


def isolated(spec: SandboxSpec) -> bool:
    """Whether the request wants execd to be able to make namespaces of its own."""
    return spec.extensions.get(ISOLATION_EXTENSION, "").strip().lower() in ("enable", "enabled", "true")


def check_isolation(spec: SandboxSpec, profile: Profile) -> None:
    """Raises Forbidden when isolation is asked for and the operator has not allowed it, Invalid where it cannot be."""
    if not isolated(spec):
        return
    if not profile.allow_isolation:
        raise errors.Forbidden(
            ISOLATION_NOT_ALLOWED,
            f"extensions.{ISOLATION_EXTENSION}: isolation needs rights over the Engine's host that this server does "
            "not give. Leave the extension out, or have the operator set docker.allow_isolation = true.",
        )
    if profile.network_mode.startswith("container:"):
        raise errors.Invalid(INVALID_PARAMETER, "extensions: isolation cannot share another container's namespaces.")


def isolation_privileges(profile: Profile, drop: list[str]) -> Json:
    """Capabilities, security options and mounts of a container whose execd isolates; `drop` is what others lose.

    Paths are masked as they are for everybody. Docker's own AppArmor profile forbids every mount, so it is set aside;
    one that the operator has written stays in force.
    """
    kept = [option for option in profile.security if not option.startswith("seccomp=") and option != _FORBIDS_MOUNTS]
    if not any(option.startswith("apparmor=") for option in kept):
        kept.append("apparmor=unconfined")
    return {
        "CapAdd": ["SYS_ADMIN"],
        "CapDrop": [name for name in drop if name != "SYS_ADMIN"] or None,
        "SecurityOpt": [*kept, f"seccomp={seccomp_profile()}"],
        "Tmpfs": {ISOLATION_FOLDER: ""},
    }


@cache
def seccomp_profile() -> str:
    """Docker's default profile in the one of ours that isolation runs under: mounting and new namespaces besides."""
    return _SECCOMP.read_text(encoding="utf-8")
