"""A client and a backend that speak raw bytes: nothing between them and the gateway can repair a message.

Messages are taken apart by h11, which shares no code with the gateway; the raw bytes are kept beside it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import h11

PATIENCE = 5.0
"""Seconds to wait for something that has to happen."""
LARGEST = 1 << 20

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Message:
    """One message as it arrived: head and body apart, and every byte of it."""

    raw_head: bytes
    head: h11.Request | h11.Response
    interim: list[h11.InformationalResponse] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    complete: bool = False

    @property
    def status(self) -> int:
        """The status of a response."""
        assert isinstance(self.head, h11.Response)
        return self.head.status_code

    @property
    def target(self) -> bytes:
        """The target of a request."""
        assert isinstance(self.head, h11.Request)
        return self.head.target

    @property
    def lines(self) -> list[bytes]:
        """The header lines as they were on the wire."""
        return self.raw_head.split(b"\r\n")[1:-2]

    def all(self, name: bytes) -> list[bytes]:
        """The values of a header, by its lower-case name."""
        return [value for key, value in self.head.headers if key == name]

    def one(self, name: bytes) -> bytes | None:
        """The value of a header that may come once."""
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None


class Reader:
    """Reads messages off a stream, and can say that the stream has ended."""

    def __init__(self, stream: asyncio.StreamReader, connection: Callable[[], h11.Connection]) -> None:
        self._stream = stream
        self._make = connection
        self._rest = b""
        self.eof = False

    async def message(self, method: bytes = b"GET", *, body: bool = True) -> Message:
        """The next message. Without its end on the stream it comes back incomplete.

        Raises h11.RemoteProtocolError for bytes that are no message, ConnectionError when there are none.
        """
        parser = self._make()
        if parser.our_role is h11.CLIENT:
            parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
            parser.send(h11.EndOfMessage())
        raw, ended = self._rest, False
        message: Message | None = None
        interim: list[h11.InformationalResponse] = []
        if raw:
            parser.receive_data(raw)
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError:
                if not ended:
                    raise
                event = h11.ConnectionClosed()
            if event is h11.NEED_DATA:
                data = await self._more()
                ended = not data
                raw += data
                parser.receive_data(data)
            elif isinstance(event, h11.InformationalResponse):
                interim.append(event)
            elif isinstance(event, h11.Request | h11.Response):
                message = Message(_last_head(raw, len(interim)), event, interim)
                if not body:
                    self._rest = raw[len(message.raw_head) :]
                    return message
            elif isinstance(event, h11.Data) and message is not None:
                message.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and message is not None:
                message.complete = True
                message.trailers = list(event.headers)
                self._rest = parser.trailing_data[0]
                return message
            elif message is not None:
                return message
            else:
                raise ConnectionError(f"{event!r} after {raw!r}")

    async def take(self, count: int) -> bytes:
        """The next raw bytes, as many as asked for."""
        while len(self._rest) < count:
            data = await self._more()
            if not data:
                raise ConnectionError(f"the stream ended after {self._rest!r}")
            self._rest += data
        found, self._rest = self._rest[:count], self._rest[count:]
        return found

    async def until(self, mark: bytes) -> bytes:
        """Raw bytes until these have come, with whatever came along."""
        while mark not in self._rest:
            data = await self._more()
            if not data:
                raise ConnectionError(f"the stream ended after {self._rest!r}")
            self._rest += data
        found, self._rest = self._rest, b""
        return found

    async def skip(self, count: int) -> None:
        """Reads raw bytes and forgets them."""
        count -= len(self._rest)
        if count < 0:
            self._rest = self._rest[count:]
            return
        self._rest = b""
        while count > 0:
            data = await self._more()
            if not data:
                raise ConnectionError(f"the stream ended {count} bytes early")
            self._rest = data[count:]
            count -= len(data)

    async def until_end(self) -> bytes:
        """Everything that is still to come, however the stream ends."""
        rest, self._rest = self._rest, b""
        while data := await self._more():
            rest += data
        return rest

    async def _more(self) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                data = await self._stream.read(65536)
        except ConnectionError:
            data = b""
        self.eof = self.eof or not data
        return data


def _last_head(raw: bytes, skip: int) -> bytes:
    """The head after `skip` interim ones."""
    start = 0
    for _ in range(skip):
        start = raw.index(b"\r\n\r\n", start) + 4
    return raw[start : raw.index(b"\r\n\r\n", start) + 4]


class Client(Reader):
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, lambda: h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST))
        self._writer = writer

    @classmethod
    async def connect(
        cls, port: int, tls: ssl.SSLContext | None = None, name: str | None = None, source: str = "127.0.0.1"
    ) -> Client:
        """Opens a connection to 127.0.0.1, from another address of this machine if the test likes."""
        opened = asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name, local_addr=(source, 0))
        return cls(*await opened)

    async def send(self, data: bytes) -> None:
        """Writes bytes; that the gateway has closed meanwhile is no error here."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            self.eof = True

    async def ask(self, data: bytes, method: bytes = b"GET") -> Message:
        """Sends a request and reads its answer."""
        await self.send(data)
        return await self.message(method)

    def finish(self) -> None:
        """Says that nothing more will be sent."""
        self._writer.write_eof()

    def abort(self) -> None:
        """Drops the connection at once; what was not read makes that a reset."""
        if not self._writer.transport.is_closing():
            self._writer.transport.abort()

    def reset(self) -> None:
        """Drops the connection with a reset."""
        reset(self._writer)

    async def close(self) -> None:
        """Closes the connection."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with a reset, whatever was read or sent."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@dataclass(frozen=True)
class Reply:
    """What the backend does with a request."""

    data: bytes = OK
    close: bool = False
    """Closes after the data."""
    reset: bool = False
    """Resets the connection after the data."""
    early: bool = False
    """Answers on seeing the head, reading no body."""


class Peer(Reader):
    """One connection of the gateway to the backend, for tests that play the backend's part step by step."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, lambda: h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST))
        self.writer = writer
        self.ended = asyncio.Event()

    async def send(self, data: bytes) -> None:
        """Writes bytes."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Ends the connection with a reset, which overtakes nothing that was sent."""
        reset(self.writer)


