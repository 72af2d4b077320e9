"""A sandbox that answers as unpleasantly as its path asks for: `… PORT [NICE]`.

/                  a short answer, as /upload once the whole body is here
/refresh/N         a Refresh of N bytes that leads nowhere
/chunks            an answer in chunks of one byte
/extensions        the same, each chunk with an extension
/trailers          an answer with as many trailers as are taken
/interim           as many interim answers as are taken, each with a head as long as is taken
/cookies           an answer with 190 cookies to confine
/links             an answer with as many links as fit into a head
/partial           an answer whose head comes in very small packets
/frames            a WebSocket that sends frames of one byte
/swallow           a WebSocket that sends nothing
/bulk              an answer without end, at full speed
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import sys
from collections.abc import Iterator
from typing import cast

import uvloop

SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n"
BLOCK = bytes(1 << 20)
HEAD_BYTES = 60_000
ROUNDS = 4
"""How often a block of a mebibyte or so is repeated."""


def filled(line: bytes, size: int) -> bytes:
    """The line as often as it fits, each with its number."""
    return b"".join(line % number for number in range(size // len(line % 1000)))


def answer(path: bytes) -> Iterator[bytes]:
    """What is sent for the path, block by block."""
    kind, _, size = path[1:].partition(b"/")
    if kind == b"refresh":
        yield b"HTTP/1.1 200 OK\r\nRefresh: %b\r\n%b" % (b"1" * int(size), EMPTY)
    elif kind in (b"chunks", b"extensions"):
        yield CHUNKED
        yield from itertools.repeat((b"1\r\nx\r\n" if kind == b"chunks" else b"1;a=b\r\nx\r\n") * 180_000, ROUNDS)
        yield b"0\r\n\r\n"
    elif kind == b"trailers":
        yield b"%b0\r\n%b\r\n" % (CHUNKED, filled(b"t%04d: 1\r\n", 16_000))
    elif kind == b"interim":
        lines = filled(b"Link: </%03d" + b"x" * 300 + b">\r\n", HEAD_BYTES)
        yield from itertools.repeat(b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % lines, 16)
        yield SHORT
    elif kind == b"cookies":
        yield b"HTTP/1.1 200 OK\r\n%b%b" % (
            filled(b"Set-Cookie: c%03d=1" + b"; Path=/" * 36 + b"\r\n", HEAD_BYTES),
            EMPTY,
        )
    elif kind == b"links":
        yield b"HTTP/1.1 200 OK\r\nLink: %b\r\n%b" % (b",".join([b"</>"] * (HEAD_BYTES // 4)), EMPTY)
    elif kind == b"named":
        lines = filled(b"Proxy-Connection: %d\r\n", HEAD_BYTES)
        yield b"HTTP/1.1 200 OK\r\nConnection: proxy-connection\r\n%b%b" % (lines, EMPTY)
    elif kind == b"partial":
        head = b"HTTP/1.1 200 OK\r\n%b%b" % (filled(b"X-%03d: " + b"x" * 300 + b"\r\n", HEAD_BYTES), EMPTY)
        yield from (head[at : at + 8] for at in range(0, len(head), 8))
    elif kind == b"frames":
        yield SWITCHING
        yield from itertools.repeat(b"\x82\x01x" * 350_000, ROUNDS)
    elif kind == b"swallow":
        yield SWITCHING
    elif kind == b"sink":
        pass
    elif kind == b"bulk":
        yield ENDLESS
        yield from itertools.repeat(BLOCK)
    else:
        yield SHORT


class Sandbox(asyncio.Protocol):
    """One connection, one request after the other."""

    def __init__(self) -> None:
        self._buffer = b""
        self._body = False
        self._raw = False
        self._blocks: Iterator[bytes] = iter(())
        self._path = b"/"
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self._raw:
            return
        self._buffer += data
        while self._buffer:
            if self._body:
                if not self._buffer.endswith(b"0\r\n\r\n") and b"\r\n0\r\n" not in self._buffer:
                    self._buffer = self._buffer[-16:]
                    return
                self._body, self._buffer = False, b""
            else:
                head, end, rest = self._buffer.partition(b"\r\n\r\n")
                if not end:
                    return
                self._buffer = rest
                self._path = head.split(b" ", 2)[1]
                self._raw = b"\r\nUpgrade:" in head or self._path == b"/sink"
                if b"chunked" in head:
                    self._body = True
                    continue
            self._begin()

    def _begin(self) -> None:
        self._blocks = itertools.chain(self._blocks, answer(self._path))
        self._go_on()

    def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        for block in self._blocks:
            self._transport.write(block)
            if self._paused or self._transport.is_closing():
                return
            if len(block) == 8:
                loop.call_later(0, self._go_on)  # or small packets would be joined to large ones
                return

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._go_on()


async def serve(port: int) -> None:
    """Serves for ever."""
    server = await asyncio.get_running_loop().create_server(Sandbox, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    os.nice(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    uvloop.run(serve(int(sys.argv[1])))
