"""`opensandbox-server config show|check|schema`."""

from __future__ import annotations

import json
import os
import sys

from manager.settings.exposure import exposed
from manager.settings.files import unusable_files
from manager.settings.load import Loaded
from manager.settings.model import Settings
from manager.settings.problem import Problem
from manager.settings.shown import shown
from manager.settings.unsupported import refusals


def obstacles(settings: Settings) -> list[Problem]:
    """Why a server does not start with settings that are valid."""
    return [*refusals(settings), *exposed(settings, os.environ), *unusable_files(settings)]


def show(loaded: Loaded) -> int:
    """Prints what is in force, as TOML and without secrets."""
    sys.stdout.write(f"# {loaded.path}, with defaults and the environment\n{shown(loaded.settings)}")
    return 0


def check(loaded: Loaded) -> int:
    """Tells whether a server would start with it, and what it would warn of."""
    problems = obstacles(loaded.settings)
    for problem in problems:
        sys.stderr.write(f"opensandbox-server: {loaded.path}: {problem}\n")
    for warning in loaded.warnings:
        sys.stdout.write(f"warning: {warning}\n")
    if not problems:
        sys.stdout.write(f"{loaded.path}: a server starts with it\n")
    return 1 if problems else 0


def schema() -> int:
    """Prints the JSON Schema of the configuration, for editors and other programs."""
    sys.stdout.write(json.dumps(Settings.model_json_schema(), indent=2) + "\n")
    return 0
