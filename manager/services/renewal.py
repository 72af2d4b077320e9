"""Renewal by traffic: sandboxes that opted in expire so many seconds after they were last used.

The gateway leaves the time of the last byte on the route; this sweep looks at it every few seconds. A renewal is one
write to the store, so a busy sandbox is renewed at most once per interval.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from gateway.table import RouteTable
from manager.domain import extensions
from manager.domain.errors import ManagerError
from manager.domain.events import Cause, Origin
from manager.domain.sandbox import SandboxState
from manager.services.clock import Clock
from manager.services.inventory import Change, Inventory
from manager.services.origin import originating
from manager.services.sandboxes import Sandboxes

SWEEP_SECONDS = 5.0

_logger = logging.getLogger(__name__)


class Renewal:
    """The sandboxes whose expiry follows their traffic."""

    def __init__(
        self,
        inventory: Inventory,
        sandboxes: Sandboxes,
        table: RouteTable,
        clock: Clock,
        *,
        min_interval: float,
        steady: Callable[[], float],
    ) -> None:
        """`steady` is the clock the gateway stamps routes with, in seconds."""
        self._inventory = inventory
        self._sandboxes = sandboxes
        self._table = table
        self._clock = clock
        self._min_interval = min_interval
        self._steady = steady
        self._opted: dict[str, int] = {}
        self._renewed: dict[str, float] = {}

    def on_change(self, change: Change) -> None:
        """Tracks which sandboxes opted in."""
        seconds = None if change.after is None else extensions.renew_seconds(change.after.extensions)
        if seconds is None:
            self._opted.pop(change.sandbox_id, None)
            self._renewed.pop(change.sandbox_id, None)
        else:
            self._opted[change.sandbox_id] = seconds

    async def run(self) -> None:
        """Sweeps until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """Renews everything that was used since it was renewed last."""
        for sandbox_id, seconds in list(self._opted.items()):
            try:
                await self._consider(sandbox_id, seconds)
            except ManagerError as error:
                _logger.info("cannot renew sandbox %s after its use: %s", sandbox_id, error.message)

    async def _consider(self, sandbox_id: str, seconds: int) -> None:
        route, sandbox = self._table.get(sandbox_id.encode()), self._inventory.get(sandbox_id)
        if route is None or sandbox is None or sandbox.expires_at is None:
            return
        now, last = self._steady(), self._renewed.get(sandbox_id)
        unused = not route.last_active or (last is not None and route.last_active <= last)
        too_soon = last is not None and now - last < self._min_interval
        if unused or too_soon or sandbox.status.state is not SandboxState.RUNNING:
            return
        used_at = self._clock() - timedelta(seconds=max(0.0, now - route.last_active))
        until = used_at + timedelta(seconds=seconds)
        self._renewed[sandbox_id] = now
        if until > sandbox.expires_at:
            with originating(Origin(Cause.RENEWED)):
                await self._sandboxes.renew(sandbox_id, until)
