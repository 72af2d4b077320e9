"""`opensandbox-server store check|backup|restore`."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from manager.domain.errors import Unavailable
from manager.settings.model import Settings
from manager.store import maintenance

T = TypeVar("T")


def check_store(settings: Settings) -> int:
    """Whether the store's file is sound."""
    path = _path(settings)
    problems = maintenance.check(path)
    if problems:
        return _refuse(path, "; ".join(problems))
    old, new = maintenance.schema(path)
    _say(f"{path}: sound, schema {old}" + ("" if old == new else f", which the next start brings to {new}"))
    return 0


def back_up(settings: Settings, target: Path) -> int:
    """A copy of the store in `target`, also while a server runs."""
    path = _path(settings)
    problems = maintenance.check(path)
    if problems:
        return _refuse(path, "; ".join(problems))
    return _carried_out(target, lambda: maintenance.backup(path, target), lambda _: f"copied {path} to {target}")


def put_back(settings: Settings, source: Path) -> int:
    """The copy in the store's place, while no server runs."""
    path = _path(settings)

    def said(former: Path | None) -> str:
        kept = f"; the former one is {former}" if former else ""
        return f"restored {path} from {source}{kept}"

    return _carried_out(path, lambda: maintenance.restore(source, path), said)


def _carried_out(path: Path, work: Callable[[], T], said: Callable[[T], str]) -> int:
    try:
        _say(said(work()))
    except FileExistsError:
        return _refuse(path, "is there already; choose another name")
    except Unavailable as error:
        return _refuse(path, error.message)
    except OSError as error:
        return _refuse(path, f"cannot be written: {error.strerror}")
    except sqlite3.Error as error:
        return _refuse(path, str(error))
    return 0


def _path(settings: Settings) -> Path:
    return Path(settings.store.path).expanduser()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _refuse(path: Path, why: str) -> int:
    sys.stderr.write(f"opensandbox-server: {path}: {why}\n")
    return 1
