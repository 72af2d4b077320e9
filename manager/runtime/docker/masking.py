"""The Engine's description of a container, fit to be shown: everything that may be a secret is masked. Pure."""

from __future__ import annotations

import copy
from typing import Any

from manager.runtime.docker.labels import SECRET_LABELS

MASK = "***"
_SECRET_WORDS = ("SECRET", "TOKEN", "PASSWORD", "PASSWD", "KEY", "CREDENTIAL", "AUTH")


def masked(details: dict[str, Any]) -> dict[str, Any]:
    """A copy without secrets: environment values by the name of their key, and our tokens."""
    shown = copy.deepcopy(details)
    config = shown.get("Config") or {}
    config["Env"] = [_mask_variable(entry) for entry in config.get("Env") or ()]
    labels = config.get("Labels") or {}
    for name in SECRET_LABELS & labels.keys():
        if labels[name]:
            labels[name] = MASK
    return shown


def _mask_variable(entry: str) -> str:
    key, equals, _ = entry.partition("=")
    secret = equals and any(word in key.upper() for word in _SECRET_WORDS)
    return f"{key}={MASK}" if secret else entry
