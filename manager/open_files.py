"""The limit of open files: each connection of a client takes two, its own and the one to the sandbox."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

SPARE_FILES: Final = 512
"""Open files beside those of connections: the store, the Engine's connections, logs."""


def raise_limit() -> int:
    """Raises the soft limit of this process, and of those it starts, to the hard one; returns what holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Where even that is refused (a hard limit above the kernel's own) the soft one holds.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connections(limit: int) -> int:
    """How many connections of clients so many open files are enough for."""
    return max((limit - SPARE_FILES) // 2, 0)


def needed(connections: int) -> int:
    """How many open files so many connections of clients need."""
    return 2 * connections + SPARE_FILES
