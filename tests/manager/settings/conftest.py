"""How the tests of the configuration write files and read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from manager.settings.load import ConfigError, Loaded, load_settings

RUNTIME = '[runtime]\ntype = "docker"\nexecd_image = "opensandbox/execd:latest"\n'

Load = Callable[..., Loaded]
Refused = Callable[..., tuple[str, ...]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a configuration text, by default with the two required keys before it and an empty environment."""

    def from_text(text: str = "", *, runtime: str = RUNTIME, environ: Mapping[str, str] | None = None) -> Loaded:
        file = tmp_path / "sandbox.toml"
        file.write_text(runtime + text)
        return load_settings(file, environ or {})

    return from_text


@pytest.fixture
def refused(load: Load) -> Refused:
    """The lines with which a configuration text is refused."""

    def from_text(text: str = "", **options: object) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            load(text, **options)
        return caught.value.lines

    return from_text
