"""After `101 Switching Protocols`: bytes in both directions, with backpressure, until either side closes.

The tunnel reads nothing, with one exception: it counts WebSocket frames (RFC 6455 §5.2), so that it knows when a stream
is between two frames. Only there may it put a close frame of its own when the sandbox goes; in the middle of a frame
the connection is cut, and the client sees that something is missing.

    what ends        a WebSocket                                        any other protocol
    client's FIN     passed on; the sandbox has a second for its last   passed on; the sandbox may go on
                     words, then both close
    sandbox's FIN    likewise; with no close frame before it the        passed on; the client may go on
                     client may first be told that the sandbox died
    both FINs        both close                                         both close
    close frames     of both sides: whoever waits for the other's FIN   mean nothing
                     has it within a second; of one: ten seconds of
                     silence end both
    reset            the other side gets what was sent, then its end    likewise
    silence          the idle limit                                     the idle limit

Half of a WebSocket is no WebSocket: RFC 6455 §7.1.1 knows only the end of the whole connection. Other protocols (an
attached terminal, `kubectl cp`) say "that was all my input" with a FIN and then wait for the output. Over TLS there is
no half: the client's end ends both. What was sent before an end still goes out for as long as it is taken.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.access.quotas import Quota
from gateway.errors import GatewayError
from gateway.flow import PACED, SLOW_PEER
from gateway.table import Removal, SandboxRoute

if TYPE_CHECKING:
    from gateway.http.response_head import ResponseHead
    from gateway.proxy.client import Client
    from gateway.proxy.state import ServerState
    from gateway.upstream.connection import UpstreamConnection

_CLOSE = {
    Removal.DELETED: (1001, b"sandbox deleted"),
    Removal.EXPIRED: (1001, b"sandbox expired"),
    Removal.STOPPED: (1001, b"sandbox stopped"),
    Removal.REPLACED: (1012, b"sandbox restarted"),
    Removal.PAUSED: (1012, b"sandbox paused"),
    Removal.REVOKED: (1001, b"access revoked"),
}
_CLOSE_OPCODE = 0x8
_LENGTH_FOLLOWS = 126
_MASKED = 0x80
"""The bit of the second byte that says that four bytes of a mask follow the length, as clients send."""
_MASKED_LENGTH_FOLLOWS = _MASKED + _LENGTH_FOLLOWS
FEW_FRAMES = 64
"""Most frames of what was just read that are counted at once, in some 0.03 ms: a read can hold 128 000 of them."""
MAX_FRAMES = 256
"""Most frames at each turn after that, for which one has to wait."""
CRASH_SECONDS = 1.0
"""When a WebSocket ends without a close frame its sandbox may have died. For this long we wait to hear of it from the
runtime, so that the client can be told; a program that only hung up is passed on as it is."""
LAST_WORDS_SECONDS = 1.0
"""How long one side of a WebSocket may go on when the other has ended: enough for a close frame in answer."""
ANSWER_SECONDS = 10.0
"""How long a WebSocket may be silent once one side has sent a close frame and waits for that of the other."""
GOING_AWAY = (1001, b"gateway is restarting")


def close_frame(code: int, reason: bytes) -> bytes:
    """A close frame as a server sends it (RFC 6455 §5.5.1); `reason` has at most 123 bytes."""
    payload = code.to_bytes(2, "big") + reason
    return b"\x88%c%b" % (len(payload), payload)


class FrameCounter:
    """Follows a stream of WebSocket frames without reading them: is it between two frames?"""

    __slots__ = ("_head", "_left", "_more", "closing")

    def __init__(self) -> None:
        self._more = False
        self._head = b""
        self._left = 0
        self.closing = False
        """Whether a close frame has passed."""

    @property
    def at_boundary(self) -> bool:
        """Whether the bytes so far end exactly where a frame ends."""
        return self._left == 0 and not self._head

    def feed(self, data: bytes) -> int:
        """Counts the next bytes of the stream; returns how many, which are not all when there are very many frames."""
        size = len(data)
        if size > 1 and not (self._left or self._head or self._more):
            # What most reads of a chat or a terminal bring: one short frame, whole.
            length = data[1]
            if (length < _LENGTH_FOLLOWS and length + 2 == size) or (
                _MASKED <= length < _MASKED_LENGTH_FOLLOWS and length - _MASKED + 6 == size
            ):
                if data[0] & 0x0F == _CLOSE_OPCODE:
                    self.closing = True
                return size
        at = shift = 0
        most, self._more = MAX_FRAMES if self._more else FEW_FRAMES, False
        if self._left:
            if size <= self._left:
                self._left -= size
                return size
            at, self._left = self._left, 0
        elif self._head:
            shift = len(self._head)
            data = self._head + data
            self._head = b""
            size += shift
        for _ in range(most):
            need = 2
            if size - at >= 2:
                length = data[at + 1] & 0x7F
                extra = 0 if length < 126 else 2 if length == 126 else 8
                need = 2 + extra + (4 if data[at + 1] & 0x80 else 0)
            if size - at < need:
                self._head = data[at:]
                return size - shift
            if data[at] & 0x0F == _CLOSE_OPCODE:
                self.closing = True
            if extra:
                length = int.from_bytes(data[at + 2 : at + 2 + extra], "big")
            at += need + length
            if at >= size:
                self._left = at - size
                return size - shift
        self._more = True
        return at - shift


class Tunnel:
    """Two connections joined."""

    __slots__ = (
        "_client",
        "_client_done",
        "_client_frames",
        "_ending",
        "_frames",
        "_gone",
        "_hurried",
        "_plane",
        "_quota",
        "_renews",
        "_route",
        "_upstream",
        "_upstream_done",
        "_write_to_client",
        "bytes_in",
        "bytes_out",
        "closed",
        "keys",
        "moved",
        "request_sent",
        "since",
    )

    def __init__(
        self,
        plane: ServerState,
        client: Client,
        upstream: UpstreamConnection,
        route: SandboxRoute,
        *,
        websocket: bool,
        renews: bool = True,
        quota: Quota | None = None,
        keys: tuple[bytes, ...] = (),
        since: float = 0.0,
    ) -> None:
        self.keys = keys
        self.since = since
        self._plane = plane
        self._client = client
        self._upstream = upstream
        self._route = route
        self._write_to_client = client.transport.write
        self._renews = renews
        self._quota = quota
        self._frames = FrameCounter() if websocket else None
        self._client_frames = FrameCounter() if websocket else None
        self._ending: asyncio.TimerHandle | None = None
        """Set once one side has ended and the other's time runs."""
        self._hurried = False
        """Whether all that the client has sent is taken in at once, since its end stands behind it."""
        self._client_done = False
        self._upstream_done = False
        self._gone = False
        self.closed = False
        self.request_sent = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.moved = plane.deadlines.now
        """When a byte last went either way, by the coarse clock."""

    def from_client(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._gone:
            return
        self.moved = now = self._plane.deadlines.now
        if self._renews:
            self._route.last_active = now
        size = len(data)
        frames = self._client_frames
        if frames is not None:
            counted = frames.feed(data)
            if counted < size:
                self._client.put_off(data[counted:])
                data, size = data[:counted], counted
            if frames.closing:
                self._close_was_said()
        self.bytes_in += size
        self._upstream.write(data)
        if self._quota is not None and not self._hurried:
            self._client.valve.pause_for(self._quota.spend(size, self._plane.clock()))

    def client_eof(self) -> bool:
        """The client has finished sending; True while the other direction goes on."""
        self._client_done = True
        if self._gone or self._upstream_done or not self._client.transport.can_write_eof():
            self._finish()  # over TLS there is no half-close
            return False
        self._upstream.write_eof()
        if self._frames is not None:
            self._end_after(LAST_WORDS_SECONDS)
        return True

    def client_eof_waits(self) -> None:
        """The client has finished sending, behind bytes that the sandbox does not take at present.

        Those of a WebSocket are taken in, so that its end counts: they are what the kernel has room for, and no more
        can come. In any other protocol the end has its place in the stream, and waits with it.
        """
        if self._frames is not None and not self._hurried:
            self._hurried = True
            self._client.valve.release(SLOW_PEER | PACED)

    # What the upstream connection reports (upstream.Sink).

    def on_data(self, data: bytes) -> None:
        """Bytes of the sandbox."""
        self.moved = now = self._plane.deadlines.now
        if self._renews:
            self._route.last_active = now
        size = len(data)
        frames = self._frames
        if frames is not None:
            counted = frames.feed(data)
            if counted < size:
                self._upstream.put_off(data[counted:])
                data, size = data[:counted], counted
            if frames.closing:
                self._close_was_said()
        self.bytes_out += size
        self._write_to_client(data)
        if self._quota is not None:
            self._upstream.valve.pause_for(self._quota.spend(size, self._plane.clock()))

    def on_eof(self) -> bool:
        """The sandbox has finished sending; True while the other direction goes on."""
        if self._unannounced():
            self._end_after(CRASH_SECONDS)
            return True
        self._upstream_done = True
        if self._client_done or self._both_said_close():
            self._finish()
            return False
        if self._client.transport.can_write_eof():
            self._client.transport.write_eof()
        elif self._frames is None:
            self._finish()
            return False
        if self._frames is not None:
            self._end_after(LAST_WORDS_SECONDS)
        return True

    def _unannounced(self) -> bool:
        """Whether the client may still be told why its WebSocket ends."""
        frames = self._frames
        return frames is not None and not frames.closing and frames.at_boundary and not self._client_done

    def _both_said_close(self) -> bool:
        ours, theirs = self._frames, self._client_frames
        return ours is not None and theirs is not None and ours.closing and theirs.closing

    def _close_was_said(self) -> None:
        """After two close frames a WebSocket is over, whoever waits for the other to hang up (RFC 6455 §7.1.1).

        After one, whose sender says no more, silence counts sooner.
        """
        if self._both_said_close():
            self._end_after(LAST_WORDS_SECONDS)
        else:
            self._client.deadline = min(self._client.deadline, self._plane.deadlines.now + ANSWER_SECONDS)

    @property
    def patience(self) -> float:
        """For how many seconds nothing may move."""
        ours, theirs = self._frames, self._client_frames
        said_close = ours is not None and theirs is not None and (ours.closing or theirs.closing)
        return ANSWER_SECONDS if said_close else self._plane.stream_idle

    def _end_after(self, seconds: float) -> None:
        if self._ending is None:
            self._ending = asyncio.get_running_loop().call_later(seconds, self._finish)

    def on_lost(self, error: GatewayError | None) -> None:
        """The sandbox's side is gone: what it sent still goes out."""
        self._gone = True
        if self._unannounced():
            self._end_after(CRASH_SECONDS)
        else:
            self._finish()

    def _finish(self) -> None:
        if not self.closed:
            self.closed = True
            self._leave_client()

    def _leave_client(self) -> None:
        """Lets what was sent go out, and waits for the client's own end where it has not come yet."""
        self._client.linger()
        if self._client_done:
            self._client.transport.close()

    def on_end(self, trailers: bytes) -> None:
        """Never called in a tunnel: only its connection's end ends it."""

    def on_head(self, response: ResponseHead, body: bytes) -> None:
        """Never called in a tunnel."""

    def flush(self) -> None:
        """Never called in a tunnel."""

    def on_interim(self, response: ResponseHead) -> None:
        """Never called in a tunnel."""

    def on_switch(self, response: ResponseHead, data: bytes) -> None:
        """Never called in a tunnel."""

    def pause_upload(self) -> None:
        """The sandbox is slow."""
        if not self._hurried:
            self._client.valve.hold(SLOW_PEER)

    def resume_upload(self) -> None:
        """The sandbox takes bytes again."""
        self._client.valve.release(SLOW_PEER)

    def client_slow(self) -> None:
        """The client is slow."""
        self._upstream.hold()

    def client_ready(self) -> None:
        """The client takes bytes again."""
        self._upstream.release()

    def client_lost(self) -> None:
        """The client's side is gone: what it sent still goes out."""
        self.closed = True
        if self._ending is not None:
            self._ending.cancel()
        route = self._route
        route.live.discard(self)
        route.bytes_in += self.bytes_in
        route.bytes_out += self.bytes_out
        self._upstream.close()

    def revoke(self, reason: Removal) -> None:
        """Ends the tunnel because the sandbox did."""
        self.end(*_CLOSE[reason])

    def end(self, code: int, reason: bytes) -> None:
        """Ends the tunnel from our side: with a close frame where one fits, by cutting it where none does."""
        if self.closed:
            return
        self.closed = True
        # After the sandbox's end of sending has been passed on, nothing may follow it, not even a close frame.
        frames = self._frames
        if frames is not None and frames.at_boundary and not self._upstream_done:
            if not frames.closing:  # the sandbox's own was the last that may come (RFC 6455 §5.5.1)
                self._client.transport.write(close_frame(code, reason))
            self._leave_client()
        else:
            self._client.cut()
        self._upstream.abort()
