"""The traffic of the soak: each kind is a loop that checks every byte it gets.

A kind raises `Wrong` for bytes that are not what was sent, or for a part that was taken for the whole. Anything else
that goes wrong is an error, by its name.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import h11

from benchmarks.peers.soak_backend import LINE_BYTES, LINES, content, digest, pieces

PATIENCE = 30.0
REMEMBERED = 4200
"""A little more than the number of removed ids that are remembered; of header lines it is twice as many."""
RESET = struct.pack("ii", 1, 0)
Control = Callable[[str], Awaitable[None]]


class Wrong(Exception):
    """Raised when the bytes that came are not the bytes that were sent."""


def same(got: object, expected: object, what: str) -> None:
    """Raises Wrong when they differ."""
    if got != expected:
        raise Wrong(f"{what}: {str(got)[:100]!r} instead of {str(expected)[:100]!r}")


@dataclass
class Traffic:
    """Where the traffic goes, and what has become of it."""

    port: int
    session: aiohttp.ClientSession
    control: Control
    """Changes a route: see `soak_gateway`."""
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    bytes_checked: int = 0
    lives: int = 0

    def url(self, path: str, sandbox: str | None = None) -> str:
        """An address in the path form."""
        return f"http://127.0.0.1:{self.port}/{sandbox or self.sandbox()}/80{path}"

    def sandbox(self) -> str:
        """One of the sandboxes that stay."""
        return f"s{random.randrange(100)}"

    def checked(self, size: int) -> None:
        """So many bytes were what they had to be."""
        self.bytes_checked += size

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of one's own, for what no client library does."""
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 16)


async def fill(traffic: Traffic) -> None:
    """Fills what the gateway remembers up to a bound, so that whatever grows afterwards grows without one.

    That is: ids that were removed, and header lines of clients and of sandboxes.
    """
    for number in range(REMEMBERED):
        await traffic.control(f"put filled{number} 1")
        await traffic.control(f"remove filled{number} deleted")
    for number in range(0, 2 * REMEMBERED, LINES):
        headers = {f"X-{number}-{line}": "x" * LINE_BYTES for line in range(LINES)}
        async with traffic.session.get(traffic.url(f"/lines/{number}"), headers=headers) as response:
            same(response.status, 200, "status")


async def get(traffic: Traffic) -> None:
    """GET with known content, with a length or in chunks."""
    seed, size = random.getrandbits(32), random.choice([0, 1, 100, 5_000, 70_000, 1_000_000])
    query = random.choice(["", "?chunked"])
    async with traffic.session.get(traffic.url(f"/bytes/{seed}/{size}{query}")) as response:
        same(response.status, 200, "status")
        data = await response.read()
        same(digest(data), response.headers["X-Hash"], "content")
        same(response.headers["X-Seed"], str(seed), "whose answer")
        same(len(data), size, "size")
    traffic.checked(size)


async def upload(traffic: Traffic) -> None:
    """POST with known content, with a length or in chunks."""
    data = content(random.getrandbits(32), random.choice([0, 10, 3_000, 200_000, 3_000_000]))
    body: bytes | AsyncIterator[bytes] = data if random.random() < 0.5 else pieces(data)
    async with traffic.session.post(traffic.url("/upload"), data=body) as response:
        said = await response.json()
        same((said["size"], said["hash"]), (len(data), digest(data)), "upload")
    traffic.checked(len(data))


async def echo(traffic: Traffic) -> None:
    """Bodies in both directions at once."""
    data = content(random.getrandbits(32), 500_000)
    async with traffic.session.post(traffic.url("/echo"), data=pieces(data)) as response:
        same(digest(await response.read()), digest(data), "echo")
    traffic.checked(2 * len(data))


async def refused(traffic: Traffic) -> None:
    """An upload that is answered before it is read: the answer arrives."""
    data = bytes(2_000_000)
    request = b"POST /%b/80/refuse HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    reader, writer = await traffic.connect()
    try:
        writer.write(request % (traffic.sandbox().encode(), len(data)) + data)
        same((await reader.readline())[:13], b"HTTP/1.1 413 ", "early answer")
    finally:
        writer.transport.abort()


async def truncated(traffic: Traffic) -> None:
    """A body that the sandbox does not finish is never taken for whole."""
    try:
        async with traffic.session.get(traffic.url("/cut/200000")) as response:
            data = await response.read()
    except aiohttp.ClientPayloadError:
        return
    raise Wrong(f"truncation hidden: {response.status}, {len(data)} bytes")


async def events(traffic: Traffic) -> None:
    """A stream of events, all of them in their order."""
    count = random.choice([5, 50, 200])
    expected = 0
    async with traffic.session.get(traffic.url(f"/events?count={count}&pause=0.05")) as response:
        async for line in response.content:
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                same((event["number"], event["hash"]), (expected, digest(str(expected).encode())), "event")
                expected += 1
                traffic.checked(len(line))
    same(expected, count, "number of events")


async def websocket(traffic: Traffic) -> None:
    """Messages of all sizes come back as they were."""
    async with traffic.session.ws_connect(traffic.url("/ws"), max_msg_size=1 << 21) as channel:
        for _ in range(random.choice([1, 20, 100])):
            data = content(random.getrandbits(32), random.choice([0, 10, 125, 126, 10_000, 65_536, 300_000]))
            await channel.send_bytes(data)
            message = await channel.receive(PATIENCE)
            same(message.type, aiohttp.WSMsgType.BINARY, "kind of message")
            same(message.data, data, "message")
            traffic.checked(2 * len(data))


