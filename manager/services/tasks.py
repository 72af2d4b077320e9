"""Background tasks that survive their caller: referenced until done, and awaited at shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from manager.domain.errors import ManagerError

T = TypeVar("T")

_logger = logging.getLogger(__name__)


class Tasks:
    """The background work of the services."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Starts a task; an exception that is not awaited is logged once."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return task

    async def drain(self, seconds: float) -> None:
        """Waits so long for running tasks, then cancels the rest."""
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, ManagerError):
            _logger.info("%s: %s", task.get_name(), error.message)
        elif error is not None:
            _logger.error("%s failed", task.get_name(), exc_info=error)
