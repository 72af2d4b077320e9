"""Flow control: reading from one side stops while somebody cannot take what it brings.

No other file pauses a transport. Several parties may have a reason at once (a slow other side, a request that is
still being dialled, bytes of the next request), so a valve counts reasons, not calls, and every verb may be repeated.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Protocol

from gateway.quotas import Quota

SLOW_PEER: Final = 1
"""The other side of the exchange has more unsent bytes than its high-water mark."""
NOT_READY: Final = 2
"""There is no other side yet: the upstream connection is being made, or a request was already read ahead."""
PACED: Final = 4
"""More bytes have passed than the sandbox may move in this time."""

ENDED: Final = 8
"""Nothing more can come: the peer has finished sending. Never taken back."""


class Held(Protocol):
    """Whose reading stands still, so that nobody hears of its peer's end."""

    def look(self) -> None:
        """Finds out whether the peer is still there; called once a second."""


class Valve:
    """The reading half of one transport; `owner` stands in `held` while it is closed."""

    __slots__ = ("_held", "_owner", "_transport", "reasons")

    def __init__(self, transport: asyncio.Transport, owner: Held | None = None, held: set[Held] | None = None) -> None:
        self._transport = transport
        self._owner = owner
        self._held = held
        self.reasons = 0
        """Why reading stands still, as a sum of reasons; 0 when it does not."""

    def hold(self, reason: int) -> None:
        """Stops reading for this reason."""
        if self.reasons == 0 and not self._transport.is_closing():
            self._transport.pause_reading()
            if self._held is not None and self._owner is not None:
                self._held.add(self._owner)
        self.reasons |= reason

    def release(self, reason: int) -> None:
        """Takes the reason back; reading goes on when it was the last."""
        if self.reasons == 0:
            return
        self.reasons &= ~reason
        if self.reasons == 0:
            if self._held is not None and self._owner is not None:
                self._held.discard(self._owner)
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def lose(self) -> None:
        """The connection is lost: nobody looks for its peer any more, and its owner is let go of."""
        if self._held is not None and self._owner is not None:
            self._held.discard(self._owner)
        self._owner = None


_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
"""Linux only; elsewhere the end of a peer whose bytes are not read shows when they are."""
PEER_GONE: Final = 7
"""TCP_CLOSE of the kernel: the peer has reset the connection."""
PEER_FINISHED: Final = 8
"""TCP_CLOSE_WAIT of the kernel: the peer has finished sending."""


def peer_state(transport: asyncio.Transport) -> int:
    """What the kernel knows of a connection that is not read from, as it numbers it; 0 where it does not say."""
    if _TCP_INFO is None or transport.is_closing():
        return 0
    try:
        return int(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0])
    except OSError:
        return 0


def pace(quota: Quota, count: int, valve: Valve, now: float) -> None:
    """Counts bytes that have passed, and holds the side they came from for as long as they were too many."""
    seconds = quota.spend(count, now)
    if seconds > 0.0:
        valve.hold(PACED)
        asyncio.get_running_loop().call_later(seconds, valve.release, PACED)