async def abort(traffic: Traffic) -> None:
    """A client that goes away: before, within or after its upload, or within its answer."""
    reader, writer = await traffic.connect()
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    name = traffic.sandbox().encode()
    kind = random.randrange(4)
    if kind == 0:
        writer.write(b"GET /%b/80/bytes/1/100" % name)
    elif kind == 1:
        writer.write(b"POST /%b/80/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\npart" % name)
    elif kind == 2:
        writer.write(b"GET /%b/80/bytes/1/3000000 HTTP/1.1\r\nHost: x\r\n\r\n" % name)
        await reader.readexactly(random.randrange(1, 50_000))
    else:
        writer.write(b"GET /%b/80/events?pause=0.01 HTTP/1.1\r\nHost: x\r\n\r\n" % name)
        await reader.readexactly(500)
    await asyncio.sleep(random.random() / 10)
    writer.transport.abort()


async def slow(traffic: Traffic) -> None:
    """A reader much slower than the sandbox gets every byte, at its own pace."""
    size = 1_500_000
    reader, writer = await traffic.connect()
    try:
        request = b"GET /%b/80/bytes/7/%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        writer.write(request % (traffic.sandbox().encode(), size))
        same((await reader.readuntil(b"\r\n\r\n"))[:13], b"HTTP/1.1 200 ", "status")
        data = b""
        while piece := await reader.read(20_000):
            data += piece
            await asyncio.sleep(0.02)
        same(digest(data), digest(content(7, size)), "content at a slow reader")
        traffic.checked(size)
    finally:
        writer.close()


async def pipeline(traffic: Traffic) -> None:
    """Many requests in one go, cut anywhere: the answers come in order."""
    wanted = [(random.getrandbits(32), random.choice([0, 10, 2_000])) for _ in range(20)]
    name = traffic.sandbox().encode()
    raw = b"".join(b"GET /%b/80/bytes/%d/%d HTTP/1.1\r\nHost: x\r\n\r\n" % (name, *want) for want in wanted)
    reader, writer = await traffic.connect()
    try:
        cuts = sorted(random.sample(range(len(raw)), 3))
        for at, to in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            writer.write(raw[at:to])
            await asyncio.sleep(0)
        parser = h11.Connection(h11.CLIENT)
        for seed, size in wanted:
            same(await answer(parser, reader), content(seed, size), "pipelined answer")
            traffic.checked(size)
    finally:
        writer.close()


async def answer(parser: h11.Connection, reader: asyncio.StreamReader) -> bytes:
    """The body of the next answer."""
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    parser.send(h11.EndOfMessage())
    body = b""
    while not isinstance(event := parser.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            parser.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Data):
            body += event.data
    parser.start_next_cycle()
    return body


async def idle(traffic: Traffic) -> None:
    """A connection that asks once and then only stays for a while."""
    reader, writer = await traffic.connect()
    try:
        writer.write(b"GET /%b/80/bytes/1/10 HTTP/1.1\r\nHost: x\r\n\r\n" % traffic.sandbox().encode())
        same((await reader.readuntil(b"\r\n\r\n"))[:13], b"HTTP/1.1 200 ", "status")
        same(await reader.readexactly(10), content(1, 10), "content")
        await asyncio.sleep(random.random() * 30)
    finally:
        writer.close()


async def revoke(traffic: Traffic) -> None:
    """A sandbox that goes while it is used: what is open ends at once, what follows is refused, a new life answers."""
    traffic.lives += 1
    name = f"life{traffic.lives}"
    await traffic.control(f"put {name} first")
    async with (
        traffic.session.ws_connect(traffic.url("/ws", name)) as channel,
        traffic.session.get(traffic.url("/events?pause=0.01", name)) as stream,
    ):
        await channel.send_str("hello")
        same((await channel.receive(PATIENCE)).data, "hello", "message")
        await stream.content.readline()
        verb, code, status = random.choice(
            [("remove {} deleted", 1001, 410), ("remove {} expired", 1001, 410), ("pause {} first", 1012, 409)]
        )
        await traffic.control(verb.format(name))
        message = await channel.receive(PATIENCE)
        same((message.type, message.data), (aiohttp.WSMsgType.CLOSE, code), "close of a WebSocket")
        try:
            async with asyncio.timeout(PATIENCE):
                await stream.content.read()
        except aiohttp.ClientPayloadError:
            pass
        else:
            raise Wrong("a stream of a removed sandbox ended as if it were complete")
    async with traffic.session.get(traffic.url("/bytes/1/1", name)) as response:
        same(response.status, status, "status of a removed sandbox")
    await traffic.control(f"put {name} second")
    async with traffic.session.get(traffic.url("/bytes/1/1", name)) as response:
        same((response.status, await response.read()), (200, content(1, 1)), "a new life")
    await traffic.control(f"remove {name} deleted")


KINDS: dict[Callable[[Traffic], Awaitable[None]], int] = {
    get: 6,
    upload: 3,
    echo: 2,
    refused: 1,
    truncated: 1,
    events: 20,
    websocket: 6,
    abort: 3,
    slow: 4,
    pipeline: 2,
    idle: 100,
    revoke: 2,
}
"""Every kind, and how many loops of it run at once."""


async def repeat(kind: Callable[[Traffic], Awaitable[None]], traffic: Traffic, ended: asyncio.Event) -> None:
    """Runs a kind until the soak ends, writing down what becomes of it."""
    name = getattr(kind, "__name__", str(kind))
    while not ended.is_set():
        try:
            async with asyncio.timeout(4 * PATIENCE):
                await kind(traffic)
            traffic.done[name] += 1
        except Wrong as wrong:
            traffic.wrong.append(f"{name}: {wrong}")
        except (aiohttp.ClientError, OSError, h11.ProtocolError, EOFError, TimeoutError) as error:
            traffic.errors[f"{name}: {type(error).__name__} {str(error)[:120]}"] += 1
        await asyncio.sleep(random.random() / 20)
