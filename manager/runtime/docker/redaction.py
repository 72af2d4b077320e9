"""Redacts `docker inspect` of a container: secrets are masked, our labels are left out."""

from __future__ import annotations

import copy
from typing import Any

from manager.runtime.docker.labels import PREFIX

MASK = "***"
_SECRET_WORDS = ("SECRET", "TOKEN", "PASSWORD", "PASSWD", "KEY", "CREDENTIAL", "AUTH")


def masked(details: dict[str, Any]) -> dict[str, Any]:
    """A copy without secrets: environment values are masked by name, and our labels removed, since some are tokens."""
    shown = copy.deepcopy(details)
    config = shown.get("Config") or {}
    config["Env"] = [_mask_variable(entry) for entry in config.get("Env") or ()]
    labels = config.get("Labels") or {}
    config["Labels"] = {name: value for name, value in labels.items() if not name.startswith(PREFIX)}
    return shown


def _mask_variable(entry: str) -> str:
    key, equals, _ = entry.partition("=")
    secret = equals and any(word in key.upper() for word in _SECRET_WORDS)
    return f"{key}={MASK}" if secret else entry
