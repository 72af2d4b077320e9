"""Pauses idle sandboxes and resumes them on request, where `access.pause.after.idle.seconds` is set.

Idle means: no request or tunnel open, and none has moved a byte for so many seconds. Unknown time, such as that before
this server started, counts as use. One resume serves all waiting requests, and it continues when their clients
disconnect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.table import RouteTable
from manager.domain import extensions
from manager.domain.errors import ManagerError
from manager.domain.events import Cause, Origin
from manager.domain.sandbox import SandboxState
from manager.services.inventory import Change, Inventory
from manager.services.origin import originating
from manager.services.sandboxes import Sandboxes
from manager.services.tasks import Tasks

SWEEP_SECONDS = 5.0

_logger = logging.getLogger(__name__)


class IdlePause:
    """The sandboxes that are paused when idle."""

    def __init__(
        self,
        inventory: Inventory,
        sandboxes: Sandboxes,
        table: RouteTable,
        tasks: Tasks,
        steady: Callable[[], float],
    ) -> None:
        """`steady` is the clock the gateway stamps routes with, in seconds."""
        self._inventory = inventory
        self._sandboxes = sandboxes
        self._table = table
        self._tasks = tasks
        self._steady = steady
        self._asked: dict[str, int] = {}
        self._awake_since: dict[str, float] = {}
        self._waking: dict[str, asyncio.Task[bool]] = {}

    def on_change(self, change: Change) -> None:
        """Tracks which sandboxes opted in, and since when each has been running."""
        after = change.after
        seconds = None if after is None else extensions.idle_seconds(after.extensions)
        if after is None or seconds is None:
            self._asked.pop(change.sandbox_id, None)
            self._awake_since.pop(change.sandbox_id, None)
            return
        self._asked[change.sandbox_id] = seconds
        if after.status.state is not SandboxState.RUNNING:
            self._awake_since.pop(change.sandbox_id, None)
        else:
            self._awake_since.setdefault(change.sandbox_id, self._steady())

    async def run(self) -> None:
        """Sweeps until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """Pauses every sandbox that has been idle for its configured time."""
        now = self._steady()
        idle = [sandbox_id for sandbox_id, seconds in self._asked.items() if self._idle_for(sandbox_id, now) >= seconds]
        for sandbox_id in idle:
            try:
                with originating(Origin(Cause.IDLE)):
                    await self._sandboxes.pause(sandbox_id)
                _logger.info("paused sandbox %s, which nobody uses", sandbox_id)
            except ManagerError as error:
                _logger.info("cannot pause sandbox %s, which nobody uses: %s", sandbox_id, error.message)

    async def wake(self, sandbox_id: str) -> bool:
        """Resumes a paused sandbox that opted in; whether it runs now. Does not raise."""
        work = self._waking.get(sandbox_id)
        if work is None:
            if sandbox_id not in self._asked:
                return False
            work = self._tasks.spawn(self._resume(sandbox_id), f"wake {sandbox_id}")
            self._waking[sandbox_id] = work
            work.add_done_callback(lambda _: self._waking.pop(sandbox_id, None))
        return await asyncio.shield(work)

    async def _resume(self, sandbox_id: str) -> bool:
        try:
            with originating(Origin(Cause.WOKEN)):
                await self._sandboxes.resume(sandbox_id)
        except ManagerError as error:
            _logger.info("cannot wake sandbox %s: %s", sandbox_id, error.message)
        sandbox = self._inventory.get(sandbox_id)
        return sandbox is not None and sandbox.status.state is SandboxState.RUNNING

    def _idle_for(self, sandbox_id: str, now: float) -> float:
        awake_since, route = self._awake_since.get(sandbox_id), self._table.get(sandbox_id.encode())
        if awake_since is None or route is None or route.open:
            return 0.0
        return now - max(awake_since, route.last_active)
