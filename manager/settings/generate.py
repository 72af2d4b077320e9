"""Regenerates the files of the repository that are made from the model, or checks that they are up to date."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from manager.settings.reference import reference_page
from manager.settings.template import render, skeleton
from manager.settings.unsupported import OFFERED


def generated() -> Mapping[str, str]:
    """Path in the repository → text, of every generated file."""
    files = {f"config/{name}.toml": render(example) for name, example in OFFERED.items()}
    return {**files, "config/everything.toml": skeleton(), "docs/configuration.md": reference_page()}


def stale(root: Path) -> list[str]:
    """The generated files below `root` that are missing or out of date."""
    return [path for path, text in generated().items() if _text(root / path) != text]


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


def main(arguments: Sequence[str], root: Path) -> int:
    """Writes every file, or with --check writes none and returns 1 when one is out of date."""
    if arguments not in ([], ["--check"]):
        print("usage: scripts/generate [--check]", file=sys.stderr)  # noqa: T201
        return 2
    old = stale(root)
    if arguments:
        for path in old:
            print(f"{path} is out of date; run scripts/generate", file=sys.stderr)  # noqa: T201
        return 1 if old else 0
    for path in old:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(generated()[path], encoding="utf-8")
        print(f"wrote {path}")  # noqa: T201
    return 0
