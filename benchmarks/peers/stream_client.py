"""The load of the stream benchmarks: `stream_client.py KIND PORT COUNT SECONDS HOST…`.

Says "ready" once every connection stands, waits for a line, works for SECONDS and prints one JSON object.

    idle     COUNT connections that have had one answer each and are then left alone
    browsers the same with heads as browsers send them, no two alike
    events   COUNT open event streams; counts what arrives
    echo     COUNT WebSockets, each with one message under way; counts the answers
    paced    COUNT requests a second, sent when they are due whatever the answers do; times from when they were due
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import cast

import uvloop

from benchmarks.harness.processes import raise_file_limit
from benchmarks.peers.frames import CLIENT_FRAME, KEY, SERVER_FRAME

OPEN_AT_ONCE = 200
PACED_CONNECTIONS = 128
LAST_ANSWERS = 0.5
"""How long the answers to the last requests are waited for."""
HOST, NUMBER = b"{host}", b"{number}"
"""What is different for each connection of a request."""
PLAIN = b"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"
BROWSER = (
    b"GET /view/{number}?tab=files HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"\r\nsec-ch-ua-mobile: ?0\r\n'
    b'sec-ch-ua-platform: "Linux"\r\nUpgrade-Insecure-Requests: 1\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
    b"Referer: http://{host}/view/{number}\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: de,en;q=0.7\r\n"
    b"Cookie: theme=dark; session={number}." + b"0123456789abcdef" * 42 + b"\r\n\r\n"
)
"""About 1.5 KiB."""
EVENTS = b"GET /events HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)


class Connection(asyncio.Protocol):
    """One connection: `began` resolves at the first answer's head; then what arrives is given to `on_data`."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.head = b""
        self.on_data: Callable[[bytes], None] = lambda data: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self.began.done():
            self.on_data(data)
            return
        self.head += data
        if b"\r\n\r\n" in self.head:
            if self.head[9:12] not in (b"200", b"101"):
                sys.exit(f"refused: {self.head[:200]!r}")
            self.began.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.began.done():
            self.began.set_exception(exc or ConnectionResetError())


async def open_all(port: int, count: int, hosts: list[str], request: bytes) -> list[Connection]:
    """Opens `count` connections, some at a time, hosts in turn."""
    loop = asyncio.get_running_loop()
    turn = itertools.cycle(hosts)
    opened: list[Connection] = []
    while len(opened) < count:
        batch: list[Connection] = []
        for _ in range(min(OPEN_AT_ONCE, count - len(opened))):
            number = len(opened) + len(batch)
            raw = request.replace(HOST, next(turn).encode()).replace(NUMBER, b"%06d" % number)
            made = await loop.create_connection(partial(Connection, raw), "127.0.0.1", port)
            batch.append(made[1])
        await asyncio.gather(*(connection.began for connection in batch))
        opened += batch
    return opened


async def start_signal() -> None:
    """Says that everything stands and waits to be told to begin."""
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def idle(connections: list[Connection], seconds: float, rate: int) -> dict[str, float]:
    """Leaves the connections alone."""
    await start_signal()
    await asyncio.sleep(seconds)
    return {"open": sum(not connection.transport.is_closing() for connection in connections)}


async def events(connections: list[Connection], seconds: float, rate: int) -> dict[str, float]:
    """Counts events."""
    count = 0

    def seen(data: bytes) -> None:
        nonlocal count
        count += data.count(b"data: ")

    for connection in connections:
        connection.on_data = seen
    await start_signal()
    count = 0
    await asyncio.sleep(seconds)
    return {"count": count}


async def echo(connections: list[Connection], seconds: float, rate: int) -> dict[str, float]:
    """Sends the next message of a WebSocket when the last one is back."""
    count = 0

    def answerer(connection: Connection) -> Callable[[bytes], None]:
        received = 0

        def on_data(data: bytes) -> None:
            nonlocal count, received
            received += len(data)
            if received >= len(SERVER_FRAME):
                received -= len(SERVER_FRAME)
                count += 1
                connection.transport.write(CLIENT_FRAME)

        return on_data

    for connection in connections:
        connection.on_data = answerer(connection)
    await start_signal()
    for connection in connections:
        connection.transport.write(CLIENT_FRAME)
    await asyncio.sleep(seconds)
    return {"count": count}


async def paced(connections: list[Connection], seconds: float, rate: int) -> dict[str, float]:
    """Sends on whichever connection is free; a request waits, with its clock running, where none is."""
    loop, clock = asyncio.get_running_loop(), time.perf_counter
    free, waiting = list(connections), deque[float]()
    times: list[float] = []

    def send(connection: Connection, due: float) -> None:
        def on_data(data: bytes) -> None:
            times.append(clock() - due)
            if waiting:
                send(connection, waiting.popleft())
            else:
                free.append(connection)

        connection.on_data = on_data
        connection.transport.write(connection.request)

    def come_due(due: float) -> None:
        if free:
            send(free.pop(), due)
        else:
            waiting.append(due)

    def pace() -> None:
        # A thread, because the loop's timers know whole milliseconds only, and four requests are due in each.
        for due in itertools.takewhile(lambda due: due < start + seconds, itertools.count(start, 1 / rate)):
            time.sleep(max(0.0, due - clock()))
            loop.call_soon_threadsafe(come_due, due)

    await start_signal()
    start = clock()
    await loop.run_in_executor(None, pace)
    await asyncio.sleep(LAST_ANSWERS)
    times.sort()
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
    found = {name: times[int(len(times) * share)] * 1000 for name, share in shares.items()}
    return {"count": len(times), "unanswered": len(connections) - len(free), **found}


KINDS = {
    "idle": (idle, PLAIN),
    "browsers": (idle, BROWSER),
    "events": (events, EVENTS),
    "echo": (echo, UPGRADE),
    "paced": (paced, PLAIN),
}


async def main(kind: str, port: int, count: int, seconds: float, hosts: list[str]) -> None:
    """Runs one kind of load."""
    work, request = KINDS[kind]
    opened = PACED_CONNECTIONS if kind == "paced" else count
    connections = await open_all(port, opened, hosts, request)
    print(json.dumps(await work(connections, seconds, count)), flush=True)


if __name__ == "__main__":
    raise_file_limit()
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:]))
