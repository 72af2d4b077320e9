"""Opens upstream connections: TCP to a sandbox port with a retry budget, or a socket pair to the REST application.

A refused connection means the program inside is not listening *yet* more often than it means never: an endpoint is
used the moment its sandbox exists. So refusals are retried within a short budget, and end as 504 (clients of the
platform back off for long on 502 and 503, see the ready loop of the official SDK). Everything else is final.

Where a port is published, whoever published it may accept the connection first and find out afterwards that nobody
listens behind it: the Engine's proxy does, as do those of virtual machines. Then a closed port is a new connection
that ends without a byte, and soon. The exchange, which knows whether its request may be sent again, tries again with
the same patience (`Patience`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from gateway.deadlines import Deadlines
from gateway.errors import ConnectFailed, GatewayError, PortNotListening, SandboxUnavailable
from gateway.limits import Limits
from gateway.metrics import Counters
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.pool import Connect, Pool
from gateway.upstream.targets import Target

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
EARLY_SECONDS = 1.0
"""A connection that lasted longer was not closed by a forwarder whose target refused."""
_UNREACHABLE = frozenset((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN))


class Patience:
    """When to try a closed port again, and for how long."""

    __slots__ = ("_ends", "_pause")

    def __init__(self, budget: float, now: float) -> None:
        self._ends = now + budget
        self._pause = FIRST_PAUSE

    def pause(self, now: float) -> float | None:
        """Seconds until the next attempt, or None when there is to be none."""
        pause = self._pause
        if now + pause >= self._ends:
            return None
        self._pause = min(pause * 2, LONGEST_PAUSE)
        return pause


def tcp(target: Target, limits: Limits, deadlines: Deadlines, counters: Counters) -> Connect:
    """Connects to a sandbox port. The result raises PortNotListening or ConnectFailed."""

    async def connect(pool: Pool) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        patience = Patience(limits.connect_budget, loop.time())
        while True:
            connection = UpstreamConnection(pool, limits)
            try:
                async with asyncio.timeout(limits.connect_timeout):
                    await _connect(connection, host=target.host, port=target.port)
            except OSError as error:  # TimeoutError is one of them
                counters.dial_failures += 1
                final = _final(error)
                if final is not None:
                    raise final from error
                pause = patience.pause(loop.time())
                if pause is None:
                    raise PortNotListening from error
                await asyncio.sleep(pause)
            else:
                counters.dials += 1
                if not connection.transport.is_closing():  # else it is lost already, or will be at once
                    deadlines.add(connection)
                return connection

    return connect


async def _connect(connection: UpstreamConnection, **where: Any) -> None:
    """Waits until the connection is made; who gives up meanwhile leaves nothing of it in the books."""
    try:
        await asyncio.get_running_loop().create_connection(lambda: connection, **where)
    except BaseException:
        connection.give_up()
        raise


def _final(error: OSError) -> GatewayError | None:
    """What a failed attempt means, or None when another one may succeed."""
    if isinstance(error, ConnectionRefusedError):
        return None
    if isinstance(error, TimeoutError):
        return ConnectFailed("The sandbox does not accept connections on this port. Check that it runs and try again.")
    if error.errno in _UNREACHABLE:
        return ConnectFailed("The sandbox's network cannot be reached. If it still runs, tell the operator.")
    return ConnectFailed()


def in_process(application: Callable[[], asyncio.Protocol], limits: Limits, deadlines: Deadlines) -> Connect:
    """Connects to an application of this process over a socket pair: no port, no file, nobody else can reach it."""

    async def connect(pool: Pool) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        await loop.connect_accepted_socket(application, theirs)
        connection = UpstreamConnection(pool, limits)
        await _connect(connection, sock=ours)
        deadlines.add(connection)
        return connection

    return connect


def passed_on(door: socket.socket, limits: Limits, deadlines: Deadlines) -> Connect:
    """Connects to the application of another process, which takes socket pairs from the other end of `door`.

    Raises SandboxUnavailable when it does not take one in time.
    """

    async def connect(pool: Pool) -> UpstreamConnection:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            async with asyncio.timeout(limits.connect_timeout):
                while not _hand_over(door, theirs):  # noqa: ASYNC110 - the other process cannot tell that it took one
                    await asyncio.sleep(FIRST_PAUSE)
        except OSError as error:  # TimeoutError is one of them
            ours.close()
            raise SandboxUnavailable("The API does not answer. Try again in a moment.") from error
        finally:
            theirs.close()
        connection = UpstreamConnection(pool, limits)
        await _connect(connection, sock=ours)
        deadlines.add(connection)
        return connection

    return connect


def _hand_over(door: socket.socket, sock: socket.socket) -> bool:
    """Sends the socket through the door; False when nothing fits through at present."""
    try:
        socket.send_fds(door, [b"\0"], [sock.fileno()])
    except BlockingIOError:
        return False
    return True
