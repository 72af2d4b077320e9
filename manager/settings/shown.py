"""The configuration that holds, as it may be shown: defaults and overrides in it, secrets hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit

from manager.settings.explain import HIDDEN
from manager.settings.model import Settings
from manager.settings.schema import Key
from manager.settings.table import Table


def shown(settings: Settings) -> str:
    """All settings as TOML that says what is in force; keys that are not set are left out."""
    return tomlkit.dumps(masked(settings))


def masked(table: Table) -> dict[str, Any]:
    """The table as plain values, with `(hidden)` in place of each secret."""
    plain = table.model_dump(mode="json")
    found: dict[str, Any] = {}
    for name, info in type(table).model_fields.items():
        value = getattr(table, name)
        if value is None:
            continue
        found[name] = _masked(value, plain[name], secret=Key((name,), info).secret)
    return found


def _masked(value: Any, plain: Any, *, secret: bool) -> Any:
    if isinstance(value, Table):
        return masked(value)
    if isinstance(value, Mapping):
        return {name: _masked(item, plain[name], secret=secret) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_masked(item, held, secret=secret) for item, held in zip(value, plain, strict=True)]
    return HIDDEN if secret else plain
