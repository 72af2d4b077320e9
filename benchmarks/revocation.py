"""How soon everything open on a sandbox ends when the sandbox does.

    scripts/bench revocation [--connections 1000] [--rounds 5]

Opens WebSockets and event streams through the gateway, takes the sandbox off the route table, and notes when each
client has its close frame or the end of its stream. Backend and clients are one other process, whose clock is the same.
The target is 50 ms for 1 000 connections, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import uvloop

from benchmarks.harness.processes import raise_file_limit
from benchmarks.harness.results import keep, machine, table
from gateway.addressing.routing import RoutingConfig
from gateway.gateway import Gateway
from gateway.options import GatewayOptions
from gateway.table import Removal, RouteTable, SandboxRoute
from gateway.upstream.targets import Targets

SANDBOX, PORT = "sb", 8080
HOST = b"Host: sb-8080.sandbox.test\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: hi\n\n"
KINDS = {
    "WebSocket": b"GET /ws HTTP/1.1\r\n%bConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % HOST,
    "event stream": b"GET /events HTTP/1.1\r\n%b\r\n" % HOST,
}
PATIENCE = 30.0
PROCESSES = multiprocessing.get_context("spawn")


class Backend(asyncio.Protocol):
    """Accepts what it is asked for, says hi, and stays."""

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            self._transport.write(SWITCH if b"Upgrade" in data else STREAM)


class Client(asyncio.Protocol):
    """Opens one stream and notes when it has begun and when it ended."""

    _transport: asyncio.Transport

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self.begun: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[float] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.begun.done():
            if b"hi" in data:
                self.begun.set_result(None)
        elif data[:1] == b"\x88":
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(monotonic())
            self._transport.close()


def peers(pipe: Connection, kind: str, connections: int) -> None:
    """The other process: backend and clients. Says when all streams have begun, and when each has ended."""
    raise_file_limit()
    uvloop.run(_peers(pipe, kind, connections))


async def _peers(pipe: Connection, kind: str, connections: int) -> None:
    loop = asyncio.get_running_loop()
    backend = await loop.create_server(Backend, "127.0.0.1", 0, backlog=connections)
    pipe.send(backend.sockets[0].getsockname()[1])
    port = pipe.recv()
    clients: list[Client] = []
    async with asyncio.timeout(PATIENCE):
        for _ in range(connections):
            _, client = await loop.create_connection(lambda: Client(KINDS[kind]), "127.0.0.1", port)
            clients.append(client)
        await asyncio.gather(*(client.begun for client in clients))
        pipe.send(None)
        pipe.send(await asyncio.gather(*(client.ended for client in clients)))
    backend.close()


async def measure(kind: str, connections: int) -> tuple[list[float], float]:
    """Milliseconds from the removal to each client's end, and of the gateway's CPU until then."""
    loop = asyncio.get_running_loop()
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=peers, args=(theirs, kind, connections))
    process.start()
    routes = RouteTable()
    routes.synced = True
    number = await loop.run_in_executor(None, ours.recv)
    routes.put(SandboxRoute(SANDBOX, "1", Targets(published={PORT: ("127.0.0.1", number)})))
    gateway = Gateway(routes, GatewayOptions(routing=RoutingConfig(gateway=True, wildcard=b"sandbox.test")))
    await gateway.listen("127.0.0.1", 0)
    ours.send(gateway.addresses[0][1])
    await loop.run_in_executor(None, ours.recv)
    started, worked = monotonic(), process_time()
    routes.remove(SANDBOX, Removal.DELETED)
    ends = await loop.run_in_executor(None, ours.recv)
    worked = process_time() - worked
    await gateway.stop()
    await loop.run_in_executor(None, process.join)
    return [(end - started) * 1000 for end in ends], worked * 1000


def main() -> None:
    """Measures, prints and keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-keep", action="store_true", help="do not write benchmarks/results/revocation.json")
    options = parser.parse_args()
    raise_file_limit()
    before = machine()
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        measured = [uvloop.run(measure(kind, options.connections)) for _ in range(options.rounds)]
        rounds = [times for times, _ in measured]
        rows.append(
            {
                "kind": kind,
                "connections": options.connections,
                "median ms": round(statistics.median(statistics.median(times) for times in rounds), 1),
                "last ms": round(statistics.median(max(times) for times in rounds), 1),
                "worst ms": round(max(max(times) for times in rounds), 1),
                "CPU ms": round(statistics.median(worked for _, worked in measured), 1),
            }
        )
    header = list(rows[0])
    print(table(header, [[str(row[name]) for name in header] for row in rows]))
    if not options.no_keep:
        path = keep("revocation", {"machine": before, "rounds": options.rounds, "rows": rows})
        print(f"\nkept in {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
