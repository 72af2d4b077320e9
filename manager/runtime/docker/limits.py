"""Which resource limits the Engine's host enforces. Pure; checked before any object of a sandbox is created.

An Engine drops a limit without a cgroup controller in its kernel and reports that only as a warning of the create. Its
`docker info` lists what it supports, except for one thing: whether its file system has project quotas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manager.domain.codes import INVALID_PARAMETER
from manager.domain.errors import Invalid
from manager.domain.quantities import DISK_NAMES, LIMITS, REQUESTS, UNASKED
from manager.domain.sandbox import SandboxSpec

CONTROLLERS: Mapping[str, str] = {"cpu": "CpuCfsQuota", "memory": "MemoryLimit"}
"""The field of `docker info` that says whether the kernel limits this resource."""
_SIZED_DRIVERS = ("btrfs", "zfs", "devicemapper", "windowsfilter")
"""Storage drivers that give each container a size of its own."""
_QUOTA_DRIVERS = ("overlay2", "vfs")
"""Storage drivers that do so on XFS that is mounted with project quotas."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Limits that this Engine cannot enforce: names of resources, each with the reason."""

    unheld: Mapping[str, str] = field(default_factory=dict)
    shares: bool = True
    """Whether a request for CPU has any effect."""


def holding(info: Mapping[str, Any]) -> Holding:
    """The limits that the Engine of this `docker info` cannot enforce."""
    found = {
        name: f"the kernel of the Docker Engine has no controller for {name} that it may use"
        for name, key in CONTROLLERS.items()
        if info.get(key) is False
    }
    if (obstacle := _disk_obstacle(info)) is not None:
        found |= dict.fromkeys(DISK_NAMES, obstacle)
    return Holding(found, shares=info.get("CPUShares") is not False)


def _disk_obstacle(info: Mapping[str, Any]) -> str | None:
    driver = str(info.get("Driver"))
    backing = {str(row[0]): str(row[1]) for row in info.get("DriverStatus") or () if len(row) == 2}
    below = backing.get("Backing Filesystem", "another file system")
    if driver in _SIZED_DRIVERS or (driver in _QUOTA_DRIVERS and below == "xfs"):
        return None
    return (
        f"the Docker Engine's storage driver ('{driver}' on {below}) has no sizes for single containers; "
        "overlay2 on XFS with project quotas, btrfs and zfs have"
    )


def check_held(spec: SandboxSpec, can: Holding) -> None:
    """Raises Invalid for a limit or a request that would be dropped.

    The limits that SDKs send by default are not refused: where the kernel has no controller for them, they are
    dropped, as `opensandbox-server doctor` reports.
    """
    asked = spec.resource_limits if dict(spec.resource_limits) != UNASKED else {}
    for name in asked:
        if name in can.unheld:
            raise Invalid(INVALID_PARAMETER, f"{LIMITS}.{name}: cannot be held here: {can.unheld[name]}. Leave it out.")
    for name in spec.resource_requests:
        if name in can.unheld or (name == "cpu" and not can.shares):
            why = can.unheld.get(name, "the kernel of the Docker Engine has no shares of the CPU that it may use")
            raise Invalid(INVALID_PARAMETER, f"{REQUESTS}.{name}: cannot be held here: {why}. Leave it out.")
