"""Rollback: every step of a create pushes its undo before it begins."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from manager.domain import errors

log = logging.getLogger(__name__)


class Undo:
    """A stack of undos. An undo must do no harm when its step never happened: a step may fail anywhere."""

    def __init__(self) -> None:
        self._stack: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    def push(self, what: str, undo: Callable[[], Awaitable[object]]) -> None:
        """Registers the undo of the next step; `what` names it in the log."""
        self._stack.append((what, undo))

    async def run(self) -> bool:
        """Runs all undos, last first; a failure is logged and the rest continues. True when all succeeded."""
        clean = True
        while self._stack:
            what, undo = self._stack.pop()
            try:
                await undo()
            except errors.ManagerError as error:
                clean = False
                log.warning("could not remove %s: %s", what, error.message)
        return clean
