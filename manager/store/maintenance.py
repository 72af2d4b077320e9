"""Copies of the store's file: made while a server writes it, checked, and put back while none does."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from manager.domain.codes import STORE_UNAVAILABLE
from manager.domain.errors import Unavailable
from manager.store.database import locked
from manager.store.migrations import MIGRATIONS

BUSY_SECONDS: Final = 5.0
_BESIDE: Final = ("-wal", "-shm")


def check(path: Path) -> list[str]:
    """What is wrong with the file; empty when a server can use it, now or after it has brought it up to date."""
    if not path.is_file():
        return ["there is no such file"]
    try:
        with closing(_reading(path)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.Error as error:
        return [str(error)]
    if found != ["ok"]:
        return found
    if version > len(MIGRATIONS):
        return [f"it has schema {version}, which a newer server wrote; this one knows {len(MIGRATIONS)}"]
    if version == 0 and tables:
        return ["it holds the tables of another program, such as the released opensandbox-server"]
    return []


def schema(path: Path) -> tuple[int, int]:
    """The schema of the file, and the one this server brings it to."""
    with closing(_reading(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0]), len(MIGRATIONS)


def backup(path: Path, target: Path) -> None:
    """Writes a copy of the store as it is at one moment, in one file; a server may go on writing meanwhile.

    Raises FileExistsError, OSError and sqlite3.Error; `target` is whole or not there.
    """
    if target.exists():
        raise FileExistsError(target)
    with _whole(target) as place, closing(_reading(path)) as source, closing(sqlite3.connect(place)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")


def restore(source: Path, path: Path) -> Path | None:
    """Puts a copy in the store's place; returns where the former file is now, if there was one.

    Raises Unavailable while a server uses the store or when the copy is not sound, OSError, sqlite3.Error. An older
    schema is brought up to date by the next start.
    """
    problems = check(source)
    if problems:
        raise Unavailable(STORE_UNAVAILABLE, f"{source} is no copy of a store: {'; '.join(problems)}")
    with locked(path):
        former = _put_aside(path)
        with _whole(path) as place, closing(_reading(source)) as copy, closing(sqlite3.connect(place)) as store:
            copy.backup(store)
            store.execute("PRAGMA journal_mode=DELETE")
    return former


def _put_aside(path: Path) -> Path | None:
    if not path.exists():
        return None
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what is in the log beside it belongs to it
    number = 1
    while (aside := path.with_name(f"{path.name}.replaced-{number}")).exists():
        number += 1
    path.rename(aside)
    for end in _BESIDE:
        path.with_name(path.name + end).unlink(missing_ok=True)
    return aside


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A private file beside `target` that takes its name once it is written and on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = target.with_name(f".{target.name}.{os.getpid()}")
    os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        yield place
        with place.open("rb") as file:
            os.fsync(file.fileno())
        place.rename(target)
    except BaseException:
        place.unlink(missing_ok=True)
        raise


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
