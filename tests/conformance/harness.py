"""The gateway in process, with one sandbox whose port is the recording backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from gateway.access import AccessRule, Keyring
from gateway.connection import ClientConnection
from gateway.limits import Limits
from gateway.peers import TrustedPeers
from gateway.plane import Plane
from gateway.routing import Router, RoutingConfig
from gateway.table import Reach, Removal, RouteState, RouteTable, SandboxRoute
from tests.conformance.address import DOMAIN, PORT, SANDBOX
from tests.conformance.wire import Backend, Client

API_HOST = b"api.sandbox.test"
ROUTING = RoutingConfig(gateway=True, uri=True, wildcard=DOMAIN, api_hosts=frozenset({API_HOST}))
LIMITS = Limits(max_url_bytes=2048, max_head_bytes=8192, max_headers=50, connect_budget=0.0)


class World:
    """A listening gateway and a backend behind it."""

    def __init__(
        self, limits: Limits = LIMITS, keys: dict[bytes, bytes] | None = None, trusted: Iterable[str] = ()
    ) -> None:
        self.backend = Backend()
        self.table = RouteTable()
        self.table.synced = True
        self.plane = Plane(
            self.table, Router(ROUTING), keyring=Keyring(keys), limits=limits, trusted=TrustedPeers(trusted)
        )
        self.port = 0
        self._reach = Reach()
        self._server: asyncio.Server | None = None
        self._clients: list[Client] = []

    async def start(self) -> None:
        """Starts both, and makes the sandbox known."""
        loop = asyncio.get_running_loop()
        self._reach = Reach(published={PORT: ("127.0.0.1", await self.backend.start())})
        self.put()
        self.plane.clock = loop.time
        self.plane.deadlines.start(loop)
        self._server = await loop.create_server(lambda: ClientConnection(self.plane, b"http"), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def expose(self, port: int, number: int) -> None:
        """Lets another server of the test, on port `number`, stand behind `port` of the sandbox."""
        self._reach = Reach(published={**self._reach.published, port: ("127.0.0.1", number)})
        self.put()

    def put(
        self, id: str = SANDBOX, *, token: bytes | None = None, state: RouteState = RouteState.RUNNING, uid: str = "1"
    ) -> SandboxRoute:
        """Makes a sandbox known, or changes what is known of it."""
        access = None if token is None else AccessRule(token)
        return self.table.put(SandboxRoute(id, uid, self._reach, state=state, access=access))

    async def connect(self) -> Client:
        """A new connection to the gateway, closed at the end of the test."""
        client = await Client.connect(self.port)
        self._clients.append(client)
        return client

    def pass_time(self, seconds: float) -> None:
        """Lets every deadline come that lies within so many seconds."""
        self.plane.deadlines.sweep(asyncio.get_running_loop().time() + seconds)

    async def stop(self) -> None:
        """Closes everything."""
        for client in self._clients:
            await client.close()
        if self._server is not None:
            self._server.close()
        for connection in list(self.plane.clients):
            connection.cut()
        for route in self.table:
            self.table.remove(route.id.decode(), Removal.DELETED)
        await self.backend.stop()
        self.plane.deadlines.stop()


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    """Starts a world and stops it."""
    await world.start()
    try:
        yield world
    finally:
        await world.stop()
