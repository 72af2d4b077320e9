"""A gateway in a process of its own, whose memory a test may look at: `spike_server.py BACKEND`; prints its port."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from gateway.addressing.routing import RoutingConfig
from gateway.gateway import Gateway
from gateway.options import GatewayOptions
from gateway.table import RouteTable, SandboxRoute
from gateway.upstream.targets import Targets
from tests.conformance.address import PORT, SANDBOX


async def serve(backend: int) -> None:
    """Serves until its standard input ends."""
    table = RouteTable()
    table.put(SandboxRoute(SANDBOX, "1", Targets(published={PORT: ("127.0.0.1", backend)})))
    table.synced = True
    gateway = Gateway(table, GatewayOptions(routing=RoutingConfig(gateway=True)))
    await gateway.listen("127.0.0.1", 0)
    sys.stdout.write(f"{gateway.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await gateway.stop()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
