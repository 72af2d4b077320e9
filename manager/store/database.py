"""The database file: one thread owns the connection, callers submit short jobs and await their results.

Jobs that are queued together share one commit, hence one fsync: each runs in its own savepoint, so that a failing one
affects no other, and none is reported as done before the commit has reached the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from manager.domain.codes import STORE_UNAVAILABLE
from manager.domain.errors import Unavailable
from manager.store.migrations import MIGRATIONS

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

BUSY_SECONDS = 5.0
"""How long a job waits for a lock of another process on the file."""

_BATCH = 64
_STOP = None
_FULL_ERRORS = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_BUSY_ERRORS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


@dataclass(slots=True)
class _Pending:
    job: Job[Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    outcome: Any = None
    error: Exception | None = field(default=None)

    def deliver(self) -> None:
        """Resolves the caller's future, from the writer's thread."""
        try:
            self.loop.call_soon_threadsafe(self._settle)
        except RuntimeError:
            return  # the loop is closed: the future has no waiter

    def _settle(self) -> None:
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.outcome)
        else:
            self.future.set_exception(self.error)


class Database:
    """An open database file."""

    def __init__(self, path: Path) -> None:
        """Opens the file and brings it to the present schema; raises Unavailable when that cannot be done."""
        self._path = path
        self._jobs: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._closed = False
        with contextlib.ExitStack() as undo:
            try:
                self._lock = _lock(path)
                undo.callback(os.close, self._lock)
                self._connection = _open(path)
                undo.callback(self._connection.close)
                _migrate(self._connection)
            except (sqlite3.Error, OSError) as error:
                raise _unavailable(path, error) from error
            undo.pop_all()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._thread.start()

    async def run(self, job: Job[T]) -> T:
        """Runs `job` on the writer's thread and returns once it is on the disk; raises Unavailable."""
        if self._closed:
            raise Unavailable(STORE_UNAVAILABLE, "the server is stopping and its store is closed; try again shortly")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Pending(job, future, loop))
        return await future

    async def write(self, statement: str, rows: Iterable[Sequence[str | None]]) -> None:
        """Runs one statement for each row; on the disk when this returns. Raises Unavailable."""
        values = list(rows)

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(statement, values)

        await self.run(job)

    async def close(self) -> None:
        """Finishes all submitted jobs and closes the file; calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(_STOP)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _work(self) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._collect()
            self._execute(batch)
        self._connection.close()
        os.close(self._lock)

    def _collect(self) -> tuple[list[_Pending], bool]:
        batch: list[_Pending] = []
        item = self._jobs.get()
        while True:
            if item is _STOP:
                return batch, True
            batch.append(item)
            if len(batch) >= _BATCH or self._jobs.empty():
                return batch, False
            item = self._jobs.get()

    def _execute(self, batch: list[_Pending]) -> None:
        try:
            if batch:
                self._transact(batch)
        except sqlite3.Error as error:
            self._roll_back()
            for pending in batch:
                pending.error = _unavailable(self._path.name, error)
        for pending in batch:
            pending.deliver()

    def _transact(self, batch: list[_Pending]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        for pending in batch:
            connection.execute("SAVEPOINT job")
            try:
                pending.outcome = pending.job(connection)
            except Exception as error:  # an exception of one job goes to its caller, not to the others
                if isinstance(error, sqlite3.OperationalError):
                    raise
                pending.error = error
                connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
        connection.execute("COMMIT")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                return  # SQLite has already undone the transaction itself


def _lock(path: Path) -> int:
    """Locks the file for this process; the kernel releases the lock however the process ends.

    Two servers on one file would each delete the other's records as those of unknown sandboxes.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        message = f"the store {path} is in use by another server; give each its own store.path, or stop the other"
        raise Unavailable(STORE_UNAVAILABLE, message) from None
    return descriptor


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps servers away from the file; raises Unavailable while one uses it."""
    descriptor = _lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> sqlite3.Connection:
    # The file contains callers' data: other users of the machine may not read it.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Applies the migrations this file has not seen, each in one transaction with its number."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError(f"the file has schema {version}, written by a newer server")
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise sqlite3.DatabaseError("it holds the tables of another program, such as an earlier opensandbox-server")
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")


def _unavailable(path: Path | str, error: sqlite3.Error | OSError) -> Unavailable:
    """The failure in words that name the file and the remedy; the type of the failure picks the remedy.

    Callers of the API see what fails while the server runs: the file's directories are not for them.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _FULL_ERRORS:
        remedy = "its disk is full or failing: free some space there"
    elif code in _BUSY_ERRORS:
        remedy = f"another process has held it for more than {BUSY_SECONDS:.0f} s: stop that process"
    elif code == sqlite3.SQLITE_READONLY or isinstance(error, PermissionError):
        remedy = "it may not be written: give this user the right to, or set store.path to another place"
    elif isinstance(error, OSError):
        remedy = f"it cannot be opened ({error.strerror}): set store.path to a place that can be written"
    else:
        remedy = f"it cannot be used ({error}): set store.path to another place, or move the file away"
    return Unavailable(STORE_UNAVAILABLE, f"the store {path} does not work; {remedy}, then try again", retry_after=5)
