"""The sandbox of the stream benchmarks: event streams, a WebSocket that echoes, short answers: `… PORT`."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from benchmarks.peers.frames import CLIENT_FRAME, SERVER_FRAME

EVENT = b'data: {"tick": "one event, as short as they usually are"}\n\n'
EVENT_CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
EVENTS_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
SHORT_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%b\r\n"
# The accept value belongs to the one key that the load generator sends.
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
SLICES = 20
"""The streams of a second are served in so many turns, as real ones are not all in step."""


class Sandbox(asyncio.Protocol):
    """One connection."""

    def __init__(self, streams: list[set[asyncio.Transport]]) -> None:
        self.streams = streams
        self.echoes = False
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.echoes:
            count, rest = divmod(len(self.buffer), len(CLIENT_FRAME))
            self.buffer = self.buffer[len(self.buffer) - rest :]
            self.transport.write(SERVER_FRAME * count)
            return
        while b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            self.answer(head)

    def answer(self, head: bytes) -> None:
        """Begins what the head asks for."""
        if head.startswith(b"GET /events"):
            self.transport.write(EVENTS_HEAD)
            min(self.streams, key=len).add(self.transport)
        elif b"\r\nupgrade: websocket" in head.lower():
            self.echoes = True
            self.transport.write(SWITCHING % ACCEPT)
        else:
            self.transport.write(SHORT_ANSWER)

    def connection_lost(self, exc: Exception | None) -> None:
        for slice_of_streams in self.streams:
            slice_of_streams.discard(self.transport)


async def serve(port: int) -> None:
    """Serves for ever, one event a second on every stream."""
    loop = asyncio.get_running_loop()
    streams: list[set[asyncio.Transport]] = [set() for _ in range(SLICES)]
    await loop.create_server(lambda: Sandbox(streams), "127.0.0.1", port, backlog=4096)
    turn, due = 0, loop.time()
    while True:
        for transport in streams[turn % SLICES]:
            transport.write(EVENT_CHUNK)
        turn, due = turn + 1, due + 1 / SLICES
        await asyncio.sleep(max(0.0, due - loop.time()))


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
