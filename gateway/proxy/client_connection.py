"""One client connection: parses its requests, serves them in order, and closes without losing a response.

    phase    bytes are                                    ends with
    PREFACE  the PROXY protocol's, where it is spoken     its end → HEAD
    HEAD     a request head, whole or in parts            a head → BODY or AWAIT
    BODY     the body the head announced                  its end → AWAIT
    AWAIT    of a later request: kept, reading held       the answer's end → HEAD, or LINGER / closed
    TUNNEL   raw                                          either side's end
    LINGER   not wanted any more: dropped                 the client's end, or a few seconds
    CLOSED   -

Pipelined requests are answered in order because the next head is looked at only after the previous answer is complete.
Of those that are answered at once (refused ones are) a few are in each turn of the loop, and of a body a bounded number
of chunks: a client that sends thousands in one read waits for its next turn like everybody else (`flow.put_off`). So
does a long head, since a thousand clients may have one ready at the same moment.
After an answer that came while the request body was still arriving, the connection lingers: closing a socket with
unread bytes would send a reset, and the client might lose the answer it was about to read (RFC 9112 §9.6).
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from typing import TYPE_CHECKING, Final

from gateway.access.callers import TOLD, Caller
from gateway.deadlines import NEVER
from gateway.errors import (
    BadRequest,
    BodyTimeout,
    GatewayError,
    HeadTimeout,
    HeadTooLarge,
    StreamTooLong,
    TooManyConnections,
    TooManyFromClient,
    TooManyHeads,
)
from gateway.flow import (
    ENDED,
    LATER,
    NOT_READY,
    PACED,
    PEER_FINISHED,
    PEER_GONE,
    SHARE_BYTES,
    SLOW_PEER,
    Valve,
    peer_state,
    put_off,
)
from gateway.http.forwarded import Peer
from gateway.http.framing import CHUNKED, ChunkedDecoder
from gateway.http.proxy_protocol import read_preface
from gateway.http.request_head import RequestHead, RequestReader
from gateway.proxy.admission import Redirect
from gateway.proxy.error_response import error_response
from gateway.proxy.exchange import State
from gateway.proxy.paced_exchange import exchange_for
from gateway.proxy.read_ahead import HEAD_END, ReadAhead, skip_empty_lines
from gateway.proxy.tunnel import GOING_AWAY

if TYPE_CHECKING:
    from gateway.proxy.state import ServerState
    from gateway.proxy.tunnel import Tunnel

LINGER_SECONDS = 3.0
UNIX_PEER: Final = b"unknown"
"""The address of clients over a Unix socket."""
_SILENT: Final = 1
_FORGOTTEN: Final = 2
_CR: Final = 0x0D
_PIPELINED_PER_TURN: Final = 8
"""Most requests of one connection that are served in a row, each for some 0.05 ms."""
_SHORT_HEAD: Final = 4096
"""A longer head has its own turn of the loop: it may take a good part of a millisecond."""
_RESET = struct.pack("ii", 1, 0)


class Phase(enum.Enum):
    """What the next bytes are; see the table at the top."""

    PREFACE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    AWAIT = enum.auto()
    TUNNEL = enum.auto()
    LINGER = enum.auto()
    CLOSED = enum.auto()


_PREFACE, _HEAD, _BODY, _AWAIT, _TUNNEL, _LINGER, _CLOSED = Phase


class ClientConnection(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_buffer",
        "_caller",
        "_chunks",
        "_ends",
        "_exchange",
        "_left",
        "_partial",
        "_phase",
        "_plane",
        "_pumping",
        "_reader",
        "_resting",
        "_seen",
        "_silence",
        "_slow",
        "_tunnel",
        "_turned_away",
        "deadline",
        "peer",
        "transport",
        "valve",
    )

    transport: asyncio.Transport
    valve: Valve

    def __init__(self, plane: ServerState, scheme: bytes) -> None:
        # process
        self._plane = plane
        # connection
        self.peer = Peer(b"", scheme, trusted=False)
        self._caller: Caller | None = None
        self._turned_away = False
        self._exchange = exchange_for(plane, self)
        self._tunnel: Tunnel | None = None
        self._phase = Phase.CLOSED
        self.deadline = NEVER
        self._ends = NEVER
        self._silence = 0
        """Since the last answer: _SILENT, after a while _FORGOTTEN; 0 once a part of another request has come."""
        self._reader = RequestReader()
        self._partial = False
        """Whether a head has begun to arrive and is not complete."""
        self._buffer = ReadAhead()
        self._pumping = False
        self._resting = False
        """Whether it waits for its next turn, reading paused."""
        self._slow = False
        # request
        self._left = 0
        self._chunks: ChunkedDecoder | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plane = self._plane
        self.transport = transport  # type: ignore[assignment]
        self.valve = Valve(self.transport, self, plane.deadlines.held)
        self.peer = plane.trusted.peer(address_of(transport.get_extra_info("peername")) or UNIX_PEER, self.peer.scheme)
        counters = plane.counters
        counters.connections_total += 1
        counters.connections += 1
        plane.clients.add(self)
        plane.deadlines.add(self)
        self._exchange.write = self.transport.write
        self._phase = Phase.PREFACE if plane.options.proxy_protocol else Phase.HEAD
        self.deadline = plane.deadlines.now + plane.limits.head_timeout + 1.0
        if plane.open_connections > plane.limits.max_connections:
            self._turn_away(TooManyConnections())
        elif not plane.options.proxy_protocol:
            self._arrive()

    def _turn_away(self, error: GatewayError) -> None:
        """There are too many: says so to a few, which stay open for a while and must not keep others out meanwhile."""
        plane = self._plane
        plane.turned_away += 1
        self._turned_away = True
        if plane.turned_away > TOLD:
            plane.counters.refused(error.code)
            self.cut()
        else:
            self._fail(error)

    def _arrive(self) -> None:
        """It is known who the client is: counts the connection for it."""
        peer = self.peer
        if peer.trusted or peer.address == UNIX_PEER:
            return
        self._caller = self._plane.callers.arrive(peer.address)
        if self._caller is None:
            self._turn_away(TooManyFromClient())

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase is _HEAD:
            self._read_head(data)
        elif phase is _BODY:
            self._read_body(data)
            if len(data) >= SHARE_BYTES:
                self._rest()
        elif phase is _AWAIT:
            self._buffer += data
            self.valve.hold(NOT_READY)
        elif phase is _PREFACE:
            self._read_preface(data)
        else:
            if phase is _TUNNEL and self._tunnel is not None:
                self._tunnel.from_client(data)
            if len(data) >= SHARE_BYTES:
                self._rest()

    def _rest(self) -> None:
        """Lets others have their turn."""
        if not self._resting:
            self._resting = True
            self.valve.hold(LATER)
            put_off(self._go_on)

    def put_off(self, data: bytes) -> None:
        """Keeps bytes for the next turn of the loop, when they come as if they were read then."""
        self._buffer += data
        self._rest()

    def _go_on(self) -> None:
        """The next turn; where it fails the connection ends, as it does where the loop's own calls fail."""
        try:
            self._take_turn()
        except Exception:
            self.cut()
            raise

    def _take_turn(self) -> None:
        """What was put off, then reading."""
        self._resting = False
        phase = self._phase
        if phase is _HEAD:
            self._pump()
        elif phase is _TUNNEL and self._tunnel is not None and self._buffer:
            self._tunnel.from_client(self._buffer.take_all())
        elif phase is _BODY and self._chunks is not None and self._chunks.more:
            self._read_body(b"")
        if not self._resting:
            self.valve.release(LATER)

    def _read_preface(self, data: bytes) -> None:
        data = self._buffer.take_all() + data
        try:
            if not self.peer.trusted:
                raise BadRequest("this listener takes connections from its proxies only")
            preface = read_preface(data)
        except BadRequest as error:
            self._phase = _HEAD
            self._fail(error)
            return
        if preface is None:
            self._buffer += data
            return
        self._phase = _HEAD
        if preface.peer is not None:
            self.peer = self._plane.trusted.peer(preface.peer, self.peer.scheme)
        self._arrive()
        if self._phase is _HEAD and len(data) > preface.size:
            self._read_head(data[preface.size :])

    def eof_received(self) -> bool:
        """A client that finishes sending in the middle of an exchange has gone, as nginx and Go's net/http see it."""
        if self._phase is _TUNNEL and self._tunnel is not None:
            goes_on = self._tunnel.client_eof()
            if goes_on:
                self.valve.hold(ENDED)
            return goes_on
        if self._phase is not _LINGER and self._phase is not _CLOSED:
            self._leave()
        return False

    def _leave(self) -> None:
        """The client has gone: what was written goes out, and nothing more; to close may take a while over TLS."""
        self._phase = _CLOSED
        self.deadline = self._plane.deadlines.now + LINGER_SECONDS
        self._buffer.clear()
        self._exchange.abandon()

    def connection_lost(self, exc: Exception | None) -> None:
        plane = self._plane
        phase, self._phase = self._phase, Phase.CLOSED
        plane.counters.connections -= 1
        plane.turned_away -= self._turned_away
        plane.clients.discard(self)
        caller, self._caller = self._caller, None
        if caller is not None:
            caller.heads -= self._partial
            plane.callers.leave(caller)
        plane.deadlines.discard(self)
        self.valve.lose()
        self._buffer.clear()
        if phase is _TUNNEL and self._tunnel is not None:
            self._end_tunnel()
        else:
            self._exchange.abandon()
        # Each knows the other (as did the valve): what a lost connection held must not wait for the garbage collector.
        del self._exchange

    def pause_writing(self) -> None:
        self._slow = True
        if self._tunnel is not None:
            self._tunnel.client_slow()
        else:
            self._exchange.client_slow()

    def resume_writing(self) -> None:
        self._slow = False
        if self._tunnel is not None:
            self._tunnel.client_ready()
            return
        self._exchange.client_ready()
        if self._phase is _HEAD:
            self._pump()

    # Requests.

    def _read_head(self, data: bytes) -> None:
        reader = self._reader
        try:
            if data == reader.head and not self._buffer and reader.last is not None:
                self._start(reader.last, b"")  # the client says again what it said before, and nothing else
            else:
                self._find_head(data)
        except GatewayError as error:
            self._fail(error)
        except Redirect as detour:
            self._exchange.divert(detour)

    def _find_head(self, data: bytes) -> None:
        if self._buffer:
            self._buffer += data
            if len(self._buffer) > _SHORT_HEAD and self._buffer.has_head(len(data)):
                self._put_off_head()
            else:
                self._next_head()
            return
        start = skip_empty_lines(data) if data[0] == _CR else 0
        end = data.find(HEAD_END, start) + 4
        if end < 4:
            self._buffer += data
            self._next_head()
            return
        limits = self._plane.limits
        if end - start > limits.max_head_bytes:
            raise HeadTooLarge
        if end > _SHORT_HEAD:
            self._buffer += data
            self._put_off_head()
            return
        request = self._reader.read(data[start:end], limits)
        self._start(request, data[end:] if len(data) > end else b"")

    def _next_head(self) -> bool:
        """Serves the first request that was read ahead; False when it is not there as a whole yet."""
        buffer, limits = self._buffer, self._plane.limits
        head = buffer.take_head(limits.max_head_bytes)
        if head is None:
            if not self._partial and buffer.has_begun():
                self._begin_partial()
            return False
        if self._partial:
            self._end_partial()
        request = self._reader.read(head, limits)
        length, body = request.length, b""
        if length:
            body = buffer.take_all() if length == CHUNKED else buffer.take(length)
        elif buffer:
            self.valve.hold(NOT_READY)  # what belongs to later requests waits, and no more is taken in
        self._start(request, body)
        return True

    def _put_off_head(self) -> None:
        self._start_clock()
        self._rest()

    def _start_clock(self) -> None:
        if self._silence:
            # The clock runs from the first byte of a head, not from each of its parts.
            self._silence = 0
            self.deadline = self._plane.deadlines.now + self._plane.limits.head_timeout

    def _begin_partial(self) -> None:
        self._start_clock()
        caller = self._caller
        if caller is not None:
            if caller.heads >= self._plane.callers.most_heads:
                raise TooManyHeads
            self._partial = True
            caller.heads += 1

    def _end_partial(self) -> None:
        self._partial = False
        if self._caller is not None:
            self._caller.heads -= 1

    def _start(self, request: RequestHead, rest: bytes) -> None:
        length = request.length
        if length == 0:
            # The deadline of the idle phase stands: when it passes, `expire` looks at when bytes last moved.
            self._phase = _AWAIT
            if rest:
                self._keep(rest)
            self._exchange.begin(request, b"", True)
            return
        self._phase = _BODY
        plane = self._plane
        self.deadline = plane.deadlines.now + plane.limits.body_idle_timeout
        if length == CHUNKED:
            self._chunks = ChunkedDecoder()
            self._exchange.begin(request, b"", False)
            if rest and self._phase is _BODY:
                self._read_body(rest)
            return
        if len(rest) >= length:
            self._phase = _AWAIT
            if len(rest) > length:
                self._keep(rest[length:])
                rest = rest[:length]
            self._exchange.begin(request, rest, True)
            return
        self._left = length - len(rest)
        self._exchange.begin(request, rest, False)

    def _keep(self, data: bytes) -> None:
        """Keeps what belongs to later requests."""
        self._buffer += data
        self.valve.hold(NOT_READY)

    def _read_body(self, data: bytes) -> None:
        plane = self._plane
        exchange = self._exchange
        self.deadline = plane.deadlines.now + plane.limits.body_idle_timeout
        chunks = self._chunks
        if chunks is None:
            left = self._left - len(data)
            if left > 0:
                self._left = left
                exchange.send_body(data)
                return
            rest = b""
            if left < 0:
                rest = data[left:]
                data = data[:left]
            exchange.send_body(data)
            self._end_body(b"", rest)
            return
        try:
            payload = chunks.feed(data)
        except BadRequest as error:
            self._fail(error)
            return
        if payload:
            exchange.send_body(payload)
        if chunks.done:
            self._chunks = None
            self._end_body(chunks.trailers, chunks.rest)
        elif chunks.more and self._phase is _BODY:
            self._rest()

    def _end_body(self, trailers: bytes, rest: bytes) -> None:
        if self._phase is not _BODY:
            return  # the exchange has ended over what was just sent
        self._phase = _AWAIT
        if rest:
            self._keep(rest)
        self._exchange.end_body(trailers)

    def _fail(self, error: GatewayError) -> None:
        if self._exchange.request is not None:
            self._exchange.fail(error)
        else:
            plane = self._plane
            request_id = plane.ids.new()
            plane.counters.refused(error.code)
            if plane.access_log is not None:
                plane.access_log.write_refused(
                    request_id=request_id, peer=self.peer.address, status=error.status.value, code=error.code
                )
            self.refuse(error, None, request_id, keep=False)

    # What the exchange asks of its client (exchange.Client).

    def exchange_done(self, keep: bool) -> None:
        """The answer has been written: on to the next request, or to the end."""
        if self._phase is _CLOSED:
            return
        plane = self._plane
        if not keep or plane.draining:
            if self._phase is _AWAIT and not self._buffer:
                self._phase = _CLOSED
                self.transport.close()
            else:
                self.linger()
            return
        self._phase = _HEAD
        self._silence = _SILENT
        self.deadline = plane.deadlines.now + plane.remembered_seconds
        self._ends = NEVER
        paused = self.valve.reasons
        if paused:
            self.valve.release(SLOW_PEER | PACED)  # whatever the upload waited for, it is over
        if self._slow:
            # A client that sends requests without reading answers is served at the pace it reads.
            self.valve.hold(NOT_READY)
        elif self._buffer:
            self._pump()
        elif paused:
            self.valve.release(NOT_READY)

    def _pump(self) -> None:
        """Serves what was read ahead; a loop, since answers may be complete before the call that began them returns."""
        if self._pumping or self._resting:
            return
        self._pumping = True
        try:
            for _ in range(_PIPELINED_PER_TURN):
                waiting = len(self._buffer)
                if self._phase is not _HEAD or not waiting or self._slow or not self._read_next():
                    break
                if waiting - len(self._buffer) > _SHORT_HEAD:
                    self._rest()
                    break
            else:
                self._rest()
        finally:
            self._pumping = False
        if self._phase in (_HEAD, _BODY) and not self._slow:
            self.valve.release(NOT_READY)

    def _read_next(self) -> bool:
        try:
            return self._next_head()
        except GatewayError as error:
            self._fail(error)
        except Redirect as detour:
            self._exchange.divert(detour)
        return True

    def refuse(
        self, error: GatewayError, request: RequestHead | None, request_id: bytes, *, keep: bool, added: bytes = b""
    ) -> None:
        """Sends an error response of our own; the lines `added` let a page of another origin read it."""
        self.transport.write(error_response(error, request, request_id, close=not keep, cors_lines=added))
        if request is None and not keep:
            self.linger()
        else:
            self.exchange_done(keep)

    def end_by(self, when: float) -> None:
        """The exchange, or the tunnel it becomes, must not last longer."""
        self._ends = when
        self.deadline = min(self.deadline, when)

    def hold_body(self) -> None:
        """There is nowhere to send the request body yet, or it cannot be taken."""
        self.valve.hold(SLOW_PEER)

    def release_body(self) -> None:
        """There is."""
        self.valve.release(SLOW_PEER)

    def became_tunnel(self, tunnel: Tunnel) -> bytes:
        """From now on raw bytes; returns those that came already."""
        self._phase = _TUNNEL
        self._tunnel = tunnel
        self._plane.counters.tunnels += 1
        self._plane.counters.tunnels_total += 1
        early = self._buffer.take_all()
        self.valve.release(NOT_READY)
        return early

    def linger(self) -> None:
        """Finishes sending, then waits a moment for the client to notice before the socket closes."""
        if self._phase is _TUNNEL:
            self._end_tunnel()
        if self._phase is _CLOSED:
            return
        self._phase = _LINGER
        self._buffer.clear()
        self.deadline = self._plane.deadlines.now + LINGER_SECONDS
        self.valve.release(SLOW_PEER)
        self.valve.release(NOT_READY)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def cut(self, *, reset: bool = False) -> None:
        """Drops the connection at once, so that what is missing shows; `reset` where an orderly end would not."""
        if self._phase is _TUNNEL:
            self._end_tunnel()
        self._phase = _CLOSED
        if reset:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _end_tunnel(self) -> None:
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is None:
            return
        counters = self._plane.counters
        counters.tunnels -= 1
        tunnel.client_lost()
        self._exchange.tunnel_ended(tunnel)

    # Time and shutdown.

    def expire(self, now: float) -> None:
        """The deadline of the phase has passed."""
        phase = self._phase
        if phase is _HEAD or phase is _PREFACE:
            if self._buffer.has_begun():
                self._phase = _HEAD
                self._fail(HeadTimeout())
            elif self._silence == _SILENT and now < (closes := self.deadline + self._plane.forgotten_seconds):
                # Thousands of silent connections each holding their last head would be most of our memory.
                self._silence = _FORGOTTEN
                self.deadline = closes
                self._reader.forget()
                self._exchange.forget()
            else:
                self._phase = _CLOSED
                self.transport.close()
        elif phase is _BODY:
            if now >= self._ends:
                self._end_stream()
            elif self.valve.reasons:
                self._expire_stream(now, self._exchange.moved)  # it is the sandbox that does not read
            else:
                self._fail(BodyTimeout())
        elif phase is _AWAIT:
            self._expire_stream(now, self._exchange.moved)
        elif phase is _TUNNEL and self._tunnel is not None:
            self._expire_stream(now, self._tunnel.moved)
        else:
            self._expire_close(now)

    def look(self) -> None:
        """Nothing is read, so that only the kernel knows whether the client is still there (flow.Held)."""
        state = peer_state(self.transport)
        if state == PEER_GONE:
            self.cut()
        elif state == PEER_FINISHED:
            if self._tunnel is not None:
                self._tunnel.client_eof_waits()
            elif self._phase is _AWAIT and self.valve.reasons & NOT_READY:
                self.cut()  # as if its end did not stand behind a request that was read ahead

    def _expire_close(self, now: float) -> None:
        """The connection is closing: a client that still reads what was sent may go on, however slowly."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._left:
            self._left = unsent
            self.deadline = now + self._plane.limits.body_idle_timeout
        else:
            self.deadline = NEVER
            self.transport.abort()

    def _expire_stream(self, now: float, moved: float) -> None:
        idle = self._plane.stream_idle if self._tunnel is None else self._tunnel.patience
        if now >= self._ends:
            self._end_stream()
        elif now - moved < idle:
            self.deadline = min(moved + idle, self._ends)
        elif self._tunnel is not None:
            self._tunnel.end(1001, b"idle for too long")
        else:
            self._exchange.timed_out()

    def _end_stream(self) -> None:
        """The sandbox's owner lets no stream last longer."""
        self._ends = NEVER
        if self._tunnel is not None:
            self._tunnel.end(1008, b"longest duration reached")
        else:
            self._exchange.fail(StreamTooLong())

    def forget(self) -> None:
        """What was settled for earlier requests is settled anew for the next."""
        self._exchange.forget()

    def drain(self) -> None:
        """The gateway shuts down: nothing new; a tunnel is told, an idle connection closes, an answer goes on."""
        if self._phase is _TUNNEL and self._tunnel is not None:
            self._tunnel.end(*GOING_AWAY)
        elif self._phase is _HEAD and not self._buffer.has_begun() and self._exchange.state is State.IDLE:
            self._phase = _CLOSED
            self.transport.close()


def address_of(peername: object) -> bytes | None:
    """A peer's IP address as X-Forwarded-For has it (IPv4 also over a dual-stack socket); None over a Unix socket."""
    if not isinstance(peername, tuple):
        return None
    text: str = peername[0]
    return text.removeprefix("::ffff:").partition("%")[0].encode("ascii")
