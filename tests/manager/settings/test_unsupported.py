"""Known settings that this version does not act on keep it from starting, and each row can be taken at its word."""

from __future__ import annotations

from operator import attrgetter

import pytest

from manager.settings.model import Settings
from manager.settings.table import Table
from manager.settings.unsupported import UNWIRED, Unwired, refusals

RUNTIME = {"type": "docker", "execd_image": "execd"}


def test_defaults_start() -> None:
    """A configuration of the required keys alone is started with."""
    assert refusals(Settings.model_validate({"runtime": RUNTIME})) == []


@pytest.mark.parametrize("row", UNWIRED, ids=lambda row: row.key)
def test_a_row_names_a_setting_whose_default_starts(row: Unwired) -> None:
    """The table cannot name what does not exist, nor refuse what nobody asked for."""
    value = attrgetter(row.key)(Settings.model_validate({"runtime": RUNTIME}))

    assert isinstance(value, Table) or value in row.accepted


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        ({"otel": {"enabled": True}}, "otel.enabled = true: is not supported by this version; remove it"),
        (
            {"server": {"loop": "asyncio"}},
            'server.loop = "asyncio": is not supported by this version; use "auto": the data plane is built on uvloop',
        ),
        (
            {"store": {"type": "postgresql", "postgresql": {"dsn": "postgresql://db"}}},
            'store.type = "postgresql": is not supported by this version; use "sqlite"',
        ),
        (
            {"runtime": {"type": "kubernetes", "execd_image": "execd"}},
            'runtime.type = "kubernetes": is not supported by this version; use "docker"',
        ),
    ],
)
def test_what_is_not_wired_is_refused_by_name(tables: dict[str, object], line: str) -> None:
    """One line says which key, which value, and what to do instead."""
    settings = Settings.model_validate({"runtime": RUNTIME, **tables})

    assert [str(problem) for problem in refusals(settings)] == [line]
