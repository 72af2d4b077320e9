"""The composition root: settings → store → runtime → services → API → gateway, and the same in reverse at the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry

from gateway.access import Keyring
from gateway.access_log import AccessLog
from gateway.gateway import Gateway
from gateway.listener import Certificate, bind
from gateway.routing import Router, RoutingConfig
from gateway.table import RouteTable
from manager import logs
from manager.api.app import build_app
from manager.domain.errors import ManagerError
from manager.metrics import LoopLag, metrics_app, registry, render
from manager.runtime.docker.runtime import DockerRuntime
from manager.services.bundle import Services, build_services
from manager.settings.load import ConfigError, load_settings
from manager.settings.model import Settings
from manager.store.store import Store

log = logging.getLogger(__name__)

CERTIFICATE_SECONDS = 10.0
APP_KEEP_ALIVE = 3600.0
"""The application never closes an idle pair first; the gateway's pool does."""


class _Paths(NamedTuple):
    """Files the process uses."""

    config: Path
    store: Path


def run(settings: Settings, config_path: Path) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code of the process."""
    try:
        sockets = bind(settings.server.host, settings.server.port)
    except OSError as error:
        where = f"{settings.server.host}:{settings.server.port}"
        log.error("cannot listen on %s: %s. Stop what uses the port, or set server.port.", where, error.strerror)  # noqa: TRY400
        return 1
    try:
        return uvloop.run(_serve(settings, sockets, _Paths(config_path, Path(settings.store.path).expanduser())))
    except ManagerError as error:
        log.error("%s", error.message)  # noqa: TRY400 - the message is for the operator, the trace is not
        return 1


async def _serve(settings: Settings, sockets: Sequence[socket.socket], paths: _Paths) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stopping)
    table = RouteTable()
    lag = LoopLag()
    async with _services(settings, table, paths.store) as services, _background(lag.run()):
        gateway = build_gateway(settings, table, services)
        made = registry(lambda: gateway.counters, table, services, lag, lambda: gateway.draining)
        async with _application(services, settings, partial(render, made)) as application, _metrics(settings, made):
            gateway.mount(application)
            certificate = _certificate(settings)
            reload = Reload(paths.config, services, gateway, certificate)
            loop.add_signal_handler(signal.SIGHUP, reload.all)
            async with _background(reload.watch_certificate()):
                for sock in sockets:
                    tls = certificate.context if certificate is not None else None
                    await gateway.listen(sock=sock, backlog=settings.server.backlog, tls=tls)
                _settle()
                log.info("listening on %s", ", ".join(f"{host}:{port}" for host, port in gateway.addresses))
                await stopping.wait()
                log.info("stopping: what is under way has %g s to finish", settings.server.shutdown_grace_seconds)
                services.drain()
                await gateway.drain(settings.server.shutdown_grace_seconds)
                await gateway.stop()
    log.info("stopped")
    return 0


def _on_signal(stopping: asyncio.Event) -> None:
    if stopping.is_set():
        # Whoever asks twice does not want to wait. Sandboxes are untouched; the next start adopts them.
        os._exit(130)
    stopping.set()


@contextlib.asynccontextmanager
async def _services(settings: Settings, table: RouteTable, store_path: Path) -> AsyncIterator[Services]:
    store = Store(store_path)
    runtime = DockerRuntime(settings)
    services = build_services(settings, runtime, store, table)
    try:
        await services.start()
        yield services
    finally:
        await services.stop()


@contextlib.asynccontextmanager
async def _application(
    services: Services, settings: Settings, scrape: Callable[[], bytes]
) -> AsyncIterator[web.Server]:
    limits = settings.gateway.limits
    runner = web.AppRunner(
        build_app(services, settings, scrape=scrape),
        handle_signals=False,
        access_log=None,
        keepalive_timeout=APP_KEEP_ALIVE,
        max_line_size=limits.max_url_bytes + 64,
        max_field_size=limits.max_head_bytes,
    )
    await runner.setup()
    server = runner.server
    if server is None:
        raise RuntimeError("the application did not start")
    try:
        yield server
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _metrics(settings: Settings, made: CollectorRegistry) -> AsyncIterator[None]:
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
    """What may change while the server runs: keys, log level, certificates."""

    def __init__(
        self, config_path: Path, services: Services, gateway: Gateway, certificate: Certificate | None
    ) -> None:
        self._config_path = config_path
        self._services = services
        self._gateway = gateway
        self._certificate = certificate

    def all(self) -> None:
        """On SIGHUP: reads the configuration again; a broken one changes nothing."""
        try:
            settings = load_settings(str(self._config_path)).settings
        except ConfigError as error:
            log.error("not reloaded: %s", "; ".join(error.lines))  # noqa: TRY400 - the lines say it all
            return
        self._services.reload(settings)
        self._gateway.set_keyring(keyring(settings))
        self._gateway.set_own_credentials(own_credentials(self._services))
        logs.set_level(settings.log.level)
        self.certificate()
        log.info("reloaded keys and log level from %s", self._config_path)

    def certificate(self) -> None:
        """Takes the certificate files up again when they have changed."""
        if self._certificate is None:
            return
        try:
            if self._certificate.refresh():
                log.info("the new TLS certificate is in use")
        except OSError as error:  # ssl.SSLError is one of them
            log.error("the TLS certificate cannot be used, the old one stays: %s", error)  # noqa: TRY400

    async def watch_certificate(self) -> None:
        """Looks for new certificate files until cancelled: whoever renews them need not tell us."""
        while self._certificate is not None:
            await asyncio.sleep(CERTIFICATE_SECONDS)
            self.certificate()


def build_gateway(settings: Settings, table: RouteTable, services: Services) -> Gateway:
    """The data plane of these settings."""
    log_lines = AccessLog(settings.gateway.access_log_sample) if settings.gateway.access_log else None
    gateway = Gateway(
        table,
        Router(routing_config(settings)),
        keyring=keyring(settings),
        limits=settings.gateway.limits,
        resolver=services.resolver,
        trusted_proxies=[str(network) for network in settings.server.trusted_proxies],
        access_log=log_lines,
        upstream_host=settings.gateway.upstream_host == "upstream",
        standard_forwarded=settings.gateway.forwarded,
        proxy_protocol=settings.server.proxy_protocol,
    )
    gateway.set_own_credentials(own_credentials(services))
    return gateway


def own_credentials(services: Services) -> list[bytes]:
    """Values of Authorization that are keys of our API, and no sandbox's business."""
    return [value.encode() for secret in services.keys.secrets() for value in (secret, f"Bearer {secret}")]


def routing_config(settings: Settings) -> RoutingConfig:
    """Which ways of addressing are active."""
    ingress = settings.ingress
    wildcard = ingress.gateway.wildcard_domain
    return RoutingConfig(
        gateway=ingress.mode == "gateway",
        uri=ingress.gateway.route.mode == "uri",
        wildcard=None if wildcard is None else wildcard.domain.encode("ascii"),
        api_hosts=frozenset(host.encode("ascii") for host in ingress.gateway.api_hosts),
        mount=_mount(ingress.gateway.address) if ingress.gateway.route.mode == "uri" else b"",
    )


def _mount(address: str | None) -> bytes:
    """The path of a uri address (`gw.example.com/boxes` → `/boxes`)."""
    _, slash, path = (address or "").partition("/")
    return (slash + path.rstrip("/")).encode("ascii") if path else b""


def keyring(settings: Settings) -> Keyring:
    """The keys that signed addresses are checked with."""
    return Keyring(
        {key_id.encode("ascii"): secret for key_id, secret in settings.ingress.secure_access.secrets.items()}
    )


def _settle() -> None:
    """What start-up has made lives as long as the process: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
