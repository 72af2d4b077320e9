"""The composition root: settings → store → runtime → services → API → gateway, and the same in reverse at the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import uvloop
from aiohttp import web

from gateway.access import Keyring
from gateway.access_log import AccessLog
from gateway.gateway import Gateway
from gateway.listener import bind
from gateway.routing import Router, RoutingConfig
from gateway.table import RouteTable
from manager.api.app import build_app
from manager.domain.errors import ManagerError
from manager.runtime.docker.runtime import DockerRuntime
from manager.services.bundle import Services, build_services
from manager.settings.model import Settings
from manager.store.store import Store

log = logging.getLogger(__name__)

APP_KEEP_ALIVE = 3600.0
"""The application never closes an idle pair first; the gateway's pool does."""


def run(settings: Settings, config_path: Path) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code of the process."""
    try:
        sockets = bind(settings.server.host, settings.server.port)
    except OSError as error:
        where = f"{settings.server.host}:{settings.server.port}"
        log.error("cannot listen on %s: %s. Stop what uses the port, or set server.port.", where, error.strerror)  # noqa: TRY400
        return 1
    try:
        return uvloop.run(_serve(settings, sockets, Path(settings.store.path).expanduser()))
    except ManagerError as error:
        log.error("%s", error.message)  # noqa: TRY400 - the message is for the operator, the trace is not
        return 1


async def _serve(settings: Settings, sockets: Sequence[socket.socket], store_path: Path) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stopping)
    table = RouteTable()
    async with _services(settings, table, store_path) as services, _application(services, settings) as application:
        gateway = build_gateway(settings, table, services, application)
        for sock in sockets:
            await gateway.listen(sock=sock, backlog=settings.server.backlog)
        _settle()
        log.info("listening on %s", ", ".join(f"{host}:{port}" for host, port in gateway.addresses))
        await stopping.wait()
        log.info("stopping: no new connections, answers under way have %g s", settings.server.shutdown_grace_seconds)
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
async def _application(services: Services, settings: Settings) -> AsyncIterator[web.Server]:
    limits = settings.gateway.limits
    runner = web.AppRunner(
        build_app(services, settings),
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


def build_gateway(settings: Settings, table: RouteTable, services: Services, application: web.Server) -> Gateway:
    """The data plane of these settings, with the application as what it serves itself."""
    gateway = Gateway(
        table,
        Router(routing_config(settings)),
        keyring=keyring(settings),
        limits=settings.gateway.limits,
        resolver=services.resolver,
        application=application,
        trusted_proxies=[str(network) for network in settings.server.trusted_proxies],
        access_log=AccessLog() if settings.gateway.access_log else None,
    )
    key = settings.server.api_key
    if key is not None:
        value = key.get_secret_value().encode()
        gateway.set_own_credentials((value, b"Bearer " + value))
    return gateway


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
