"""Settings that this version does not support, although they change start-up or security.

A server that ignored them would not run as configured, so it does not start. Implementing one means deleting its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final

from manager.settings.examples import EXAMPLES, Example
from manager.settings.explain import toml_text
from manager.settings.model import Settings
from manager.settings.problem import Problem
from manager.settings.table import Table


@dataclass(frozen=True, slots=True)
class Unwired:
    """A key (or a whole table), the values that ask for nothing we lack, and what to do instead."""

    key: str
    accepted: tuple[Any, ...]
    instead: str


UNWIRED: Final = (
    Unwired("runtime.type", ("docker",), 'use "docker"'),
    Unwired("server.loop", ("auto", "uvloop"), 'use "auto": the data plane is built on uvloop'),
    Unwired("server.http", ("auto", "httptools"), 'use "auto": the data plane is built on httptools'),
    Unwired("store.type", ("sqlite",), 'use "sqlite"'),
    Unwired("renew_intent.redis.enabled", (False,), "remove [renew_intent.redis]"),
    Unwired("otel.enabled", (False,), "remove it"),
    Unwired("tenants", (), "remove [tenants] and set server.api_key"),
)


def refusals(settings: Settings) -> list[Problem]:
    """Why this version must not start with these settings; empty when it may."""
    return [problem for row in UNWIRED if (problem := _refusal(settings, row)) is not None]


def _refusal(settings: Settings, row: Unwired) -> Problem | None:
    value = attrgetter(row.key)(settings)
    text = f"is not supported by this version; {row.instead}"
    if isinstance(value, Table):
        return Problem(row.key, text) if value.given else None
    return None if value in row.accepted else Problem(row.key, text, toml_text(value))


OFFERED: Final[Mapping[str, Example]] = MappingProxyType(
    {name: example for name, example in EXAMPLES.items() if not refusals(Settings.model_validate(example.tables))}
)
"""The examples that this version starts with."""
