"""Worker processes of a route table, with a backend for their sandboxes and an application for their API calls.

Run as a program it is the whole of a server that a test kills: `crew.py PORT SANDBOX_PORT`, which prints its workers.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from gateway.addressing.routing import RoutingConfig
from gateway.gateway import Gateway
from gateway.limits import Limits
from gateway.options import GatewayOptions
from gateway.table import Removal, Resolution, RouteState, RouteTable, SandboxRoute
from gateway.upstream.targets import Targets
from gateway.workers.messages import Secrets, Setup
from manager.listening import bind_alone
from manager.workers.supervisor import Workers
from tests.conformance.wire import Backend, Client, Message
from tests.server_process import free_port

PATIENCE = 15.0
"""Starting a Python on a busy machine takes its time."""
API_HOST = "api.test"
ROUTING = RoutingConfig(gateway=True, uri=False, wildcard=b"sandbox.test", api_hosts=frozenset({API_HOST.encode()}))
OPTIONS = GatewayOptions(routing=ROUTING, limits=Limits(connect_budget=0.0))
NO_SECRETS = Secrets({}, frozenset())


def setup_for(port: int) -> Setup:
    """Workers on 127.0.0.1."""
    return Setup((("127.0.0.1", port),), 100, None, OPTIONS, None, 5.0, 20, 2)


class Knowing:
    """The manager's answers to the questions of workers."""

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self.asked: list[str] = []
        self.known: dict[str, SandboxRoute] = {}

    async def resolve(self, sandbox_id: str) -> Resolution:
        """Publishes what is known."""
        self.asked.append(sandbox_id)
        if sandbox_id == "broken":
            raise RuntimeError("planned")
        if sandbox_id not in self.known:
            return Resolution.NOT_FOUND
        self.table.put(self.known[sandbox_id])
        return Resolution.PUBLISHED

    async def wake(self, sandbox_id: str) -> Resolution:
        """Lets a paused sandbox run."""
        self.asked.append(sandbox_id)
        held = self.table.get(sandbox_id.encode())
        if held is None:
            return Resolution.NOT_FOUND
        self.table.put(SandboxRoute(sandbox_id, held.uid, held.reach, wakes=True))
        return Resolution.PUBLISHED


class Crew:
    """The first process's side in a test; it listens itself only where the test asks it to."""

    def __init__(self, count: int, watch_seconds: float = 10.0, table: RouteTable | None = None) -> None:
        self.port = free_port()
        self.table = RouteTable() if table is None else table
        self.table.synced = True
        self.knowing = Knowing(self.table)
        self.workers = Workers(count, self.table, self.knowing, watch_seconds=watch_seconds)
        self.gateway = Gateway(self.table, OPTIONS)
        self.backend = Backend()
        self.backend_port = 0
        self.clients: list[Client] = []

    def put(self, uid: str = "1", state: RouteState = RouteState.RUNNING, *, wakes: bool = False) -> SandboxRoute:
        """Publishes the sandbox `abc`."""
        return self.table.put(SandboxRoute("abc", uid, Targets("127.0.0.1"), state=state, wakes=wakes))

    def remove(self) -> None:
        """Deletes it."""
        self.table.remove("abc", Removal.DELETED)

    async def listen(self) -> None:
        """Serves in this process as well."""
        for sock in bind_alone("127.0.0.1", self.port, shared=True):
            await self.gateway.listen(sock=sock)

    async def all_serve(self) -> None:
        """Waits until every worker accepts clients."""
        await self.until(
            lambda: (
                len(self.workers.live) == self.workers.count
                and all(worker.serving.is_set() for worker in self.workers.live)
            )
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that has to become true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - conditions are about many things, none of which has an event
                await asyncio.sleep(0.002)

    async def connect(self) -> Client:
        """A new connection, to whichever process the kernel chooses."""
        client = await Client.connect(self.port)
        self.clients.append(client)
        return client

    async def ask(self, client: Client, port: int | None = None) -> Message:
        """One request to the sandbox."""
        port = self.backend_port if port is None else port
        return await client.ask(b"GET / HTTP/1.1\r\nHost: x\r\nOpenSandbox-Ingress-To: abc-%d\r\n\r\n" % port)

    async def call(self, client: Client, line: str) -> Message:
        """One request to the API, such as `POST /sandbox`."""
        request = f"{line} HTTP/1.1\r\nHost: {API_HOST}\r\nContent-Length: 0\r\n\r\n"
        return await client.ask(request.encode(), line.split()[0].encode())

    async def one_each(self, processes: int) -> list[Client]:
        """A connection to each of so many processes: ids of requests begin alike if one process made them."""
        found: dict[bytes, Client] = {}
        while len(found) < processes:
            client = await self.connect()
            await self.ask(client)
            found.setdefault((self.backend.seen[-1].one(b"x-request-id") or b"")[:16], client)
        return list(found.values())


def application(crew: Crew) -> web.Application:
    """An API that publishes and deletes the sandbox, and tells who asked."""

    async def change(request: web.Request) -> web.Response:
        if request.method == "POST":
            crew.put()
        else:
            crew.remove()
        return web.Response(text=request.headers["X-Gateway-Peer"])

    async def tell(request: web.Request) -> web.Response:
        return web.Response(text=request.headers["X-Gateway-Peer"])

    app = web.Application()
    app.router.add_route("POST", "/sandbox", change)
    app.router.add_route("DELETE", "/sandbox", change)
    app.router.add_get("/sandbox", tell)
    crew.workers.guard(app)
    return app


@asynccontextmanager
async def working(crew: Crew, *, routes: int = 0) -> AsyncIterator[Crew]:
    """Starts the workers and ends them."""
    crew.backend_port = await crew.backend.start()
    for number in range(routes):
        crew.table.put(SandboxRoute(f"other-{number}", "1", Targets("127.0.0.1")))
    crew.put()
    runner = web.AppRunner(application(crew), access_log=None)
    await runner.setup()
    assert runner.server is not None
    crew.gateway.mount(runner.server)
    try:
        async with crew.workers.running(setup_for(crew.port), NO_SECRETS, runner.server):
            yield crew
    finally:
        for client in crew.clients:
            await client.close()
        await crew.gateway.stop()
        await runner.cleanup()
        await crew.backend.stop()


async def main(port: int, sandbox_port: int) -> None:
    """A server until it is killed."""
    crew = Crew(2)
    crew.port = port
    async with working(crew):
        crew.table.put(SandboxRoute("abc", "2", Targets(published={80: ("127.0.0.1", sandbox_port)})))
        await crew.all_serve()
        os.write(1, " ".join(str(worker.pid) for worker in crew.workers.live).encode() + b"\n")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
