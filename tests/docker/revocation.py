"""Crowds of open connections on a sandbox, and how they end."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.access.credentials import AccessRule
from gateway.addressing.routing import RoutingConfig
from gateway.gateway import Gateway
from gateway.options import GatewayOptions
from gateway.table import RouteState, RouteTable, SandboxRoute
from gateway.upstream.targets import Targets

HERE = Path(__file__).parent
SANDBOX = "abc"
INSIDE = 8000
ROUTE = f"{SANDBOX}-{INSIDE}"
PATIENCE = 60.0


class Ended:
    """How a crowd of connections ended, and how long that took."""

    def __init__(self, since: float, ends: list[tuple[str, float, str]], used: float) -> None:
        self.used = used * 1000
        """Milliseconds of CPU time that this process has spent since the event."""
        self.delays = sorted((ended - since) * 1000 for _, ended, _ in ends)
        self.websockets = {how for kind, _, how in ends if kind == "websocket"}
        self.streams = {how for kind, _, how in ends if kind == "stream"}

    def __str__(self) -> str:
        return (
            f"{len(self.delays)} connections closed: first after {self.delays[0]:.1f} ms, "
            f"median {statistics.median(self.delays):.1f} ms, last {self.delays[-1]:.1f} ms"
            f" ({self.used:.1f} ms of CPU time)"
        )


class Crowd:
    """Connections that wait, in a process of their own so that reading them costs the gateway nothing."""

    def __init__(self, process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> None:
        self._process = process
        self._output = output

    @classmethod
    async def gather(cls, port: int, route: str, websockets: int, streams: int) -> Crowd:
        """Opens them; returns when all are open."""
        process, output = await spawn("crowd.py", str(port), route, str(websockets), str(streams))
        if await output.readline() != b"ready\n":
            raise RuntimeError("the crowd did not get in")
        return cls(process, output)

    async def ended(self, since: float, cpu: float) -> Ended:
        """Waits until all have ended; `since` and `cpu` are the moment of the event in monotonic and CPU time."""
        async with asyncio.timeout(PATIENCE):
            line = await self._output.readline()
            await self._process.wait()
        used = time.process_time() - cpu
        return Ended(since, [(kind, ended, how) for kind, ended, how in json.loads(line)], used)


async def spawn(script: str, *arguments: str) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    """Starts a script of this folder; returns it with its output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, HERE / script, *arguments, stdout=asyncio.subprocess.PIPE, limit=2**24
    )
    if process.stdout is None:
        raise RuntimeError("a script without output")
    return process, process.stdout


@dataclass
class Held:
    """A gateway with one sandbox, whose port keeps everything open."""

    table: RouteTable
    gateway: Gateway
    port: int
    reach: Targets

    def put(self, uid: str, state: RouteState = RouteState.RUNNING, *, access: AccessRule | None = None) -> None:
        """Makes the sandbox known, or changes what is known of it."""
        self.table.put(SandboxRoute(SANDBOX, uid, self.reach, state=state, access=access))

    async def status(self, route: str = ROUTE) -> int:
        """What a new request to the sandbox is answered."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"GET /short HTTP/1.1\r\nHost: gateway.test\r\nOpenSandbox-Ingress-To: {route}\r\n\r\n"
        writer.write(head.encode())
        line = await reader.readline()
        writer.close()
        return int(line.split()[1])


@asynccontextmanager
async def held() -> AsyncIterator[Held]:
    """Starts it, with the program in a process of its own."""
    process, output = await spawn("held_open.py", "127.0.0.1", "0")
    outside = int(await output.readline())
    table = RouteTable()
    table.synced = True
    gateway = Gateway(table, GatewayOptions(routing=RoutingConfig(gateway=True)))
    await gateway.listen("127.0.0.1", 0)
    made = Held(table, gateway, gateway.addresses[0][1], Targets(published={INSIDE: ("127.0.0.1", outside)}))
    made.put("1")
    try:
        yield made
    finally:
        await gateway.stop()
        process.kill()
        await process.wait()
