"""Which keys a running server reloads, and which need a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from manager.settings.aliases import SPELLINGS
from manager.settings.model import Settings
from manager.settings.schema import Path
from manager.settings.table import Table
from manager.settings.text import dotted

RELOADED: Final[frozenset[Path]] = frozenset(
    {
        ("log", "level"),
        ("server", "api_key"),
        ("server", "api_keys"),
        ("server", "cors_origins"),
        ("server", "max_sandboxes"),
        ("ingress", "secure_access", "active_key"),
        ("ingress", "secure_access", "keys"),
    }
)
"""Keys that take effect without a restart."""


def changed(old: Settings, new: Settings) -> list[str]:
    """The keys that differ, without their values, since some are secrets."""
    return [dotted(path) for path in _changed(old, new, ())]


def needing_restart(old: Settings, new: Settings) -> list[str]:
    """The keys that differ and will not take effect before the next start."""
    return [dotted(path) for path in _changed(old, new, ()) if path not in RELOADED]


def _changed(old: Table, new: Table, path: Path) -> Iterator[Path]:
    for name in type(old).model_fields:
        here, before, after = (*path, name), getattr(old, name), getattr(new, name)
        if isinstance(before, Table):
            yield from _changed(before, after, here)
        elif before != after and here not in SPELLINGS:
            yield here
