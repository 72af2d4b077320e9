"""Our data plane as the server assembles it, in a process of its own: `gateway_server.py PORT BACKEND ROUTES ID`.

Every one of the ROUTES sandboxes is reached at 127.0.0.1; requests find theirs by Host, in header and path form too.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys

import uvloop

from gateway.addressing.routing import RoutingConfig
from gateway.gateway import Gateway
from gateway.options import GatewayOptions
from gateway.table import RouteTable, SandboxRoute
from gateway.upstream.targets import Targets

ROUTING = RoutingConfig(gateway=True, uri=True, wildcard=b"sandboxes.example", api_hosts=frozenset())


def fill(table: RouteTable, routes: int, sandbox_id: str) -> None:
    """Publishes `routes` sandboxes, one of them under `sandbox_id`."""
    for number in range(routes - 1):
        table.put(SandboxRoute(f"sandbox{number}", f"uid{number}", Targets("127.0.0.1")))
    table.put(SandboxRoute(sandbox_id, "uid", Targets("127.0.0.1")))
    table.synced = True


async def serve(port: int, routes: int, sandbox_id: str) -> None:
    """Serves until SIGTERM."""
    table = RouteTable()
    fill(table, routes, sandbox_id)
    gateway = Gateway(table, GatewayOptions(routing=ROUTING))
    await gateway.listen("127.0.0.1", port)
    gc.collect()
    gc.freeze()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await gateway.stop()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[3]), sys.argv[4]))
