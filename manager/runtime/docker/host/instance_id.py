"""The instance id that marks this server's containers on a shared Engine; derived, stable across restarts.

Unless configured (`docker.instance`) it is derived from the path of the store, since the store's records are about the
sandboxes of that server alone. It is stored nowhere: a store that was lost and created again at the same path has the
same id.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from manager.domain.volumes import within
from manager.runtime.docker.host.own_container import own_mounts
from manager.runtime.docker.host.topology import in_container
from manager.settings.model import Settings

MACHINE_ID = "/etc/machine-id"
"""The machine's id, for an Engine that servers of several machines share; a container has none."""
_DIGITS = 12


def instance_of(settings: Settings) -> str:
    """The configured `docker.instance`, else the id derived from the path of the store."""
    if settings.docker.instance is not None:
        return settings.docker.instance
    path = os.path.realpath(os.path.expanduser(settings.store.path))
    return name_of(_machine(), outside(path, own_mounts()) if in_container() else path)


def name_of(machine: str, place: str) -> str:
    """The id for a store at this path of this machine. Pure."""
    return "server-" + hashlib.sha256(f"{machine}\0{place}".encode()).hexdigest()[:_DIGITS]


def outside(path: str, mounts: str) -> str:
    """Where a container's file is on its host, as /proc/self/mountinfo tells: volumes have one path inside. Pure."""
    nearest, place = "/", path
    for line in mounts.splitlines():
        root, mounted = line.split()[3:5]
        if within(path, mounted) and within(mounted, nearest):  # the last of two at one place hides the first
            nearest, place = mounted, root.rstrip("/") + path.removeprefix(mounted.rstrip("/"))
    return place


def _machine() -> str:
    try:
        return Path(MACHINE_ID).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
