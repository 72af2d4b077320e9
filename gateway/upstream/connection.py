"""One connection to a sandbox port: sends requests, parses responses, reports to its sink.

The life of an upstream connection, by what `_left` says of the bytes to come:

    IDLE ──send──▶ HEAD ──head──▶ LENGTH(n) / CHUNKED / UNTIL_CLOSE ──end──▶ IDLE (back to its pool) or closed
                    │ 1xx: stays           │ bytes when IDLE: nobody asked, the connection is dropped
                    └─101──▶ TUNNEL (raw bytes until either side closes)

A response is over when its framing says so, never because the connection ended, unless UNTIL_CLOSE was declared by
the absence of both lengths (RFC 9112 §6.3 rule 8) and the end was an orderly one.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from gateway.deadlines import NEVER
from gateway.errors import BadRequest, GatewayError, UpstreamInvalid
from gateway.flow import ENDED, LATER, PEER_GONE, SHARE_BYTES, SLOW_PEER, Held, Valve, peer_state, put_off
from gateway.http.framing import CHUNKED, UNTIL_CLOSE, ChunkedDecoder
from gateway.http.response_head import ResponseHead, ResponseReader, begins_as_response
from gateway.limits import Limits

_IDLE: Final = 0
_HEAD: Final = -10
_TUNNEL: Final = -11
MAX_INTERIM: Final = 16
"""Most interim (1xx) responses before the final one."""
_HEAD_END: Final = b"\r\n\r\n"
_SHORT_HEAD: Final = 4096
"""A longer head has its own turn of the loop: it may take a good part of a millisecond."""

CLOSING_SECONDS = 3.0
"""How long a sandbox that takes none of what is still to be sent holds up the end of its connection."""


class Sink(Protocol):
    """Who an upstream connection reports to while it serves."""

    request_sent: bool
    """Whether the whole request has been handed to the connection; it cannot serve another one before."""

    def on_interim(self, response: ResponseHead) -> None:
        """A 1xx answer other than 101."""

    def on_switch(self, response: ResponseHead, data: bytes) -> None:
        """101: from here on raw bytes; `data` are the first of them."""

    def on_head(self, response: ResponseHead, body: bytes) -> None:
        """The final answer begins, with the body bytes that came beside its head; `flush` or `on_end` follows."""

    def flush(self) -> None:
        """More of the answer is to come."""

    def on_data(self, data: bytes) -> None:
        """Body bytes, decoded from their transfer coding."""

    def on_end(self, trailers: bytes) -> None:
        """The answer is complete, with these trailer lines."""

    def on_lost(self, error: GatewayError | None) -> None:
        """The connection ended before the answer was complete; `error` says so when its bytes were at fault."""

    def on_eof(self) -> bool:
        """The sandbox has finished sending; True keeps the other direction open (tunnels)."""

    def pause_upload(self) -> None:
        """The sandbox is slow: stop reading from the client."""

    def resume_upload(self) -> None:
        """The sandbox takes bytes again."""


class Home(Protocol):
    """Where an idle connection goes."""

    held: set[Held]
    """The connections whose reading is paused, which each sweep checks."""

    def made(self) -> None:
        """There is one connection more."""

    def give(self, connection: UpstreamConnection) -> None:
        """Takes the connection back, or closes it."""

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is gone."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to a sandbox port, used by one exchange at a time."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_ended",
        "_has_turn",
        "_interims",
        "_keep",
        "_known",
        "_left",
        "_max_head",
        "_pool_idle",
        "_reader",
        "_resting",
        "_slow",
        "_to_head",
        "_unsent",
        "deadline",
        "home",
        "idle_since",
        "sink",
        "transport",
        "used",
        "valve",
    )

    transport: asyncio.Transport
    valve: Valve

    def __init__(self, home: Home, limits: Limits) -> None:
        # connection
        self.home = home
        self._max_head = limits.max_head_bytes
        self._pool_idle = limits.pool_idle_timeout
        self._slow = False
        self._resting = False
        """Whether it waits for its next turn, reading paused."""
        self._has_turn = False
        """Whether this is the turn that it has waited for."""
        self._ended: bool | None = None
        """Set when the connection has ended before all its bytes had their turn: whether it was an orderly end."""
        self._known = False
        """Whether its home counts it."""
        self._reader = ResponseReader()
        self.idle_since = 0.0
        self.used = 0
        """How many exchanges it has begun; more than one means it was reused."""
        self.deadline = 0.0
        self._unsent = 0
        """Bytes that were still to be sent when a closing connection was last looked at."""
        # exchange
        self.sink: Sink | None = None
        self._reset()

    def _reset(self) -> None:
        self._left = _IDLE
        self._buffer = bytearray()
        """A head in parts, or what is put off."""
        self._chunks: ChunkedDecoder | None = None
        self._keep = False
        self._to_head = False
        self._interims = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.valve = Valve(self.transport, self, self.home.held)
        self._known = True
        self.home.made()

    def give_up(self) -> None:
        """Nobody waits any more for the attempt to connect: uvloop closes what it has made, and calls nobody."""
        if self._known:
            self.connection_lost(None)

    def send(self, sink: Sink, data: bytes, to_head: bool) -> None:
        """Begins an exchange: `data` is the request head and what there is of its body."""
        self.sink = sink
        self._left = _HEAD
        self._to_head = to_head
        self.used += 1
        self.transport.write(data)

    def write(self, data: bytes) -> None:
        """More of the request; dropped once the connection has ended, of which the sink may be told a turn later."""
        if self._ended is None:
            self.transport.write(data)

    def write_eof(self) -> None:
        """Says that nothing more will be sent; likewise."""
        if self._ended is None:
            self.transport.write_eof()

    @property
    def silent(self) -> bool:
        """Whether not a byte of the answer has come yet."""
        return self._left == _HEAD and not self._buffer and not self._interims

    def abort(self) -> None:
        """Drops the connection at once, whatever is under way; the sink hears nothing more."""
        self.sink = None
        self.transport.abort()

    def close(self) -> None:
        """Closes the connection; what was written still goes out, for as long as the sandbox takes it."""
        self.sink = None
        self.transport.close()
        self.deadline = 0.0

    def data_received(self, data: bytes) -> None:
        sink = self.sink
        if sink is None:
            self.transport.abort()
            return
        left = self._left
        try:
            if left == _HEAD:
                self._read_head(sink, data)
            elif left > 0:
                self._read_length(sink, left, data)
            elif left == CHUNKED:
                self._read_chunks(sink, data)
            else:
                sink.on_data(data)
                if len(data) >= SHARE_BYTES:
                    self._rest()
        except (BadRequest, UpstreamInvalid) as error:
            self.abort()
            sink.on_lost(error if isinstance(error, UpstreamInvalid) else UpstreamInvalid())

    def put_off(self, data: bytes) -> None:
        """Keeps bytes for the next turn of the loop, when they come as if they were read then."""
        self._buffer += data
        self._rest()

    def _rest(self) -> None:
        """Lets others have their turn."""
        if not self._resting and self.sink is not None:
            self._resting = True
            self.valve.hold(LATER)
            put_off(self._go_on)

    def _go_on(self) -> None:
        """The next turn; where it fails the connection ends, as it does where the loop's own calls fail."""
        try:
            self._take_turn()
        except Exception:
            self.transport.abort()
            self._lose(orderly=False)
            raise

    def _take_turn(self) -> None:
        """What was put off, then reading."""
        self._resting = False
        data = b""
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer = bytearray()
        chunks = self._chunks
        if self.sink is not None and (data or (chunks is not None and chunks.more)):
            self._has_turn = True
            self.data_received(data)
            self._has_turn = False
        if self._resting:
            return
        if self._ended is not None:
            self._lose(orderly=self._ended)
        else:
            self.valve.release(LATER)

    def _read_head(self, sink: Sink, data: bytes) -> None:
        reader = self._reader
        size = reader.size
        if size and data[:size] == reader.head and not self._buffer and reader.to_head is self._to_head:
            response = reader.last  # the sandbox says again what it said before
            data = data[size:]
        else:
            found = self._find_head(sink, data)
            if found is None:
                return
            response, data = found
        self._keep = response.keep_alive
        self._left = length = response.length
        if length >= 0:
            left = length - len(data)
            if left > 0:
                self._left = left
                sink.on_head(response, data)
            else:
                rest = b""
                if left:
                    data, rest = data[:length], data[length:]
                sink.on_head(response, data)
                self._finish(sink, b"", rest)
                return
        elif length == CHUNKED:
            chunks = self._chunks = ChunkedDecoder()
            sink.on_head(response, chunks.feed(data) if data else b"")
            if chunks.done:
                self._chunks = None
                self._finish(sink, chunks.trailers, chunks.rest)
                return
            if chunks.more:
                self._rest()
        else:
            self._keep = False
            sink.on_head(response, data)
        sink.flush()
        if len(data) >= SHARE_BYTES:
            self._rest()

    def _find_head(self, sink: Sink, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """The final answer's head and what came behind it, unless it is still to come or a tunnel has begun."""
        if self._buffer:
            seen = len(self._buffer)
            self._buffer += data
            if self._buffer.find(_HEAD_END, max(0, seen - 3)) < 0:
                if not begins_as_response(self._buffer):
                    raise UpstreamInvalid.no_http(bytes(self._buffer))
                if len(self._buffer) > self._max_head:
                    raise UpstreamInvalid
                return None
            data = bytes(self._buffer)
            self._buffer = bytearray()
        while data:
            end = data.find(_HEAD_END)
            if end < 0:
                if not begins_as_response(data):
                    # Not at the end of the connection only: "Unauthorized" and nothing more may be all that ever comes.
                    raise UpstreamInvalid.no_http(data)
                if len(data) > self._max_head:
                    raise UpstreamInvalid
                self._buffer += data
                break
            end += 4
            if end > self._max_head:
                raise UpstreamInvalid
            if end > _SHORT_HEAD:
                if not self._has_turn:
                    self.put_off(data)
                    break
                self._has_turn = False
            response = self._reader.read(data[:end], to_head=self._to_head)
            data = data[end:]
            if response.status >= 200:
                return response, data
            if response.status == 101:
                self._left = _TUNNEL
                sink.on_switch(response, data)
                break
            self._interims += 1
            if self._interims > MAX_INTERIM:
                raise UpstreamInvalid
            sink.on_interim(response)
        return None

    def _read_length(self, sink: Sink, left: int, data: bytes) -> None:
        size = len(data)
        if size < left:
            self._left = left - size
            sink.on_data(data)
            if size >= SHARE_BYTES:
                self._rest()
            return
        rest = b""
        if size > left:
            rest = data[left:]
            data = data[:left]
        sink.on_data(data)
        if self.sink is sink:
            self._finish(sink, b"", rest)

    def _read_chunks(self, sink: Sink, data: bytes) -> None:
        chunks = self._chunks
        if chunks is None:
            return
        payload = chunks.feed(data)
        if payload:
            sink.on_data(payload)
        if self.sink is not sink:
            return
        if chunks.done:
            self._chunks = None
            self._finish(sink, chunks.trailers, chunks.rest)
        elif chunks.more or len(data) >= SHARE_BYTES:
            self._rest()

    def _finish(self, sink: Sink, trailers: bytes, rest: bytes) -> None:
        keep = self._keep and not rest and sink.request_sent and not self._slow and self._ended is None
        self.sink = None
        self._left = _IDLE
        self._interims = 0
        if keep:
            self.home.give(self)
        elif sink.request_sent:
            self.close()
        else:
            self.transport.abort()
        sink.on_end(trailers)

    def eof_received(self) -> bool:
        sink = self.sink
        if sink is None:
            return False
        if self._left == _TUNNEL:
            goes_on = sink.on_eof()
            if goes_on:
                self.valve.hold(ENDED)
            return goes_on
        # Said here and now: the close that follows may take as long as our own unsent bytes do, or fail over them.
        self.abort()
        if self._left == UNTIL_CLOSE:
            sink.on_end(b"")
        else:
            sink.on_lost(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._known:
            self._known = False
            self.home.forget(self)
        self.valve.lose()
        chunks = self._chunks
        if self._resting and (self._buffer or (chunks is not None and chunks.more)):
            self._ended = exc is None  # what came before the end has its turn first
        else:
            self._lose(orderly=exc is None)

    def _lose(self, *, orderly: bool) -> None:
        sink, self.sink = self.sink, None
        if sink is None:
            return
        if self._left == UNTIL_CLOSE and orderly:
            sink.on_end(b"")
        else:
            sink.on_lost(None)

    def pause_writing(self) -> None:
        self._slow = True
        if self.sink is not None:
            self.sink.pause_upload()

    def resume_writing(self) -> None:
        self._slow = False
        if self.sink is not None:
            self.sink.resume_upload()

    def expire(self, now: float) -> None:
        """Closes the connection when it has been idle for long enough; else looks again when it may have been.

        Looking again is cheaper than moving the deadline with each exchange.
        """
        idle = self._pool_idle
        if self.transport.is_closing():
            self._expire_close(now)
        elif self.sink is not None:
            self.deadline = now + idle
        elif now - self.idle_since >= idle:
            self.close()
        else:
            self.deadline = self.idle_since + idle

    def look(self) -> None:
        """Once the sandbox has finished sending, the loop reports no reset; before that, bytes may still be waiting."""
        if self.valve.reasons & ENDED and peer_state(self.transport) == PEER_GONE:
            self.transport.abort()

    def _expire_close(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:
            self._unsent = unsent
            self.deadline = now + CLOSING_SECONDS
        else:
            self.deadline = NEVER
            self.transport.abort()

    def hold(self) -> None:
        """Stops reading: the client is slow."""
        self.valve.hold(SLOW_PEER)

    def release(self) -> None:
        """Reads on."""
        self.valve.release(SLOW_PEER)
