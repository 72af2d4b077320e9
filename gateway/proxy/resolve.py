"""Sandboxes that cannot answer: why not, and what the manager may know or do about it.

An id that the route table does not hold is asked for while the manager may know more, and a paused sandbox that wakes
is resumed: one question per id at a time, whatever the number of requests that wait for its answer.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.errors import (
    GatewayError,
    SandboxDeleted,
    SandboxExpired,
    SandboxNotFound,
    SandboxPaused,
    SandboxStarting,
    SandboxStopped,
    SandboxUnavailable,
    SandboxWaking,
)
from gateway.limits import Limits
from gateway.table import Removal, Resolution, Resolver, RouteState, RouteTable, SandboxRoute

MAX_RESOLVING: Final = 256
"""Most ids asked for at once; a caller who guesses ids must not be able to flood the runtime."""
_STATES: dict[RouteState, type[GatewayError]] = {
    RouteState.STARTING: SandboxStarting,
    RouteState.PAUSED: SandboxPaused,
    RouteState.STOPPED: SandboxStopped,
}
_REMOVALS: dict[Removal, type[GatewayError]] = {
    Removal.DELETED: SandboxDeleted,
    Removal.EXPIRED: SandboxExpired,
    Removal.PAUSED: SandboxPaused,
    Removal.STOPPED: SandboxStopped,
    Removal.REPLACED: SandboxUnavailable,
    Removal.REVOKED: SandboxUnavailable,
}


def for_state(state: RouteState) -> GatewayError | None:
    """Why a sandbox in this state cannot answer, or None when it can."""
    kind = _STATES.get(state)
    return None if kind is None else kind()


def for_removal(reason: Removal) -> GatewayError:
    """The error for a sandbox that was removed from the table."""
    return _REMOVALS[reason]()


class Resolving:
    """The questions that are open at the manager, which is `resolver`; without one the table is all there is."""

    def __init__(self, table: RouteTable, limits: Limits, resolver: Resolver | None) -> None:
        self._table = table
        self._limits = limits
        self._resolver = resolver
        self._asked: dict[bytes, asyncio.Task[Resolution]] = {}
        self._waking: dict[bytes, asyncio.Task[Resolution]] = {}
        self._parked = 0
        """Requests that wait for a sandbox to wake."""

    def missing(self, sandbox_id: bytes, viewer: str | None = None) -> GatewayError:
        """What to say of an id that the table does not hold; to a viewer of its own only, nothing of what was not."""
        removal = self._table.gone(sandbox_id)
        if removal is None or (viewer is not None and self._table.owner_of(sandbox_id) != viewer):
            return SandboxNotFound()
        return for_removal(removal)

    async def resolve(self, sandbox_id: bytes, viewer: str | None = None) -> SandboxRoute:
        """Asks the manager for an id that the table does not hold.

        Raises SandboxNotFound or one of its kind, SandboxUnavailable when the manager cannot tell.
        """
        if self._resolver is None:
            raise self.missing(sandbox_id, viewer)
        task = self._asked.get(sandbox_id)
        if task is None:
            if len(self._asked) >= MAX_RESOLVING:
                raise SandboxUnavailable
            task = asyncio.ensure_future(self._resolver.resolve(sandbox_id.decode("ascii")))
            self._asked[sandbox_id] = task
            task.add_done_callback(lambda _: self._asked.pop(sandbox_id, None))
        resolution = await asyncio.shield(task)
        if resolution is Resolution.UNAVAILABLE:
            raise SandboxUnavailable
        route = self._table.get(sandbox_id)
        if route is None:
            raise self.missing(sandbox_id, viewer)
        return route

    async def wake(self, sandbox_id: bytes) -> SandboxRoute:
        """Has a paused sandbox resumed; the attempt goes on when those who wait for it give up.

        Raises SandboxWaking when it takes too long or too many wait, SandboxPaused when it cannot be woken.
        """
        if self._resolver is None or self._parked >= self._limits.wake_max_waiting:
            raise SandboxWaking
        task = self._waking.get(sandbox_id)
        if task is None:
            task = self._waking[sandbox_id] = asyncio.ensure_future(self._resolver.wake(sandbox_id.decode("ascii")))
            task.add_done_callback(lambda _: self._waking.pop(sandbox_id, None))
        self._parked += 1
        try:
            async with asyncio.timeout(self._limits.wake_budget):
                await asyncio.shield(task)
        except TimeoutError:
            raise SandboxWaking from None
        finally:
            self._parked -= 1
        route = self._table.get(sandbox_id)
        if route is None:
            raise self.missing(sandbox_id)
        if route.state is RouteState.PAUSED:
            raise SandboxPaused("This sandbox is paused and could not be woken. Resume it through the API.")
        return route
