"""The gateway in process, with one sandbox whose port is the recording backend."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from gateway.access.cors import CorsRule
from gateway.access.credentials import AccessRule, Keyring
from gateway.access.quotas import QuotaRules
from gateway.addressing.routing import RoutingConfig
from gateway.flow import SLOW_PEER
from gateway.gateway import Gateway
from gateway.limits import Limits
from gateway.options import GatewayOptions
from gateway.proxy.client_connection import ClientConnection
from gateway.table import Resolver, RouteState, RouteTable, SandboxRoute
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.host_rules import NONE, HostRules
from gateway.upstream.targets import Targets
from tests.conformance.address import DOMAIN, PORT, PUBLIC, SANDBOX
from tests.conformance.wire import PATIENCE, Backend, Client

STILL = 2000
"""Turns of the loop without a change after which something counts as standing still."""
API_HOST = b"api.sandbox.test"
ROUTING = RoutingConfig(gateway=True, uri=True, wildcard=DOMAIN, api_hosts=frozenset({API_HOST}))
LIMITS = Limits(max_url_bytes=2048, max_head_bytes=8192, max_headers=50, connect_budget=0.0)


class World:
    """A listening gateway and a backend behind it."""

    def __init__(
        self,
        limits: Limits = LIMITS,
        keys: dict[bytes, bytes] | None = None,
        trusted: Iterable[str] = (),
        *,
        tls: ssl.SSLContext | None = None,
        trust: ssl.SSLContext | None = None,
        proxy_protocol: bool = False,
        proxy_needs_key: bool = False,
        resolver: Resolver | None = None,
        cors_origins: Iterable[bytes] = (),
        upstream_host: bool = False,
    ) -> None:
        self.backend = Backend()
        self.table = RouteTable()
        self.table.synced = True
        self.gateway = Gateway(
            self.table,
            GatewayOptions(
                routing=ROUTING,
                limits=limits,
                trusted_proxies=tuple(trusted),
                proxy_protocol=proxy_protocol,
                proxy_needs_key=proxy_needs_key,
                cors_origins=frozenset(cors_origins),
                upstream_host=upstream_host,
            ),
            keyring=Keyring(keys),
            resolver=resolver,
        )
        self.tls = tls
        self.trust = trust
        """With what clients connect that do not say."""
        self.port = 0
        self._reach = Targets()
        self._clients: list[Client] = []

    async def start(self) -> None:
        """Starts both, and makes the sandbox known."""
        self._reach = Targets(published={PORT: ("127.0.0.1", await self.backend.start())})
        self.put()
        await self.gateway.listen("127.0.0.1", 0, tls=self.tls)
        self.port = self.gateway.addresses[0][1]

    def forward(self) -> None:
        """Says that what listens in front of the sandbox is a forwarder, which accepts before the sandbox does."""
        self._reach = replace(self._reach, forwarded=True)
        self.put()

    def expose(self, port: int, number: int) -> None:
        """Lets another server of the test, on port `number`, stand behind `port` of the sandbox."""
        self._reach = replace(self._reach, published={**self._reach.published, port: ("127.0.0.1", number)})
        self.put()

    def put(
        self,
        id: str = SANDBOX,
        *,
        token: bytes | None = None,
        state: RouteState = RouteState.RUNNING,
        uid: str = "1",
        rules: QuotaRules | None = None,
        wakes: bool = False,
        keep_prefix: frozenset[int] = frozenset(),
        cors: CorsRule | None = None,
        hosts: HostRules = NONE,
    ) -> SandboxRoute:
        """Makes a sandbox known, or changes what is known of it."""
        access = None if token is None else AccessRule(token)
        route = SandboxRoute(
            id,
            uid,
            self._reach,
            state=state,
            access=access,
            rules=rules,
            wakes=wakes,
            keep_prefix=keep_prefix,
            cors=cors,
            hosts=hosts,
        )
        return self.table.put(route)

    def forget(self) -> None:
        """Loses touch with the manager's events, and the sandbox with it; it was never removed."""
        self.table.synced = False
        self.table._routes.clear()

    def state(self, id: str = SANDBOX) -> RouteState | None:
        """The state of a sandbox as the gateway knows it."""
        route = self.table.get(id.encode())
        return None if route is None else route.state

    async def connect(
        self, tls: ssl.SSLContext | None = None, name: str | None = None, source: str = "127.0.0.1"
    ) -> Client:
        """A new connection to the gateway, closed at the end of the test; `name` is the server's in TLS."""
        if tls is None and self.trust is not None:
            tls, name = self.trust, PUBLIC.decode()
        client = await Client.connect(self.port, tls, name, source)
        self._clients.append(client)
        return client

    def connections(self) -> int:
        """How many connections the gateway holds, those to the sandbox as well: all of them may time out."""
        kinds = (ClientConnection, UpstreamConnection)
        return sum(isinstance(member, kinds) for member in self.gateway._plane.deadlines._members)

    def stuck(self) -> int:
        """How many connections are not read from since the other side takes nothing."""
        held: set[Any] = self.gateway._plane.deadlines.held
        return sum(bool(one.valve.reasons & SLOW_PEER) for one in held)

    def pass_time(self, seconds: float) -> None:
        """Lets every deadline come that lies within so many seconds."""
        self.gateway._plane.deadlines.sweep(asyncio.get_running_loop().time() + seconds)

    async def settled(self) -> None:
        """Waits until the gateway has read what was sent on this machine: a round trip on another connection."""
        client = await self.connect()
        await client.ask(b"GET /settled HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
        await client.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that has to become true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - a condition of any kind has no event
                await asyncio.sleep(0)

    async def stands_still(self, number: Callable[[], int]) -> None:
        """Waits until a number has started to grow and stays the same over many turns of the loop."""
        async with asyncio.timeout(PATIENCE):
            last, same = 0, 0
            while same < STILL:
                await asyncio.sleep(0)
                now = number()
                same = same + 1 if now == last and now else 0
                last = now

    async def stop(self) -> None:
        """Closes everything."""
        for client in self._clients:
            await client.close()
        await self.gateway.stop()
        await self.backend.stop()


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    """Starts a world and stops it."""
    await world.start()
    try:
        yield world
    finally:
        await world.stop()
