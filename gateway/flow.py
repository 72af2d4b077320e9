"""Flow control: reading from one side is paused for backpressure, and for fairness between connections.

No other file pauses a transport. Several parties may have a reason at once (a slow other side, a request that is
still being dialled, bytes of the next request), so a valve counts reasons, not calls, and every verb may be repeated.

One loop serves everybody, so nobody may keep it. libuv reads a socket up to 32 times in a row as long as each read
fills the buffer (256 000 bytes), and a few kilobytes can be thousands of chunks or frames. So whoever has brought a
lot, or has more to be worked on than fits, stops being read and waits: `put_off` calls a few of them in each turn of
the loop, in their order. Everybody else is read and answered in between.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

_T = TypeVar("_T")

SLOW_PEER: Final = 1
"""The other side of the exchange has more unsent bytes than its high-water mark."""
NOT_READY: Final = 2
"""There is no other side yet: the upstream connection is being made, or a request was already read ahead."""
PACED: Final = 4
"""More bytes have passed than the sandbox may move in this time."""
ENDED: Final = 8
"""Nothing more can come: the peer has finished sending. Never taken back."""
LATER: Final = 16
"""It has had its share of this iteration of the loop."""

SHARE_BYTES: Final = 65536
"""A connection that received so many bytes in one read yields to others before the next."""
_PER_TURN: Final = 4
"""How many waiting connections continue per iteration: each may take a good part of a millisecond."""


class _Turns:
    """Callbacks deferred to later iterations of one loop."""

    __slots__ = ("_scheduled", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def add(self, work: Callable[[], None]) -> None:
        self._waiting.append(work)
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        waiting = self._waiting
        try:
            for _ in range(min(_PER_TURN, len(waiting))):
                waiting.popleft()()
        finally:
            self._scheduled = False
            if waiting:
                self._schedule()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


def put_off(work: Callable[[], None]) -> None:
    """Calls `work` in a later turn of the running loop, after all that wait already, a few in each turn."""
    loop = asyncio.get_running_loop()
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = _Turns()
    turns.add(work)


def in_turns(work: Callable[[_T], None], items: Sequence[_T], most: int, start: int = 0) -> None:
    """Calls `work` with each of the items, `most` of them now and as many in each later turn of the loop."""
    for item in items[start : start + most]:
        work(item)
    if start + most < len(items):
        put_off(partial(in_turns, work, items, most, start + most))


class Held(Protocol):
    """A connection whose reading is paused, so that the end of its peer goes unnoticed."""

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
        """Why reading is paused, as a bit set of reasons; 0 when it is not."""

    def hold(self, reason: int) -> None:
        """Stops reading for this reason."""
        if self.reasons == 0 and not self._transport.is_closing():
            self._transport.pause_reading()
            if self._held is not None and self._owner is not None:
                self._held.add(self._owner)
        self.reasons |= reason

    def release(self, reason: int) -> None:
        """Removes the reason; reading resumes when it was the last."""
        if self.reasons == 0:
            return
        self.reasons &= ~reason
        if self.reasons == 0:
            if self._held is not None and self._owner is not None:
                self._held.discard(self._owner)
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def pause_for(self, seconds: float) -> None:
        """Stops reading for so long, since more bytes have passed than may; 0.0 is no pause."""
        if seconds > 0.0:
            self.hold(PACED)
            asyncio.get_running_loop().call_later(seconds, self.release, PACED)

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
