"""A TLS listener whose connections count while their handshake lasts.

The loop's own tells of a connection when its handshake is complete, so that connections which never get there would be
limited by nothing but their time. Here they are accepted as they are, a few in each turn of the loop, counted, and then
given to the loop to be wrapped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.access.callers import TOLD, Caller
from gateway.errors import TooManyConnections, TooManyFromClient
from gateway.flow import put_off
from gateway.proxy.client_connection import LINGER_SECONDS, ClientConnection, address_of

if TYPE_CHECKING:
    from gateway.proxy.state import ServerState

SCHEME: Final = b"https"
_ACCEPTED_PER_TURN: Final = 16
_AGAIN_SECONDS: Final = 1.0
"""How long nobody is accepted when there is no file descriptor left."""

log = logging.getLogger(__name__)


class TlsServer:
    """One data plane's listening sockets with one certificate."""

    def __init__(self, plane: ServerState, sockets: list[socket.socket], context: ssl.SSLContext, backlog: int) -> None:
        self.sockets = tuple(sockets)
        self._plane = plane
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._closed = False
        for sock in sockets:
            sock.setblocking(False)
            sock.listen(backlog)
            self._watch(sock)

    def close(self) -> None:
        """Accepts nobody from now on."""
        self._closed = True
        for sock in self.sockets:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self.sockets = ()

    async def wait_closed(self) -> None:
        """Nothing is left to be waited for."""

    def _watch(self, sock: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_PER_TURN):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("cannot accept connections: %s", error.strerror)  # noqa: TRY400 - the message says it all
                self._loop.remove_reader(listening.fileno())
                self._loop.call_later(_AGAIN_SECONDS, self._watch, listening)
                return
            self._admit(sock, address_of(address))

    def _admit(self, sock: socket.socket, address: bytes | None) -> None:
        """Begins the handshake with a client; with few of those that are too many, since it takes one to tell them."""
        plane, caller, error = self._plane, None, TooManyConnections.code
        surplus = plane.open_connections >= plane.limits.max_connections
        if not (
            surplus or address is None or plane.options.proxy_protocol or plane.trusted.peer(address, SCHEME).trusted
        ):
            caller, error = plane.callers.arrive(address), TooManyFromClient.code
            surplus = caller is None
        if surplus and plane.turned_away >= TOLD:
            plane.counters.refused(error)
            sock.close()
        else:
            Handshake(plane, sock, caller, surplus=surplus).begin(self._context)


class Handshake:
    """One handshake: counts like a connection until there is one, or has failed."""

    __slots__ = ("_caller", "_is_ours", "_loop", "_plane", "_sock", "_surplus", "_task")

    def __init__(self, plane: ServerState, sock: socket.socket, caller: Caller | None, *, surplus: bool) -> None:
        self._plane = plane
        self._sock = sock
        self._is_ours = True
        """Whether the loop has not been given the socket yet."""
        self._caller = caller
        self._surplus = surplus
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None]

    def begin(self, context: ssl.SSLContext) -> None:
        """Lets the loop wrap the connection."""
        self._plane.handshakes.add(self)
        self._plane.turned_away += self._surplus
        self._task = self._plane.spawn(self._run(context))
        self._task.add_done_callback(self._ended)

    async def _run(self, context: ssl.SSLContext) -> None:
        plane = self._plane
        with contextlib.suppress(OSError):  # ssl.SSLError too: it speaks no TLS, does not like ours, has gone, is slow
            async with asyncio.timeout(plane.limits.head_timeout):
                await self._first_bytes()
            self._is_ours = False
            await self._loop.connect_accepted_socket(
                partial(_Client, plane, self.over),
                self._sock,
                ssl=context,
                ssl_handshake_timeout=plane.limits.head_timeout,
                # Who does not answer our close_notify would hold up a shutdown for the loop's own thirty seconds.
                ssl_shutdown_timeout=LINGER_SECONDS,
            )

    async def _first_bytes(self) -> None:
        """Waits for the client's first bytes, then for its turn: a handshake takes a good part of a millisecond."""
        come, turn = self._loop.create_future(), self._loop.create_future()
        self._loop.add_reader(self._sock.fileno(), _settle, come)
        try:
            await come
        finally:
            self._loop.remove_reader(self._sock.fileno())
        put_off(partial(_settle, turn))
        await turn

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._is_ours:
            self._sock.close()
        self.over()

    def over(self) -> None:
        """It counts no more; may be called again."""
        self._plane.handshakes.discard(self)
        self._plane.turned_away -= self._surplus
        self._surplus = False
        caller, self._caller = self._caller, None
        if caller is not None:
            self._plane.callers.leave(caller)

    def cancel(self) -> None:
        """The gateway stops."""
        self._task.cancel()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Client(ClientConnection):
    """The connection that a handshake becomes."""

    __slots__ = ("_over",)

    def __init__(self, plane: ServerState, over: Callable[[], None]) -> None:
        super().__init__(plane, SCHEME)
        self._over: Callable[[], None] | None = over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        over, self._over = self._over, None
        if over is not None:
            over()
        super().connection_made(transport)
