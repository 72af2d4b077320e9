"""Where sandboxes run and what is remembered of them: the one place that knows which runtimes there are."""

from __future__ import annotations

from pathlib import Path

from manager.runtime.base import Runtime
from manager.runtime.docker.runtime import DockerRuntime
from manager.runtime.records import Records
from manager.settings.model import Settings
from manager.store.store import Store


def open_backend(settings: Settings, config: Path) -> tuple[Runtime, Records]:
    """The runtime that `runtime.type` names, and its records; nothing is called before `Runtime.start`.

    `config` is the file that the settings are from. Raises Unavailable when the records cannot be opened, Invalid when
    what the configuration names cannot be read.
    """
    # `kubernetes` is refused when the configuration is loaded (`manager.settings.unsupported`).
    store = Store(Path(settings.store.path).expanduser())
    return DockerRuntime(settings, config=config), store
