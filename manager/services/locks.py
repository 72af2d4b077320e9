"""One operation at a time per sandbox. Either an operation waits for its turn or it is refused, never both.

There is one turn per id and nobody holds two, so nothing can deadlock. Turns nobody holds or waits for take no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class LockHeld(Exception):
    """Raised when somebody else has the turn of this sandbox; `operation` is what they do with it."""

    def __init__(self, operation: str) -> None:
        super().__init__(f"{operation} is under way")
        self.operation = operation


class KeyedLocks:
    """Turns by sandbox id; used on one event loop only."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}
        self._doing: dict[str, str] = {}

    @asynccontextmanager
    async def take(self, sandbox_id: str, operation: str) -> AsyncIterator[None]:
        """Waits for the turn and holds it for `operation`."""
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
