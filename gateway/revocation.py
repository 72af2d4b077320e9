"""Ends what is open on routes whose sandbox is gone, or what a key has let in that is no longer one.

A few thousand ends would keep everybody else waiting for a tenth of a second, so only some are made at once and the
others in later turns of the loop (`flow.put_off`), whatever number of routes they are on. What began later than the
revocation is not meant: a route that comes back, or a client that comes again, has nothing to fear.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from gateway.flow import put_off

if TYPE_CHECKING:
    from gateway.table import Live, Removal, SandboxRoute

AT_ONCE: Final = 32
"""Most ends in one turn of the loop: each writes an error response or a close frame, in some 0.05 ms."""

log = logging.getLogger(__name__)


class _Revocation:
    """Of one route: everything that had begun by now, or what one of these keys had let in."""

    __slots__ = ("_before", "_found", "_keys", "_reason", "_route")

    def __init__(self, route: SandboxRoute, reason: Removal, keys: frozenset[bytes] | None) -> None:
        self._route = route
        self._reason = reason
        self._keys = keys
        self._before = time.monotonic()
        self._found: list[Live] = []

    def end_one(self) -> bool:
        """Ends one connection; False when there is none left."""
        live = self._route.live
        while self._found or self._find():
            one = self._found.pop()
            if one in live and self._means(one):
                live.discard(one)
                try:
                    one.revoke(self._reason)
                except Exception:
                    # Whoever removes a route must be sure that it is gone, whatever one connection makes of it.
                    log.exception("a connection could not be closed")
                return True
        return False

    def _find(self) -> bool:
        """Looks again when all that was found has ended: a request may have become a tunnel meanwhile."""
        self._found = [one for one in self._route.live if self._means(one)]
        return bool(self._found)

    def _means(self, one: Live) -> bool:
        return one.since <= self._before and (self._keys is None or not self._keys.isdisjoint(one.keys))


class Revocations:
    """All that are under way in one route table."""

    __slots__ = ("_left", "_scheduled", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[_Revocation] = deque()
        self._left = AT_ONCE
        """How many more may end before the next turn of the loop."""
        self._scheduled = False

    def begin(self, route: SandboxRoute, reason: Removal, keys: frozenset[bytes] | None = None) -> None:
        """Ends what is open on the route, or only what one of the keys has let in."""
        if route.live:
            self._waiting.append(_Revocation(route, reason, keys))
            self._work()

    def _work(self) -> None:
        waiting = self._waiting
        while waiting and self._left:
            if waiting[0].end_one():
                self._left -= 1
            else:
                waiting.popleft()
        if not self._left and not self._scheduled:
            self._scheduled = True
            put_off(self._go_on)

    def _go_on(self) -> None:
        self._scheduled = False
        self._left = AT_ONCE
        self._work()
