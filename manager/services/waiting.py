"""Waits until a sandbox has reached a state, for long polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from manager.domain.sandbox import Sandbox
from manager.services.inventory import Change

Condition = Callable[[Sandbox | None], bool]


class Waiting:
    """Waiters by sandbox id."""

    def __init__(self) -> None:
        self._waiters: dict[str, dict[asyncio.Future[None], Condition]] = {}
        self._closed = False

    def on_change(self, change: Change) -> None:
        """Wakes the waiters whose condition holds now."""
        for future, condition in self._waiters.get(change.sandbox_id, {}).items():
            if not future.done() and condition(change.after):
                future.set_result(None)

    async def until(self, sandbox_id: str, now: Sandbox | None, condition: Condition, seconds: float) -> None:
        """Returns when the condition holds, or after so many seconds; `now` is the sandbox at the moment."""
        if condition(now) or self._closed:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(sandbox_id, {})
        waiters[future] = condition
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return
        finally:
            del waiters[future]
            if not waiters:
                self._waiters.pop(sandbox_id, None)

    def close(self) -> None:
        """Wakes all waiters; used at shutdown."""
        self._closed = True
        for waiters in self._waiters.values():
            for future in waiters:
                if not future.done():
                    future.set_result(None)
