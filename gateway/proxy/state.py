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
from gateway.errors import PortNotListening
from gateway.http.forwarded import TrustedPeers
from gateway.http.request_ids import RequestIds
from gateway.metrics import Counters
from gateway.options import GatewayOptions
from gateway.proxy.access_log import AccessLog
from gateway.proxy.resolve import Resolving
from gateway.table import Resolver, RouteTable, SandboxRoute
from gateway.upstream.dial import in_process, tcp
from gateway.upstream.host_rules import PUBLIC, UPSTREAM
from gateway.upstream.pool import Connect, Pool
from gateway.upstream.targets import Targets

log = logging.getLogger(__name__)

REMEMBERED_SECONDS: Final = 5.0
"""How long a client connection remembers its last head while no other comes."""


class ServerState:
    """The parts that connections use, and the few decisions that need several of them."""

    __slots__ = (
        "_tasks",
        "access_log",
        "amends_answers",
        "api",
        "callers",
        "clients",
        "clock",
        "counters",
        "deadlines",
        "default_host",
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
        "resolving",
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
        self.resolving = Resolving(table, limits, resolver)
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
        self.default_host = UPSTREAM if options.upstream_host else PUBLIC
        self.amends_answers = bool(options.cors_origins) or options.upstream_host
        """Whether answers of every sandbox are looked at for lines to add or change; see also the route."""
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
            rules = route.hosts
            pool.host = rules.host(port, target.authority, default=self.default_host)
            pool.moves_origin = rules.moves_origin(port)
            pool.join(route.pools, port)
        return pool