class Backend:
    """A recording server: keeps every message it gets and answers with what the test says."""

    def __init__(self) -> None:
        self.reply = Reply()
        self.replies: list[Reply] = []
        """Used one after the other before `reply`."""
        self.seen: list[Message] = []
        self.broken: list[bytes] = []
        """What h11 or the end of a connection made of messages that never became whole."""
        self.connections = 0
        self.ended = 0
        """How many connections are over."""
        self.play: Callable[[Peer], Awaitable[None]] | None = None
        """Takes over a new connection."""
        self._steps = asyncio.Semaphore(0)
        self._turns = asyncio.Semaphore(0)
        self._server: asyncio.Server | None = None
        self._peers: set[Peer] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listens on 127.0.0.1 and returns the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Closes everything."""
        if self._server is not None:
            self._server.close()
        for peer in self._peers:
            peer.writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def step(self) -> None:
        """The backend has got somewhere: the test may go on."""
        self._steps.release()

    async def next_step(self) -> None:
        """The test waits for the backend."""
        async with asyncio.timeout(PATIENCE):
            await self._steps.acquire()

    def turn(self) -> None:
        """The test has got somewhere: the backend may go on."""
        self._turns.release()

    async def next_turn(self) -> None:
        """The backend waits for the test."""
        async with asyncio.timeout(PATIENCE):
            await self._turns.acquire()

    async def speak(self, data: bytes) -> None:
        """Sends bytes that nobody asked for on every open connection, and waits until the gateway has closed it."""
        for peer in list(self._peers):
            await peer.send(data)
            async with asyncio.timeout(PATIENCE):
                await peer.ended.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        peer = Peer(reader, writer)
        self._peers.add(peer)
        try:
            if self.play is not None:
                await self.play(peer)
            else:
                while await self._answer(peer):
                    pass
        except (h11.RemoteProtocolError, ConnectionError, TimeoutError) as error:
            self.broken.append(str(error).encode())
        except asyncio.CancelledError:
            return  # the test is over; asyncio's streams would complain about a cancelled task
        finally:
            self._tasks.discard(task)
            self._peers.discard(peer)
            peer.ended.set()
            self.ended += 1
            writer.close()

    async def _answer(self, peer: Peer) -> bool:
        early = (self.replies[0] if self.replies else self.reply).early
        try:
            message = await peer.message(body=not early)
        except ConnectionError:
            return False
        self.seen.append(message)
        if not early and not message.complete:
            return False
        reply = self.replies.pop(0) if self.replies else self.reply
        if reply.data:
            await peer.send(reply.data)
        if reply.reset:
            peer.reset()
        return not (reply.close or reply.reset)
