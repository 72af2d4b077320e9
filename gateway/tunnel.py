"""After 101: bytes go through as they come, both ways, with backpressure and half-close.

The tunnel reads nothing, with one exception: towards the client it counts WebSocket frames (RFC 6455 §5.2), so that it
knows when the stream is between two frames. Only there may it put a close frame of its own when the sandbox goes; in
the middle of a frame the connection is cut, and the client sees that something is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from gateway.errors import GatewayError
from gateway.flow import SLOW_PEER, Valve, pace
from gateway.quotas import Quota
from gateway.table import Removal, SandboxRoute

if TYPE_CHECKING:
    from gateway.plane import Plane
    from gateway.response_head import ResponseHead
    from gateway.upstream import UpstreamConnection

_CLOSE = {
    Removal.DELETED: (1001, b"sandbox deleted"),
    Removal.EXPIRED: (1001, b"sandbox expired"),
    Removal.STOPPED: (1001, b"sandbox stopped"),
    Removal.REPLACED: (1012, b"sandbox restarted"),
    Removal.PAUSED: (1012, b"sandbox paused"),
    Removal.REVOKED: (1001, b"access revoked"),
}
_CLOSE_OPCODE = 0x8
CRASH_SECONDS = 1.0
"""When a WebSocket ends without a close frame its sandbox may have died. For this long we wait to hear of it from the
runtime, so that the client can be told; a program that only hung up is passed on as it is."""
GOING_AWAY = (1001, b"gateway is restarting")


def close_frame(code: int, reason: bytes) -> bytes:
    """A close frame as a server sends it (RFC 6455 §5.5.1); `reason` has at most 123 bytes."""
    payload = code.to_bytes(2, "big") + reason
    return b"\x88%c%b" % (len(payload), payload)


class FrameCounter:
    """Follows a stream of WebSocket frames without reading them: is it between two frames?"""

    __slots__ = ("_head", "_left", "closing")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self.closing = False
        """Whether a close frame has passed."""

    @property
    def at_boundary(self) -> bool:
        """Whether the bytes so far end exactly where a frame ends."""
        return self._left == 0 and not self._head

    def feed(self, data: bytes) -> None:
        """Counts the next bytes of the stream."""
        at, size = 0, len(data)
        if self._left:
            if size <= self._left:
                self._left -= size
                return
            at, self._left = self._left, 0
        if self._head:
            data = self._head + data[at:]
            self._head = b""
            at, size = 0, len(data)
        while at < size:
            need = 2
            if size - at >= 2:
                length = data[at + 1] & 0x7F
                extra = 0 if length < 126 else 2 if length == 126 else 8
                need = 2 + extra + (4 if data[at + 1] & 0x80 else 0)
                if size - at >= need:
                    if data[at] & 0x0F == _CLOSE_OPCODE:
                        self.closing = True
                    if extra:
                        length = int.from_bytes(data[at + 2 : at + 2 + extra], "big")
                    at += need + length
                    continue
            self._head = data[at:]
            return
        self._left = at - size


class Client(Protocol):
    """The client's side of a tunnel."""

    transport: asyncio.Transport
    valve: Valve

    def linger(self) -> None:
        """Finishes sending, then closes without losing what was sent."""

    def cut(self) -> None:
        """Drops the connection at once."""


class Tunnel:
    """Two connections joined."""

    __slots__ = (
        "_client",
        "_client_done",
        "_frames",
        "_gone",
        "_plane",
        "_quota",
        "_renews",
        "_route",
        "_upstream",
        "_upstream_done",
        "bytes_in",
        "bytes_out",
        "closed",
        "key",
        "moved",
        "request_sent",
    )

    def __init__(
        self,
        plane: Plane,
        client: Client,
        upstream: UpstreamConnection,
        route: SandboxRoute,
        *,
        websocket: bool,
        renews: bool = True,
        quota: Quota | None = None,
        key: bytes | None = None,
    ) -> None:
        self.key = key
        """The id of the key whose signature let the client in, if one did."""
        self._plane = plane
        self._client = client
        self._upstream = upstream
        self._route = route
        self._renews = renews
        self._quota = quota
        self._frames = FrameCounter() if websocket else None
        self._client_done = False
        self._upstream_done = False
        self._gone = False
        self.closed = False
        self.request_sent = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.moved = plane.deadlines.now
        """When a byte last went either way, by the coarse clock."""

    def _stamp(self) -> None:
        self.moved = now = self._plane.deadlines.now
        if self._renews:
            self._route.last_active = now

    def from_client(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._gone:
            return
        self._stamp()
        self.bytes_in += len(data)
        self._upstream.transport.write(data)
        if self._quota is not None:
            pace(self._quota, len(data), self._client.valve, self._plane.clock())

    def client_eof(self) -> bool:
        """The client has finished sending; True while the other direction goes on."""
        self._client_done = True
        if self._gone or self._upstream_done or not self._client.transport.can_write_eof():
            return False  # over TLS there is no half-close
        self._upstream.transport.write_eof()
        return True

    # What the upstream connection reports (upstream.Sink).

    def on_data(self, data: bytes) -> None:
        """Bytes of the sandbox."""
        self._stamp()
        self.bytes_out += len(data)
        if self._frames is not None:
            self._frames.feed(data)
        self._client.transport.write(data)
        if self._quota is not None:
            pace(self._quota, len(data), self._upstream.valve, self._plane.clock())

    def on_eof(self) -> bool:
        """The sandbox has finished sending."""
        if self._unannounced():
            self._after_crash_time(self._pass_eof_late)
            return True
        return self._pass_eof()

    def _unannounced(self) -> bool:
        frames = self._frames
        return frames is not None and not frames.closing and frames.at_boundary and not self.closed

    def _after_crash_time(self, then: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(CRASH_SECONDS, then)

    def _pass_eof_late(self) -> None:
        if not self.closed and not self._gone and not self._pass_eof():
            self._upstream.close()

    def _pass_eof(self) -> bool:
        self._upstream_done = True
        if self._client_done or not self._client.transport.can_write_eof():
            return False
        self._client.transport.write_eof()
        return True

    def on_lost(self, error: GatewayError | None) -> None:
        """The sandbox's side is gone: what it sent still goes out."""
        self._gone = True
        if self._unannounced():
            self._after_crash_time(self._finish)
        else:
            self._finish()

    def _finish(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._client_done:
            self._client.transport.close()
        else:
            self._client.linger()

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
        if self._frames is not None and self._frames.at_boundary and not self._upstream_done:
            self._client.transport.write(close_frame(code, reason))
            self._client.linger()
        else:
            self._client.cut()
        self._upstream.abort()
