"""Which changes of a configuration a running server takes over."""

from __future__ import annotations

from typing import Any

import pytest

from manager.settings.model import Settings
from manager.settings.reload import RELOADED, changed, needing_restart
from manager.settings.schema import sections


def _settings(**tables: Any) -> Settings:
    return Settings.model_validate({"runtime": {"type": "docker", "execd_image": "execd"}, **tables})


@pytest.mark.parametrize(
    ("tables", "keys", "restart"),
    [
        ({}, [], []),
        ({"log": {"level": "DEBUG"}}, ["log.level"], []),
        ({"server": {"log_level": "DEBUG"}}, ["log.level"], []),
        ({"server": {"api_key": "secret"}}, ["server.api_key"], []),
        ({"server": {"port": 1}}, ["server.port"], ["server.port"]),
        ({"gateway": {"limits": {"max_headers": 9}}}, ["gateway.limits"], ["gateway.limits"]),
        ({"server": {"port": 1, "api_key": "secret"}}, ["server.port", "server.api_key"], ["server.port"]),
    ],
)
def test_a_change_is_named(tables: dict[str, Any], keys: list[str], restart: list[str]) -> None:
    """By its key only, and by whether it waits for a restart."""
    old, new = _settings(), _settings(**tables)

    assert changed(old, new) == changed(new, old) == keys
    assert needing_restart(old, new) == restart


def test_what_is_reloaded_exists() -> None:
    """The list cannot name what is no setting."""
    known = {key.path for section in sections(Settings) for key in section.own_keys()}
    known |= {section.path for section in sections(Settings)}

    assert known >= RELOADED
