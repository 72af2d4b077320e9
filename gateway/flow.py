"""Flow control: reading from one side stops while somebody cannot take what it brings.

No other file pauses a transport. Several parties may have a reason at once (a slow other side, a request that is
still being dialled, bytes of the next request), so a valve counts reasons, not calls, and every verb may be repeated.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.quotas import Quota

SLOW_PEER: Final = 1
"""The other side of the exchange has more unsent bytes than its high-water mark."""
NOT_READY: Final = 2
"""There is no other side yet: the upstream connection is being made, or a request was already read ahead."""
PACED: Final = 4
"""More bytes have passed than the sandbox may move in this time."""


class Valve:
    """The reading half of one transport."""

    __slots__ = ("_transport", "reasons")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.reasons = 0
        """Why reading stands still, as a sum of reasons; 0 when it does not."""

    def hold(self, reason: int) -> None:
        """Stops reading for this reason."""
        if self.reasons == 0 and not self._transport.is_closing():
            self._transport.pause_reading()
        self.reasons |= reason

    def release(self, reason: int) -> None:
        """Takes the reason back; reading goes on when it was the last."""
        if self.reasons == 0:
            return
        self.reasons &= ~reason
        if self.reasons == 0 and not self._transport.is_closing():
            self._transport.resume_reading()


def pace(quota: Quota, count: int, valve: Valve, now: float) -> None:
    """Counts bytes that have passed, and holds the side they came from for as long as they were too many."""
    seconds = quota.spend(count, now)
    if seconds > 0.0:
        valve.hold(PACED)
        asyncio.get_running_loop().call_later(seconds, valve.release, PACED)
