"""The data plane of the soak, in a process of its own: `soak_gateway.py PORT BACKEND ROUTES`.

Besides the sandboxes that stay there are some that come and go: each line on standard input is `put ID UID`,
`remove ID REASON` or `pause ID UID`, and is answered with a line once it has taken effect.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from gateway.addressing.routing import RoutingConfig
from gateway.gateway import Gateway
from gateway.limits import Limits
from gateway.options import GatewayOptions
from gateway.table import Removal, RouteState, RouteTable, SandboxRoute
from gateway.upstream.targets import Targets

ROUTING = RoutingConfig(gateway=True, uri=True, wildcard=b"sandboxes.example", api_hosts=frozenset())
LIMITS = Limits(keep_alive_timeout=20, pool_idle_timeout=10, connect_budget=1.0)


class Commands(asyncio.Protocol):
    """Changes the route table as told."""

    def __init__(self, table: RouteTable, backend: int) -> None:
        self._table = table
        self._reach = Targets(published={80: ("127.0.0.1", backend)})
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            verb, sandbox, detail = line.decode().split()
            if verb == "remove":
                self._table.remove(sandbox, Removal(detail))
            else:
                self.put(sandbox, detail, RouteState.PAUSED if verb == "pause" else RouteState.RUNNING)
            print(verb, sandbox, flush=True)

    def put(self, sandbox: str, uid: str, state: RouteState = RouteState.RUNNING) -> None:
        """Publishes a sandbox whose port 80 is the backend."""
        self._table.put(SandboxRoute(sandbox, uid, self._reach, state=state))


async def serve(port: int, backend: int, routes: int) -> None:
    """Serves until SIGTERM."""
    loop = asyncio.get_running_loop()
    table = RouteTable()
    table.synced = True
    commands = Commands(table, backend)
    for number in range(routes):
        commands.put(f"s{number}", "1")
    gateway = Gateway(table, GatewayOptions(routing=ROUTING, limits=LIMITS))
    await gateway.listen("127.0.0.1", port)
    await loop.connect_read_pipe(lambda: commands, sys.stdin.buffer)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await gateway.drain(5.0)
    await gateway.stop()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
