"""The files that run the server in a container name what exists."""

from __future__ import annotations

import re
from pathlib import Path

from manager.settings.load import load_settings
from manager.settings.unsupported import refusals

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config"


def _copied() -> list[str]:
    """What the image is built from, without what one stage takes from the other."""
    lines = re.findall(r"^COPY (?!--from)(.*) \S+$", (CONFIG / "Dockerfile").read_text(), re.MULTILINE)
    return [name for line in lines for name in line.split()]


def test_what_is_copied_exists_and_is_let_through() -> None:
    """A moved file fails here, not in somebody's build; the ignore file lets exactly these through."""
    let_through = re.findall(r"^!(\S+)$", (CONFIG / "Dockerfile.dockerignore").read_text(), re.MULTILINE)

    assert all((ROOT / name).exists() for name in _copied())
    assert sorted(let_through) == sorted(_copied())


def test_the_mounted_example_starts() -> None:
    """The configuration compose mounts is one this version starts with, given a key from the environment."""
    name = re.search(r"OPENSANDBOX_CONFIG:-\./(\S+)}", (CONFIG / "compose.yaml").read_text())
    assert name is not None
    loaded = load_settings(CONFIG / name[1], {"OPENSANDBOX_SERVER_API_KEY": "a key of one's own"})

    assert refusals(loaded.settings) == []
    assert not any("api_key" in warning for warning in loaded.warnings)
