"""Who can reach the server without a key of its own: a decision about the configuration, before anything listens."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from manager.settings.model import Settings
from manager.settings.problem import Problem

INSECURE: Final = "OPENSANDBOX_INSECURE_SERVER"
"""Set to `YES` it starts a server that strangers can use; the released server reads it too."""
EXAMPLE_API_KEY: Final = "your-secret-api-key"
"""The API key of the example configurations, which is public."""
_PLACEHOLDERS: Final = frozenset({EXAMPLE_API_KEY, "your-api-key", "changeme", "change-me"})


def is_placeholder(key: str) -> bool:
    """Whether everybody knows this key, since examples have it."""
    return key.strip().lower() in _PLACEHOLDERS


def is_open(settings: Settings) -> bool:
    """Whether strangers have the rights of a caller: there is no key, or one that everybody knows."""
    server = settings.server
    keys = [] if server.api_key is None else [server.api_key]
    keys += [item.key for item in server.api_keys]
    return not keys or any(is_placeholder(key.get_secret_value()) for key in keys)


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server that listens on `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def exposed(settings: Settings, environ: Mapping[str, str], *, host: str | None = None) -> list[Problem]:
    """Why the server must not run with these keys where others reach it; empty when it may.

    `host` is what it listens on already, where that is not what the settings say.
    """
    server = settings.server
    listens = host or server.host
    if not is_open(settings) or is_loopback(listens) or environ.get(INSECURE) == "YES":
        return []
    state = "holds a key of the examples, which everybody knows" if server.has_keys else "is empty"
    name = "api_key" if server.api_key is not None or not server.api_keys else "api_keys"
    text = (
        f"{state}, and others reach server.host = {listens}: set a key of your own (openssl rand -hex 32), or "
        f'server.host = "127.0.0.1"; {INSECURE}=YES starts all the same'
    )
    return [Problem(f"server.{name}", text)]
