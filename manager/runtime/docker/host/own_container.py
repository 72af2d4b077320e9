"""The container that this process runs in, if it is one of the Engine that the server uses.

Paths that the server sees then mean nothing to the Engine, and the server's data is a volume that no sandbox may mount.
The id is in the mounts of every container, also with host networking, where the host name is the host's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from manager.runtime.docker.engine.client import Calls

Json = dict[str, Any]
_MOUNTED = re.compile(r"/containers/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf)\s")


def container_id(mounts: str) -> str | None:
    """The id that a container's /proc/self/mountinfo names; None outside of any. Pure."""
    found = _MOUNTED.search(mounts)
    return found[1] if found else None


def own_mounts() -> str:
    """What this process has mounted, as /proc/self/mountinfo tells; empty where there is none."""
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


async def own_container(calls: Calls) -> Json | None:
    """Our own container, inspected; None outside of a container, or in one of another Engine."""
    named = container_id(own_mounts())
    return await calls.inspect_container(named) if named else None
