"""Checks that the server starts with the configuration, and its warnings."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from manager.commands.config import obstacles
from manager.doctor.findings import Finding, fail, ok, warn
from manager.settings.load import Loaded
from manager.settings.startup_warnings import OPEN_API

NAME = "configuration"


def check_configuration(loaded: Loaded) -> Iterator[Finding]:
    """The loaded file, what this version refuses, and the warnings a start would print."""
    yield ok(NAME, f"{loaded.path}: {loaded.settings.runtime.type} runtime, ingress {loaded.settings.ingress.mode}")
    settings = loaded.settings
    for problem in obstacles(settings):
        yield fail(NAME, str(problem))
    for warning in loaded.warnings:
        yield warn(NAME, warning)
    yield from _secrecy(loaded)


def _secrecy(loaded: Loaded) -> Iterator[Finding]:
    if not loaded.settings.server.has_keys:
        yield warn("api key", OPEN_API)
    elif loaded.path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield warn("api key", f"others on this machine can read {loaded.path}", f"chmod 600 {loaded.path}")
    else:
        yield ok("api key", "set")
