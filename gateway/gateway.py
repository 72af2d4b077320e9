"""The assembled data plane: start, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from gateway.access.api_keys import GUESSES, ApiKeys, KeyAttempts
from gateway.access.credentials import Keyring
from gateway.access.throttle import BURST, REFILL, FailureThrottle
from gateway.listener import bind, leave_out_noise
from gateway.memory import trimmer
from gateway.metrics import Counters
from gateway.options import GatewayOptions
from gateway.proxy.client_connection import ClientConnection
from gateway.proxy.state import ServerState
from gateway.proxy.tls_server import TlsServer
from gateway.table import Resolver, RouteTable
from gateway.upstream.dial import passed_on

log = logging.getLogger(__name__)

BACKLOG = 2048
_DRAIN_STEP = 0.02
_DRAINED_PER_TURN = 64
"""Answers under way go on while thousands of WebSockets are told to come back, each in some 0.03 ms."""


class Gateway:
    """One data plane on the running loop, with any number of listening sockets."""

    def __init__(
        self,
        table: RouteTable,
        options: GatewayOptions,
        *,
        keyring: Keyring | None = None,
        resolver: Resolver | None = None,
        application: Callable[[], asyncio.Protocol] | None = None,
    ) -> None:
        """Serves the routes of `table`.

        `keyring` holds the secrets of signed addresses, `resolver` is asked for ids that the table does not hold, and
        requests that are for no sandbox go to `application`.
        """
        self._plane = ServerState(table, options, keyring=keyring, resolver=resolver, application=application)
        self._servers: list[asyncio.Server | TlsServer] = []
        self._started = False

    @property
    def counters(self) -> Counters:
        """The counters of this process."""
        return self._plane.counters

    @property
    def draining(self) -> bool:
        """Whether the gateway is shutting down."""
        return self._plane.draining

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every listening socket."""
        return [sock.getsockname()[:2] for server in self._servers for sock in server.sockets]

    def mount(self, application: Callable[[], asyncio.Protocol]) -> None:
        """Requests that are for no sandbox go to this application from now on, over socket pairs."""
        self._plane.mount(application)

    def pass_api_through(self, door: socket.socket) -> None:
        """Requests that are for no sandbox go to the process at the other end of `door` from now on."""
        plane = self._plane
        plane.reach_api(passed_on(door, plane.limits, plane.deadlines))

    def share_guesses(self, processes: int) -> None:
        """So many processes serve the same sandboxes: together they let signatures and keys be guessed as one would."""
        self._plane.throttle = FailureThrottle(-(-BURST // processes), REFILL * processes)
        self._plane.guesses = KeyAttempts(-(-GUESSES // processes), float(processes))

    def set_keyring(self, keyring: Keyring) -> None:
        """Signed addresses are checked with these keys from now on; what another key has let in ends."""
        plane = self._plane
        changed = plane.keyring.changed(keyring)
        plane.keyring = keyring
        if changed:
            plane.table.revoke_keys(changed, secured=True)

    def set_own_keys(
        self, keys: Iterable[bytes], entering: Iterable[bytes], viewers: Mapping[bytes, str] | None = None
    ) -> None:
        """The keys of our API, which are kept from sandboxes; those `entering` open the proxy path.

        `viewers` are the names of those that open it only to sandboxes that were made with them.
        """
        self._plane.take_keys(ApiKeys(keys, entering, viewers))

    async def listen(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        sock: socket.socket | None = None,
        tls: ssl.SSLContext | None = None,
        backlog: int = BACKLOG,
    ) -> None:
        """Accepts clients on host and port, or on a bound socket. Raises OSError when the address is taken."""
        loop = asyncio.get_running_loop()
        plane = self._plane
        if not self._started:
            self._started = True
            leave_out_noise()
            plane.deadlines.start(loop)
            trims = trimmer(plane.counters, plane.deadlines.now)
            if trims is not None:
                plane.deadlines.add(trims)
        if tls is not None:
            sockets = bind(host or "", port or 0) if sock is None else [sock]
            self._servers.append(TlsServer(plane, sockets, tls, backlog))
            return
        create = partial(loop.create_server, partial(ClientConnection, plane, b"http"), backlog=backlog)
        server = await (create(host, port or 0) if sock is None else create(sock=sock))
        self._servers.append(server)

    async def drain(self, grace: float) -> None:
        """Stops accepting, lets answers under way finish for `grace` seconds, then cuts what is left."""
        plane = self._plane
        plane.draining = True
        for server in self._servers:
            server.close()
        for number, client in enumerate(list(plane.clients), 1):
            client.drain()
            if number % _DRAINED_PER_TURN == 0:
                await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        ends = loop.time() + grace
        while plane.clients and loop.time() < ends:  # noqa: ASYNC110 - no event per connection for this
            await asyncio.sleep(_DRAIN_STEP)
        if plane.clients:
            log.warning("%d connections were still open after %g s and are cut", len(plane.clients), grace)
        self._cut()

    async def stop(self) -> None:
        """Closes everything at once. Call `drain` first for a graceful shutdown."""
        plane = self._plane
        plane.deadlines.stop()
        for server in self._servers:
            server.close()
        self._cut()
        for route in plane.table:
            route.close_idle()
        if plane.api is not None:
            plane.api.close_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                for server in self._servers:
                    await server.wait_closed()
        self._servers.clear()

    def _cut(self) -> None:
        for handshake in list(self._plane.handshakes):
            handshake.cancel()
        for client in list(self._plane.clients):
            client.cut()
