"""`ServerState`: what all connections of the data plane share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gateway.access.api_keys import ApiKeys, KeyAttempts
from gateway.access.callers import Callers
from gateway.access.credentials import Keyring
from gateway.access.throttle import FailureThrottle
from gateway.addressing.routing import Router
from gateway.deadlines import NEVER, Deadlines
from gateway.errors import (
    GatewayError,
    PortNotListening,
    SandboxNotFound,
    SandboxPaused,
    SandboxUnavailable,
    SandboxWaking,
)
from gateway.http.forwarded import TrustedPeers
from gateway.http.request_ids import RequestIds
from gateway.metrics import Counters
from gateway.options import GatewayOptions
from gateway.proxy.access_log import AccessLog
from gateway.proxy.resolve import for_removal
from gateway.table import Resolution, Resolver, RouteState, RouteTable, SandboxRoute
from gateway.upstream.dial import in_process, tcp
from gateway.upstream.pool import Connect, Pool
from gateway.upstream.targets import Targets

log = logging.getLogger(__name__)

REMEMBERED_SECONDS: Final = 5.0
"""How long a client connection remembers its last head while no other comes."""


class ServerState:
    """The parts that connections use, and the few decisions that need several of them."""

    __slots__ = (
        "_parked",
        "_resolving",
        "_tasks",
        "_waking",
        "access_log",
        "api",
        "callers",
        "clients",
        "clock",
        "counters",
        "deadlines",
        "draining",
        "forgotten_seconds",
        "guesses",
        "handshakes",
        "ids",
        "keyring",
        "limits",
        "options",
        "own_keys",
        "remembered_seconds",
        "resolver",
        "router",
        "stream_idle",
        "table",
        "throttle",
        "trusted",
        "turned_away",
    )

    def __init__(
        self,
        table: RouteTable,
        options: GatewayOptions,
        *,
        keyring: Keyring | None = None,
        resolver: Resolver | None = None,
        application: Callable[[], asyncio.Protocol] | None = None,
    ) -> None:
        self.table = table
        self.options = options
        self.router = Router(options.routing)
        self.keyring = keyring or Keyring({})
        self.limits = limits = options.limits
        self.resolver = resolver
        self.trusted = TrustedPeers(options.trusted_proxies)
        sample = options.access_log_sample
        self.access_log = None if sample is None else AccessLog(sample)
        self.deadlines = Deadlines()
        self.counters = Counters()
        self.callers = Callers(limits, self.counters)
        self.clients: set[Any] = set()
        self.handshakes: set[Any] = set()
        """Connections of a TLS listener that are none of them yet."""
        self.turned_away = 0
        """How many of them came when there were too many, and are open only until they know."""
        self.draining = False
        self.throttle = FailureThrottle()
        self.stream_idle = limits.stream_idle_timeout or NEVER
        self.own_keys = ApiKeys()
        self.guesses = KeyAttempts()
        """Of API keys, on the proxy path where it asks for one."""
        self.remembered_seconds = min(REMEMBERED_SECONDS, limits.keep_alive_timeout)
        self.forgotten_seconds = limits.keep_alive_timeout - self.remembered_seconds
        """How long it is kept open after that."""
        self.clock = time.monotonic
        """The clock of deadlines and activity; the loop's own shows whole milliseconds, too coarse for durations."""
        self.api: SandboxRoute | None = None
        if application is not None:
            self.mount(application)
        self._tasks: set[asyncio.Task[None]] = set()
        self._parked = 0
        self._waking: dict[bytes, asyncio.Task[Resolution]] = {}
        self._resolving: dict[bytes, asyncio.Task[Resolution]] = {}
        self.ids = RequestIds()

    @property
    def open_connections(self) -> int:
        """How many count against the limit of all."""
        return self.counters.connections + len(self.handshakes) - self.turned_away

    def take_keys(self, keys: ApiKeys) -> None:
        """These are the keys of our API from now on, also for connections whose next request is like their last.

        What a key has let in that is no longer one of them, or sees less, ends.
        """
        revoked, self.own_keys = self.own_keys.revoked(keys), keys
        if revoked:
            self.table.revoke_keys(revoked)
        for client in self.clients:
            client.forget()

    def mount(self, application: Callable[[], asyncio.Protocol]) -> None:
        """Requests that are for no sandbox go to this application from now on."""
        self.reach_api(in_process(application, self.limits, self.deadlines))

    def reach_api(self, connect: Connect) -> None:
        """Requests that are for no sandbox go over connections made this way from now on."""
        self.api = SandboxRoute("", "api", Targets())
        self.api.pools[0] = Pool(connect, self.limits, self.deadlines)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something that has to wait; the plane holds on to it and logs what it raises."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("the gateway failed on a request", exc_info=task.exception())

    def pool(self, route: SandboxRoute, port: int) -> Pool:
        """The pool of a sandbox port. Raises PortNotListening when nothing leads to the port."""
        pool = route.pools.get(port)
        if pool is None:
            target = route.reach.target(port)
            if target is None:
                raise PortNotListening("This port of the sandbox cannot be reached: it is not published.")
            connect = tcp(target, self.limits, self.deadlines, self.counters)
            pool = Pool(connect, self.limits, self.deadlines, target)
            pool.join(route.pools, port)
        return pool

    def missing(self, sandbox_id: bytes, viewer: str | None = None) -> GatewayError:
        """What to say of an id that the table does not hold; to a viewer of its own only, nothing of what was not."""
        removal = self.table.gone(sandbox_id)
        if removal is None or (viewer is not None and self.table.owner_of(sandbox_id) != viewer):
            return SandboxNotFound()
        return for_removal(removal)

    async def wake(self, sandbox_id: bytes) -> SandboxRoute:
        """Has a paused sandbox resumed; one attempt per id at a time, which goes on when its callers give up.

        Raises SandboxWaking when it takes too long or too many wait, SandboxPaused when it cannot be woken.
        """
        if self.resolver is None or self._parked >= self.limits.wake_max_waiting:
            raise SandboxWaking
        task = self._waking.get(sandbox_id)
        if task is None:
            task = self._waking[sandbox_id] = asyncio.ensure_future(self.resolver.wake(sandbox_id.decode("ascii")))
            task.add_done_callback(lambda _: self._waking.pop(sandbox_id, None))
        self._parked += 1
        try:
            async with asyncio.timeout(self.limits.wake_budget):
                await asyncio.shield(task)
        except TimeoutError:
            raise SandboxWaking from None
        finally:
            self._parked -= 1
        route = self.table.get(sandbox_id)
        if route is None:
            raise self.missing(sandbox_id)
        if route.state is RouteState.PAUSED:
            raise SandboxPaused("This sandbox is paused and could not be woken. Resume it through the API.")
        return route

    async def resolve(self, sandbox_id: bytes, viewer: str | None = None) -> SandboxRoute:
        """Asks the manager for an id that the table does not hold; one question per id at a time.

        Raises SandboxNotFound or one of its kind, SandboxUnavailable when the manager cannot tell.
        """
        if self.resolver is None:
            raise self.missing(sandbox_id, viewer)
        task = self._resolving.get(sandbox_id)
        if task is None:
            if len(self._resolving) >= MAX_RESOLVING:
                raise SandboxUnavailable
            task = asyncio.ensure_future(self.resolver.resolve(sandbox_id.decode("ascii")))
            self._resolving[sandbox_id] = task
            task.add_done_callback(lambda _: self._resolving.pop(sandbox_id, None))
        resolution = await asyncio.shield(task)
        if resolution is Resolution.UNAVAILABLE:
            raise SandboxUnavailable
        route = self.table.get(sandbox_id)
        if route is None:
            raise self.missing(sandbox_id, viewer)
        return route


MAX_RESOLVING = 256
"""Most ids asked for at once; a caller who guesses ids must not be able to flood the runtime."""
