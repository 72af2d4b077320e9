"""Keyed locks: one operation at a time per sandbox. An operation either waits for the lock or is refused.

There is one lock per id and no task holds two, so there is no deadlock. Unused locks take no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class LockHeld(Exception):
    """Raised when the lock of this sandbox is held; `operation` names the holder."""

    def __init__(self, operation: str) -> None:
        super().__init__(f"{operation} is under way")
        self.operation = operation


class KeyedLocks:
    """Locks by sandbox id; used on one event loop only."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}
        self._doing: dict[str, str] = {}

    @asynccontextmanager
    async def take(self, sandbox_id: str, operation: str) -> AsyncIterator[None]:
        """Waits for the lock and holds it for `operation`."""
        with self._registered(sandbox_id) as lock:
            async with lock:
                self._doing[sandbox_id] = operation
                yield

    @asynccontextmanager
    async def try_acquire(self, sandbox_id: str, operation: str) -> AsyncIterator[None]:
        """Holds the turn for `operation` if it is free; raises Busy otherwise."""
        with self._registered(sandbox_id) as lock:
            if lock.locked():
                raise LockHeld(self._doing.get(sandbox_id, "another operation"))
            async with lock:
                self._doing[sandbox_id] = operation
                yield

    def __len__(self) -> int:
        return len(self._locks)

    @contextmanager
    def _registered(self, sandbox_id: str) -> Iterator[asyncio.Lock]:
        lock = self._locks.setdefault(sandbox_id, asyncio.Lock())
        self._users[sandbox_id] = self._users.get(sandbox_id, 0) + 1
        try:
            yield lock
        finally:
            self._users[sandbox_id] -= 1
            if not self._users[sandbox_id]:
                del self._users[sandbox_id], self._locks[sandbox_id]
                self._doing.pop(sandbox_id, None)
