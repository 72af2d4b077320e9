"""The composition root: settings → runtime and records → services → API → gateway, and in reverse at the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry

from gateway.access.credentials import Keyring
from gateway.gateway import Gateway
from gateway.listener import Certificate
from gateway.table import RouteTable
from manager import logs
from manager.api.app import build_app, runner_of
from manager.backend import open_backend
from manager.domain.errors import ManagerError
from manager.gateway_options import build_gateway, secrets, worker_setup
from manager.listening import bind_alone, remedy
from manager.metrics import LoopLag, metrics_app, registry, render
from manager.open_files import connections, raise_limit
from manager.services.wiring import Services, build_services
from manager.settings.exposure import exposed
from manager.settings.load import ConfigError, load_settings
from manager.settings.model import Settings
from manager.settings.reload import needing_restart
from manager.workers.supervisor import Workers

log = logging.getLogger(__name__)

CERTIFICATE_SECONDS = 10.0


def run(settings: Settings, config_path: Path) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code of the process."""
    try:
        sockets = bind_alone(settings.server.host, settings.server.port, shared=settings.server.workers > 1)
    except OSError as error:
        where = f"{settings.server.host}:{settings.server.port}"
        log.error("cannot listen on %s: %s; %s", where, error.strerror or error, remedy(error))  # noqa: TRY400
        return 1
    limit = raise_limit()
    log.info("open files: limit %d, good for %d connections", limit, connections(limit))
    try:
        return uvloop.run(_serve(settings, sockets, config_path))
    except ManagerError as error:
        log.error("%s", error.message)  # noqa: TRY400 - the message is for the operator, the trace is not
        return 1
    finally:
        for sock in sockets:
            sock.close()


async def _serve(settings: Settings, sockets: Sequence[socket.socket], config: Path) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stopping)
    table = RouteTable()
    lag = LoopLag()
    async with _services(settings, table, config) as services, _background(lag.run()):
        gateway = build_gateway(settings, table, services)
        workers = Workers(settings.server.workers - 1, table, services.resolver)
        made = registry(lambda: workers.total(gateway.counters), table, services, lag, lambda: gateway.draining)
        made.register(workers)
        app = build_app(services, settings, scrape=partial(render, made))
        workers.guard(app)
        async with _application(app, settings) as application, serve_metrics(settings, made):
            gateway.mount(application)
            certificate = _certificate(settings)
            reload = Reload(config, services, gateway, workers, certificate)
            loop.add_signal_handler(signal.SIGHUP, reload.all)
            async with _background(reload.watch_certificate()):
                for sock in sockets:
                    tls = certificate.context if certificate is not None else None
                    await gateway.listen(sock=sock, backlog=settings.server.backlog, tls=tls)
                _settle()
                log.info("listening on %s", ", ".join(f"{host}:{port}" for host, port in gateway.addresses))
                setup = worker_setup(settings, gateway.addresses)
                async with workers.running(setup, secrets(settings, services), application):
                    await stopping.wait()
                    grace = settings.server.shutdown_grace_seconds
                    log.info("stopping: what is under way has %g s to finish", grace)
                    services.drain()
                    await asyncio.gather(gateway.drain(grace), workers.drain(grace))
                await gateway.stop()
    log.info("stopped")
    return 0


def _on_signal(stopping: asyncio.Event) -> None:
    if stopping.is_set():
        # A second signal skips the grace period. Sandboxes are untouched; the next start adopts them.
        os._exit(130)
    stopping.set()


@contextlib.asynccontextmanager
async def _services(settings: Settings, table: RouteTable, config: Path) -> AsyncIterator[Services]:
    runtime, records = open_backend(settings, config)
    services = build_services(settings, runtime, records, table)
    try:
        await services.start()
        yield services
    finally:
        await services.stop()


@contextlib.asynccontextmanager
async def _application(app: web.Application, settings: Settings) -> AsyncIterator[web.Server]:
    runner = runner_of(app, settings.gateway.limits)
    await runner.setup()
    server = runner.server
    if server is None:
        raise RuntimeError("the application did not start")
    try:
        yield server
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def serve_metrics(settings: Settings, made: CollectorRegistry) -> AsyncIterator[None]:
    """`/metrics` on a port of its own, where it needs no key."""
    host, port = settings.server.metrics_host, settings.server.metrics_port
    if port is None:
        yield
        return
    runner = web.AppRunner(metrics_app(made), handle_signals=False, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        log.info("metrics on http://%s:%d/metrics", host, port)
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `work` for as long as the block."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _certificate(settings: Settings) -> Certificate | None:
    tls = settings.server.tls
    return Certificate(tls.certificate, tls.key) if tls.certificate and tls.key else None


class Reload:
    """The configuration that a running server reloads: keys, log level, certificates."""

    def __init__(
        self,
        config_path: Path,
        services: Services,
        gateway: Gateway,
        workers: Workers,
        certificate: Certificate | None,
    ) -> None:
        self._config_path = config_path
        self._services = services
        self._gateway = gateway
        self._workers = workers
        self._certificate = certificate

    def all(self) -> None:
        """On SIGHUP: reads the configuration again; a broken one changes nothing."""
        try:
            settings = load_settings(str(self._config_path)).settings
        except ConfigError as error:
            log.error("not reloaded: %s", "; ".join(error.lines))  # noqa: TRY400 - the lines say it all
            return
        started = self._services.settings
        problems = exposed(settings, os.environ, host=started.server.host)
        if problems:
            log.error("not reloaded: %s", "; ".join(map(str, problems)))
            return
        waiting = needing_restart(started, settings)
        if waiting:
            log.warning("changed since the start, and taken over by a restart only: %s", ", ".join(waiting))
        self._services.reload(settings)
        known = secrets(settings, self._services)
        self._gateway.set_keyring(Keyring(known.keys))
        self._gateway.set_own_keys(known.own, known.entering, known.viewers)
        self._workers.set_secrets(known)
        logs.set_level(settings.log.level)
        self._workers.set_log_level(logging.getLogger().level)
        self.certificate()
        log.info("reloaded keys and log level from %s", self._config_path)

    def certificate(self) -> None:
        """Reloads the certificate files when they have changed."""
        if self._certificate is None:
            return
        try:
            if self._certificate.refresh():
                self._workers.renew_certificate()
                log.info("the new TLS certificate is in use")
        except OSError as error:  # ssl.SSLError is one of them
            log.error("the TLS certificate cannot be used, the old one stays: %s", error)  # noqa: TRY400

    async def watch_certificate(self) -> None:
        """Checks for new certificate files until cancelled: renewing them needs no signal."""
        while self._certificate is not None:
            await asyncio.sleep(CERTIFICATE_SECONDS)
            self.certificate()


def _settle() -> None:
    """What start-up has made lives as long as the process: the collector need not look at it again."""
    # Once is enough. A full collection holds the loop for some 50 ms among 10 000 sandboxes, but it comes only when
    # 70 000 more objects live than at the last one, that is with every 9 000 sandboxes more than there ever were: none
    # in 20 000 API calls, none in 60 000 creates and deletes, since nothing of ours dies in a cycle. To freeze again
    # and again would save that pause and keep for ever what happens to be half-way then.
    gc.collect()
    gc.freeze()
