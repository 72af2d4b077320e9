"""What a client or a sandbox may send to hold everybody else up; each input is bounded in size and in time.

An input is a function of a `Target`; it returns when it has been sent and the gateway has said what it makes of it, or
when its time is up.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.peers.frames import KEY
from benchmarks.peers.hostile_sandbox import filled

HEAD_BYTES = 60_000
MIB = 1 << 20
UNKNOWN = b"unknown-1.sandboxes.example"
"""A host whose requests are refused."""
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n" % KEY


@dataclass(frozen=True, slots=True)
class Target:
    """Where the input goes."""

    port: int
    prefaced: int
    """The port whose clients send a PROXY preface."""
    host: bytes
    """The sandbox as host name, which leaves its answers as they are."""
    path: bytes
    """The sandbox as path, where they are rewritten."""
    ends: float
    """When the time is up, by time.monotonic()."""

    def head(self, start: bytes, lines: bytes = b"", *, host: bytes | None = None) -> bytes:
        """A request head; `start` is method and path."""
        return b"%b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (start, self.host if host is None else host, lines)

    @property
    def seconds(self) -> float:
        """What is left of the time; never nothing, since that would mean a socket that does not wait."""
        return max(0.05, self.ends - time.monotonic())


def send(target: Target, data: bytes, *, port: int = 0, answers: int = 1, marker: bytes = b"HTTP/1.1 ") -> None:
    """Sends the bytes on a connection of its own, reading at the same time, until so many answers have begun."""
    with contextlib.suppress(OSError), connect(target, port) as sock:
        sock.setblocking(False)
        view = memoryview(data)
        seen, tail = 0, b""
        while (view or seen < answers) and time.monotonic() < target.ends:
            readable, writable, _ = select.select([sock], [sock] if view else [], [], target.seconds)
            if writable:
                view = view[sock.send(view[:MIB]) :]
            if readable:
                received = sock.recv(MIB)
                if not received:
                    return
                seen += (tail + received).count(marker)
                tail = received[1 - len(marker) :]


def drain(target: Target, data: bytes) -> None:
    """Sends the bytes, then reads until nothing has come for a moment."""
    with contextlib.suppress(OSError), connect(target) as sock:
        sock.sendall(data)
        while time.monotonic() < target.ends and select.select([sock], [], [], min(1.0, target.seconds))[0]:
            if not sock.recv(MIB):
                return


def connect(target: Target, port: int = 0) -> socket.socket:
    """A connection that sends each piece at once."""
    sock = socket.create_connection(("127.0.0.1", port or target.port), timeout=target.seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def trickle(target: Target, pieces: Callable[[], Iterator[bytes]], *, connections: int = 20, port: int = 0) -> None:
    """Sends a message piece by piece on several connections at once, each piece a packet."""
    with contextlib.ExitStack() as opened:
        socks = [opened.enter_context(connect(target, port)) for _ in range(connections)]
        for piece in pieces():
            if time.monotonic() > target.ends:
                return
            for sock in socks:
                with contextlib.suppress(OSError):
                    sock.sendall(piece)


def together(*work: Callable[[], None]) -> None:
    """Does all of it at the same time."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """The data in pieces."""
    return (data[at : at + size] for at in range(0, len(data), size))


def nothing(target: Target) -> None:
    """Waits, for what the machine alone does."""
    time.sleep(2.0)


def ask(path: bytes, target: Target) -> None:
    """One answer of the hostile sandbox, by its host."""
    drain(target, target.head(b"GET " + path))


def ask_rewritten(path: bytes, target: Target) -> None:
    """The same under a prefix."""
    drain(target, target.head(b"GET " + target.path + path, host=b"gateway.example"))


def empty_lines(target: Target) -> None:
    """4 MiB of them before a request."""
    send(target, b"\r\n" * (2 * MIB) + target.head(b"GET /"))


def upload(chunk: bytes, target: Target) -> None:
    """8 MiB of very small chunks."""
    body = chunk * (8 * MIB // len(chunk)) + b"0\r\n\r\n"
    send(target, target.head(b"POST /upload", b"Transfer-Encoding: chunked\r\n") + body)


def pipeline(start: bytes, host: bytes | None, target: Target, *, count: int = 10_000) -> None:
    """Many requests in one go."""
    send(target, target.head(start, host=host) * count, answers=count)


def different_pipeline(target: Target) -> None:
    """Many requests no two of which are alike, so that none is recognised."""
    data = b"".join(target.head(b"GET /%d" % number, b"X-Number: %d\r\n" % number) for number in range(10_000))
    send(target, data, answers=10_000)


def named_by_connection(target: Target) -> None:
    """3 400 names in Connection beside as many lines as are taken; ten times, each different."""
    for number in range(10):
        names = b",".join(b"n%d%04d" % (number, name) for name in range(3400))
        lines = b"Connection: %b\r\n%b" % (names, b"".join(b"n%d%04d: x\r\n" % (number, name) for name in range(190)))
        send(target, target.head(b"GET /", lines))


def commas(target: Target) -> None:
    """A refused request whose Accept is 60 KB of commas."""
    accept = b"Accept: text/html%b\r\n" % (b"," * HEAD_BYTES)
    send(target, target.head(b"GET /", accept, host=UNKNOWN) * 10, answers=10)


def cookies(target: Target) -> None:
    """60 KB of cookies, one of them ours."""
    line = b"Cookie: osb_last=/x/1;%b\r\n" % (b"a;" * (HEAD_BYTES // 2))
    send(target, target.head(b"GET /", line, host=b"gateway.example") * 10, answers=10)


def partial_head(size: int, target: Target) -> None:
    """A head of 60 KB in packets of so many bytes."""
    head = target.head(b"GET /", filled(b"X-%03d: " + b"x" * 300 + b"\r\n", HEAD_BYTES))
    trickle(target, lambda: cut(head, size))


def frames(target: Target) -> None:
    """8 MiB of WebSocket frames of one byte, towards the sandbox."""
    head = target.head(b"GET /swallow", UPGRADE)
    send(target, head + b"\x82\x81\0\0\0\0x" * (8 * MIB // 7))


def frames_back(target: Target) -> None:
    """The same from the sandbox."""
    drain(target, target.head(b"GET /frames", UPGRADE))


def trailers(target: Target) -> None:
    """16 KB of trailers, one byte at a time, on several connections."""
    head = target.head(b"POST /upload", b"Transfer-Encoding: chunked\r\n")
    rest = b"0\r\n%b\r\n" % filled(b"t%04d: 1\r\n", 16_000)
    trickle(target, lambda: iter((head, *cut(rest, 4))))


def preface(target: Target) -> None:
    """A PROXY header of version 2, as long as it may be, byte by byte on several connections."""
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + (4096).to_bytes(2, "big") + bytes(4096)
    trickle(target, lambda: cut(header, 1), port=target.prefaced)


def preface_line(target: Target) -> None:
    """The line of version 1, never ended, in one go with 4 MiB behind it."""
    send(target, b"PROXY TCP4 127.0.0.1" + b" " * (4 * MIB), port=target.prefaced)


def many_at_once(one: Callable[[Target], None], target: Target) -> None:
    """Four clients with the same input."""
    together(*[partial(one, target)] * 4)


INPUTS: dict[str, Callable[[Target], None]] = {
    "nothing": nothing,
    "Refresh of 8 KiB under a prefix": partial(ask_rewritten, b"/refresh/8192"),
    "Refresh of 16 KiB": partial(ask_rewritten, b"/refresh/16384"),
    "Refresh of 32 KiB": partial(ask_rewritten, b"/refresh/32768"),
    "4 MiB of empty lines": empty_lines,
    "upload in 1-byte chunks": partial(upload, b"1\r\nx\r\n"),
    "upload in 1-byte chunks with extensions": partial(upload, b"1;a=b\r\nx\r\n"),
    "answer in 1-byte chunks": partial(ask, b"/chunks"),
    "answer in 1-byte chunks with extensions": partial(ask, b"/extensions"),
    "10 000 refused requests in one pipeline": partial(pipeline, b"GET /", UNKNOWN),
    "pipeline of 10 000 to a sandbox": partial(pipeline, b"GET /", None),
    "pipeline of 10 000 to the API": partial(pipeline, b"GET /health", b"gateway.example"),
    "pipeline of 10 000, no two alike": different_pipeline,
    "3 400 names in the Connection of a request": named_by_connection,
    "Accept of 60 KB of commas": commas,
    "60 KB of cookies": cookies,
    "answer of 2 700 lines that its Connection names": partial(ask, b"/named"),
    "partial heads in packets of 8 bytes": partial(partial_head, 8),
    "answer's head in packets of 8 bytes": partial(ask, b"/partial"),
    "WebSocket frames of 1 byte to the sandbox": frames,
    "WebSocket frames of 1 byte from the sandbox": frames_back,
    "trailers in small packets": trailers,
    "answer with 16 KB of trailers": partial(ask, b"/trailers"),
    "16 interim answers of 60 KB": partial(ask, b"/interim"),
    "190 cookies to confine": partial(ask_rewritten, b"/cookies"),
    "15 000 links to bring home": partial(ask_rewritten, b"/links"),
    "PROXY header of 4 KiB byte by byte": preface,
    "PROXY line without end": preface_line,
    "four uploads in 1-byte chunks": partial(many_at_once, partial(upload, b"1\r\nx\r\n")),
}
