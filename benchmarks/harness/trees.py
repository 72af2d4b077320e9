"""Checkouts whose data planes are compared in one run: the same benchmark, each with the code of its own commit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parents[2]


def trees(given: Sequence[str]) -> dict[str, Path]:
    """Checkouts by name from `NAME=PATH` as options give them; exits when one is none."""
    named = dict(text.partition("=")[::2] for text in given)
    found = {name: Path(path).resolve() for name, path in named.items()}
    for name, path in found.items():
        if not (path / "gateway" / "gateway.py").is_file():
            sys.exit(f"--tree {name}={path}: there is no gateway/gateway.py")
    return found


def of(tree: Path) -> Mapping[str, str]:
    """The environment in which a program imports the packages of the tree."""
    return {"PYTHONPATH": str(tree)}


def commit(tree: Path) -> str:
    """What a checkout holds, as git names it."""
    asked = ["git", "-C", str(tree), "describe", "--always", "--dirty"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
