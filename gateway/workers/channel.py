"""The channel between the first process and a worker: a stream of `messages`, a line each.

It is one end of a socket pair that the worker inherits: it has no name, so nobody else can join, and it ends with the
process at either side of it. Tokens and keys travel on nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.flow import LATER, Valve, put_off
from gateway.workers.messages import Message, decode, encode

_PER_TURN: Final = 32
"""Most messages that are taken in one turn of the loop; a read can hold a thousand."""
_BYTES_PER_TURN: Final = 16384
"""After so many bytes no other message is taken: to decode them takes about a millisecond."""


class Channel(asyncio.Protocol):
    """One end of the channel between the first process and a worker."""

    _transport: asyncio.Transport
    _valve: Valve

    def __init__(
        self,
        take: Callable[[Message], None],
        lost: Callable[[], None],
        applied: Callable[[], None] = lambda: None,
    ) -> None:
        """`take` gets every message in order; `lost` is called once, when the other end has gone.

        `applied` is called whenever some have been taken.
        """
        self._take = take
        self._lost = lost
        self._applied = applied
        self._rest = bytearray()
        self._seen = 0
        """How much of that has no end of a line in it."""
        self._resting = False
        """Whether what is there waits for a later turn."""
        self._ended = False
        self._writable = asyncio.Event()
        self._writable.set()
        self.taken = 0
        """Messages that came so far."""
        self.sent = 0
        """Messages that went so far."""

    @property
    def backlog(self) -> int:
        """Bytes that the other end has not taken yet."""
        return self._transport.get_write_buffer_size()

    def send(self, message: Message) -> None:
        """Sends a message; without effect when the other end has gone."""
        self.send_line(encode(message))

    def send_line(self, line: bytes) -> None:
        """Sends what `encode` has made: once for many channels."""
        self.sent += 1
        self._transport.write(line)

    async def writable(self) -> None:
        """Waits until the other end keeps up, and lets others run in any case."""
        await asyncio.sleep(0)
        await self._writable.wait()

    def close(self) -> None:
        """Ends the channel once everything has been sent."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._valve = Valve(self._transport)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if not self._resting:
            self._take_some()

    def _take_some(self) -> None:
        """Takes a few messages; the others wait for a later turn of the loop, and so does reading."""
        rest, count, start = self._rest, 0, 0
        while count < _PER_TURN and start < _BYTES_PER_TURN and (end := rest.find(b"\n", max(start, self._seen))) >= 0:
            line = bytes(rest[start:end])
            start, count = end + 1, count + 1
            self.taken += 1
            self._take(decode(line))
        del rest[:start]
        if count == _PER_TURN or start >= _BYTES_PER_TURN:
            self._seen, self._resting = 0, True
            self._valve.hold(LATER)
            put_off(self._take_some)
        else:
            self._seen = len(rest)
            if self._resting:
                self._resting = False
                self._valve.release(LATER)
        if self._ended:
            if not self._resting:
                self._lost()
        elif count:
            self._applied()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self._ended = True
        if not self._resting:  # else what came before the end has its turn first
            self._lost()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
