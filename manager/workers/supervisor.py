"""Supervises the worker processes: keeps them running, sends them every change, sums their counters.

They share the port with the first process, which alone runs the manager. With `server.workers = 1` there are none, and
nothing here costs anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Final

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.limits import Limits
from gateway.metrics import Counters
from gateway.table import Removal, Resolver, RouteTable, SandboxRoute
from gateway.workers.messages import Drain, Gone, LogLevel, Message, NewCertificate, Put, Secrets, Setup, Synced, encode
from manager.workers.process import Application, WorkerProcess

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
STEADY_SECONDS: Final = 30.0
"""A worker that ran for so long is replaced without delay."""
WATCH_SECONDS: Final = 10.0
SILENT_CHECKS: Final = 3
"""After so many checks without a report in between a worker counts as stuck."""
SETTLE_SECONDS: Final = 0.25
"""Longest wait for workers to apply a change."""
DRAIN_MARGIN: Final = 2.0
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def share_of(limits: Limits, processes: int) -> Limits:
    """The limits of one of so many processes: counts are divided, since each process counts its own connections."""

    def part(most: int) -> int:
        return -(-most // processes)

    return replace(
        limits,
        max_connections=part(limits.max_connections),
        max_client_connections=part(limits.max_client_connections),
        max_client_heads=part(limits.max_client_heads),
        max_sandbox_exchanges=part(limits.max_sandbox_exchanges),
        pool_max_idle=part(limits.pool_max_idle),
    )


class Workers(Collector):
    """All worker processes; a follower of the route table (gateway.table.Follower)."""

    def __init__(
        self, count: int, table: RouteTable, resolver: Resolver, *, watch_seconds: float = WATCH_SECONDS
    ) -> None:
        self.count = count
        """How many workers are configured, besides the first process."""
        self.replaced = 0
        """How many have exited unexpectedly."""
        self._table = table
        self._resolver = resolver
        self._live: list[WorkerProcess] = []
        self._left = Counters()
        """Counters of workers that have exited."""
        self._watch_seconds = watch_seconds
        self._stopping = False

    @contextlib.asynccontextmanager
    async def running(self, setup: Setup, secrets: Secrets, application: Application) -> AsyncIterator[None]:
        """Keeps the workers running while the context lasts; `application` serves the API."""
        if not self.count:
            yield
            return
        self._setup, self._secrets = setup, secrets
        self._table.followers.append(self)
        keepers = [asyncio.create_task(self._keep(number, application)) for number in range(1, self.count + 1)]
        keepers.append(asyncio.create_task(self._watch()))
        try:
            yield
        finally:
            self._stopping = True
            self._table.followers.remove(self)
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    @property
    def live(self) -> tuple[WorkerProcess, ...]:
        """The processes that run at present."""
        return tuple(self._live)

    async def _keep(self, number: int, application: Application) -> None:
        """Runs one worker after the other."""
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            began = loop.time()
            worker = WorkerProcess(number, self._table, self._resolver, application)
            try:
                how = f"ended with code {await self._run(worker)}"
            except OSError as error:
                how = f"could not be started: {error.strerror}"
            if self._stopping:
                return
            self.replaced += 1
            if loop.time() - began >= STEADY_SECONDS:
                pause = FIRST_PAUSE
            log.error("worker %d (process %d) %s; the next starts in %g s", number, worker.pid, how, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _run(self, worker: WorkerProcess) -> int:
        await worker.start()
        # In one iteration of the loop: no change may fall between the first messages and the following of the table.
        worker.begin(self._setup, self._secrets)
        self._live.append(worker)
        try:
            return await worker.ended()
        finally:
            worker.kill()
            await worker.ended()
            self._live.remove(worker)
            self._left.add(worker.ledger.close().snapshot())

    async def _watch(self) -> None:
        """Kills workers that have stopped reporting: their event loop is stuck, and so are their clients."""
        silent: dict[WorkerProcess, tuple[int, int]] = {}
        while True:
            await asyncio.sleep(self._watch_seconds)
            last, silent = silent, {}
            for worker in self._live:
                reports, checks = last.get(worker, (worker.reports, 0))
                checks = checks + 1 if reports == worker.reports and worker in last else 0
                silent[worker] = (worker.reports, checks)
                if checks >= SILENT_CHECKS:
                    log.error("worker %d (process %d) does not answer; it is killed", worker.number, worker.pid)
                    worker.kill()

    # Changes of the table (gateway.table.Follower): sent to every worker in the same iteration of the loop.

    def on_put(self, route: SandboxRoute) -> None:
        """The route is new or has changed."""
        self._tell(Put.of(route))

    def on_remove(self, sandbox_id: str, reason: Removal) -> None:
        """The route was removed."""
        self._tell(Gone(sandbox_id, reason, self._table.owner_of(sandbox_id.encode("ascii")) or ""))

    def on_synced(self, synced: bool) -> None:
        """Whether a miss means that the sandbox does not exist."""
        self._tell(Synced(synced))

    def set_secrets(self, secrets: Secrets) -> None:
        """Keys and credentials from now on."""
        self._secrets = secrets
        self._tell(secrets)

    def set_log_level(self, level: int) -> None:
        """The least severe messages that are logged."""
        if self.count:
            self._setup = replace(self._setup, log_level=level)
            self._tell(LogLevel(level))

    def renew_certificate(self) -> None:
        """The certificate files have changed."""
        self._tell(NewCertificate())

    def _tell(self, message: Message) -> None:
        if self._live:
            line = encode(message)
            for worker in self._live:
                worker.tell_line(line)

    async def settled(self) -> None:
        """Waits until all workers have applied every change so far, with a short limit should one be slow."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                for worker in self.live:
                    if worker.serving.is_set():
                        await worker.caught_up()

    def guard(self, app: web.Application) -> None:
        """Delays the API's response to a change until every process has applied it.

        A client that reads that a sandbox exists, or was deleted, may send its next request to any process.
        """
        if self.count:
            app.on_response_prepare.append(self._before_answer)

    async def _before_answer(self, request: web.Request, _: web.StreamResponse) -> None:
        if request.method not in _READING:
            await self.settled()

    async def drain(self, grace: float) -> None:
        """Tells all workers to finish within `grace` seconds, and waits until they have ended."""
        self._stopping = True
        self._tell(Drain(grace))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace + DRAIN_MARGIN):
                await asyncio.gather(*(worker.ended() for worker in self.live))

    # Counting.

    def total(self, own: Counters) -> Counters:
        """The counters of all processes, those that have ended included."""
        if not self.count:
            return own
        total = Counters()
        for part in (own, self._left, *(worker.ledger.counters for worker in self._live)):
            total.add(part.snapshot())
        return total

    def collect(self) -> Iterator[Metric]:
        """The metrics about the workers themselves."""
        serving = sum(worker.serving.is_set() for worker in self._live)
        yield GaugeMetricFamily("opensandbox_gateway_workers", "Worker processes that serve", value=serving)
        text = "Worker processes that have ended unexpectedly"
        yield CounterMetricFamily("opensandbox_gateway_worker_failures", text, value=self.replaced)
