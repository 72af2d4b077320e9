"""The whole server on a fake runtime, as operators run it: with TLS or without, in one process or in several."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.access.credentials import AccessRule
from gateway.gateway import Gateway
from gateway.listener import Certificate
from gateway.table import SandboxRoute
from gateway.upstream.targets import Targets
from manager.api.app import build_app, runner_of
from manager.gateway_options import build_gateway, secrets, worker_setup
from manager.listening import bind_alone
from manager.metrics import LoopLag, registry
from manager.process import serve_metrics
from manager.workers.supervisor import Workers
from tests.conformance.address import PORT, SANDBOX
from tests.conformance.wire import Backend, Client
from tests.gateway.certificate import Files
from tests.manager.harness import House, open_house
from tests.server_process import free_port

PATIENCE = 15.0
"""Starting a Python on a busy machine takes its time."""
NAME = "api.sandbox.test"
"""The certificate is for names of this domain."""


@dataclass
class Several:
    """A running server, and the program behind port `PORT` of its sandbox."""

    house: House
    gateway: Gateway
    workers: Workers
    backend: Backend
    port: int
    metrics_port: int
    trust: ssl.SSLContext | None
    targets: Targets
    clients: list[Client] = field(default_factory=list)

    @property
    def processes(self) -> int:
        """How many share the port."""
        return 1 + self.workers.count

    @property
    def scheme(self) -> str:
        """http or https."""
        return "http" if self.trust is None else "https"

    def connections(self) -> int:
        """How many connections of clients are open in all processes, as far as they have told."""
        return self.workers.total(self.gateway.counters).connections

    async def put(self, *, token: bytes | None = None) -> None:
        """Makes the sandbox known to every process."""
        access = None if token is None else AccessRule(token)
        self.house.table.put(SandboxRoute(SANDBOX, "1", self.targets, access=access))
        for worker in self.workers.live:
            await worker.caught_up()

    async def connect(self, source: str = "127.0.0.1") -> Client:
        """A connection to whichever process the kernel chooses."""
        name = None if self.trust is None else NAME
        client = await Client.connect(self.port, self.trust, name, source)
        self.clients.append(client)
        return client

    async def one_each(self, source: str = "127.0.0.1") -> list[Client]:
        """A connection to each process: ids of requests begin alike if one process made them."""
        found: dict[bytes, Client] = {}
        async with asyncio.timeout(PATIENCE):
            while len(found) < self.processes:
                client = await self.connect(source)
                answer = await client.ask(b"GET /none HTTP/1.1\r\nHost: sb-1.sandbox.test\r\n\r\n")
                if (answer.one(b"x-request-id") or b"")[:16] in found:
                    await client.close()
                else:
                    found[(answer.one(b"x-request-id") or b"")[:16]] = client
        return list(found.values())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that has to become true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - conditions are about many things, none of which has an event
                await asyncio.sleep(0.002)


@asynccontextmanager
async def serving(folder: Path, *, tls: bool, processes: int, **tables: Any) -> AsyncIterator[Several]:
    """Starts it and stops it."""
    backend = Backend()
    server: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": free_port(),
        "metrics_port": free_port(),
        "workers": processes,
        **tables.pop("server", {}),
    }
    files = Files(folder) if tls else None
    if files is not None:
        server["tls"] = {"certificate": str(files.chain), "key": str(files.key)}
    targets = Targets(published={PORT: ("127.0.0.1", await backend.start())})
    async with open_house(folder, server=server, **tables) as house:
        settings, services, table = house.services.settings, house.services, house.table
        workers = Workers(processes - 1, table, services.resolver)
        gateway = build_gateway(settings, table, services)
        made = registry(lambda: workers.total(gateway.counters), table, services, LoopLag(), lambda: gateway.draining)
        app = build_app(services, settings)
        workers.guard(app)
        runner = runner_of(app, settings.gateway.limits)
        await runner.setup()
        assert runner.server is not None
        gateway.mount(runner.server)
        certificate = None if files is None else Certificate(str(files.chain), str(files.key))
        for sock in bind_alone("127.0.0.1", server["port"], shared=processes > 1):
            await gateway.listen(sock=sock, tls=None if certificate is None else certificate.context)
        trust = None if files is None else ssl.create_default_context(cafile=str(files.chain))
        started = Several(house, gateway, workers, backend, server["port"], server["metrics_port"], trust, targets)
        try:
            async with (
                serve_metrics(settings, made),
                workers.running(worker_setup(settings, gateway.addresses), secrets(settings, services), runner.server),
            ):
                await started.until(lambda: sum(worker.serving.is_set() for worker in workers.live) == processes - 1)
                await started.put()
                yield started
        finally:
            for client in started.clients:
                client.abort()
            await gateway.stop()
            await runner.cleanup()
            await backend.stop()
