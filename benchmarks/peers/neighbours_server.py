"""A data plane with few routes and an API of one answer, in a process of its own: `… PORT PREFACED ID`.

PREFACED is a second port of the same loop, whose clients send a PROXY preface. The gateway is the one that Python
finds first: the benchmark puts the tree under measurement on PYTHONPATH, so only what old trees have is used here.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import replace
from typing import cast

import uvloop

from gateway.addressing.routing import RoutingConfig
from gateway.gateway import Gateway
from gateway.options import GatewayOptions
from gateway.table import RouteTable, SandboxRoute
from gateway.upstream.targets import Targets

ROUTING = RoutingConfig(gateway=True, uri=True, wildcard=b"sandboxes.example", api_hosts=frozenset())
HEALTHY = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"status":"healthy"}'


class Api(asyncio.Protocol):
    """Answers every request without a body alike."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._buffer = (self._buffer + data).split(b"\r\n\r\n")
        self._transport.write(HEALTHY * len(heads))


async def serve(port: int, prefaced: int, sandbox_id: str) -> None:
    """Serves until SIGTERM."""
    table = RouteTable()
    table.put(SandboxRoute(sandbox_id, "uid", Targets("127.0.0.1")))
    table.synced = True
    options = GatewayOptions(routing=ROUTING)
    plain = Gateway(table, options, application=Api)
    prefaces = replace(options, trusted_proxies=("127.0.0.0/8",), proxy_protocol=True)
    behind = Gateway(table, prefaces, application=Api)
    await behind.listen("127.0.0.1", prefaced)
    await plain.listen("127.0.0.1", port)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await plain.stop()
    await behind.stop()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
