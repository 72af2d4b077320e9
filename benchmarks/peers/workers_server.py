"""Our data plane in several processes, as the server assembles it: `workers_server.py PORT ROUTES ID PROCESSES`.

It listens once all of its workers do, so that whoever finds the port open finds all of them.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys

import uvloop

from benchmarks.peers.gateway_server import ROUTING, fill
from gateway.gateway import Gateway
from gateway.limits import Limits
from gateway.listener import bind
from gateway.options import GatewayOptions
from gateway.table import Resolution, RouteTable
from gateway.workers.messages import Secrets, Setup
from manager.workers.supervisor import Workers

POOL = 512
"""As many idle connections to the backend as the rivals of the other benchmarks keep."""


class Nobody:
    """There is no manager to ask."""

    async def resolve(self, sandbox_id: str) -> Resolution:
        """Knows nothing."""
        return Resolution.NOT_FOUND

    async def wake(self, sandbox_id: str) -> Resolution:
        """Wakes nothing."""
        return Resolution.NOT_FOUND


async def serve(port: int, routes: int, sandbox_id: str, processes: int) -> None:
    """Serves until SIGTERM."""
    table = RouteTable()
    fill(table, routes, sandbox_id)
    options = GatewayOptions(routing=ROUTING, limits=Limits(pool_max_idle=POOL))
    setup = Setup((("127.0.0.1", port),), 2048, None, options, None, 1.0, 30, processes)
    workers = Workers(processes - 1, table, Nobody())
    gateway = Gateway(table, options)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with workers.running(setup, Secrets({}, frozenset()), asyncio.Protocol):
        while len(workers.live) < workers.count:  # noqa: ASYNC110 - starting is told to nobody
            await asyncio.sleep(0.01)
        for worker in workers.live:
            await worker.serving.wait()
        for sock in bind("127.0.0.1", port, reuse_port=processes > 1):
            await gateway.listen(sock=sock)
        gc.collect()
        gc.freeze()
        await ended.wait()
    await gateway.stop()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
