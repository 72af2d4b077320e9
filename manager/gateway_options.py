"""Settings → `GatewayOptions`: one record for this process's gateway and for its workers."""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Sequence

from gateway.access.credentials import Keyring
from gateway.addressing.routing import RoutingConfig
from gateway.gateway import Gateway
from gateway.options import GatewayOptions
from gateway.table import RouteTable
from gateway.workers.messages import Secrets, Setup
from manager.logs import ACCESS_LOGGER
from manager.services.wiring import Services
from manager.settings.model import Settings
from manager.workers.supervisor import share_of


def build_gateway(settings: Settings, table: RouteTable, services: Services) -> Gateway:
    """The data plane of these settings."""
    known = secrets(settings, services)
    gateway = Gateway(table, options(settings), keyring=Keyring(known.keys), resolver=services.resolver)
    gateway.set_own_keys(known.own, known.entering, known.viewers)
    gateway.share_guesses(settings.server.workers)
    return gateway


def worker_setup(settings: Settings, addresses: Sequence[tuple[str, int]]) -> Setup:
    """What worker processes do that listen on these addresses."""
    tls = settings.server.tls
    return Setup(
        addresses=tuple(addresses),
        backlog=settings.server.backlog,
        certificate=(tls.certificate, tls.key) if tls.certificate and tls.key else None,
        options=options(settings),
        access_log_file=_access_log_file(),
        grace=settings.server.shutdown_grace_seconds,
        log_level=logging.getLevelNamesMapping()[settings.log.level],
        processes=settings.server.workers,
    )


def options(settings: Settings) -> GatewayOptions:
    """What every process of the data plane is told alike."""
    server, gateway = settings.server, settings.gateway
    return GatewayOptions(
        routing=routing_config(settings),
        limits=share_of(gateway.limits, server.workers),
        trusted_proxies=tuple(str(network) for network in server.trusted_proxies),
        cors_origins=frozenset(origin.encode() for origin in gateway.cors_origins),
        access_log_sample=gateway.access_log_sample if gateway.access_log else None,
        upstream_host=gateway.upstream_host == "upstream",
        standard_forwarded=gateway.forwarded,
        proxy_protocol=server.proxy_protocol,
        proxy_needs_key=server.proxy_needs_key,
        rewrite_prefix=gateway.rewrite_prefix,
        link_cookies=gateway.link_cookies,
        referer_fallback=gateway.referer_fallback,
    )


def secrets(settings: Settings, services: Services) -> Secrets:
    """The keys of signed addresses, and those of our API, with those that let in where the proxy path asks for one."""
    return Secrets(
        {key_id.encode("ascii"): secret for key_id, secret in settings.ingress.secure_access.secrets.items()},
        frozenset(key.secret.encode() for key in services.keys),
        frozenset(key.secret.encode() for key in services.keys if not key.read_only),
        {key.secret.encode(): key.name for key in services.keys if key.own_only},
    )


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


def _access_log_file() -> str | None:
    """Workers write to the file that this process turns over, wherever logging has put it."""
    files = (
        handler.baseFilename
        for handler in logging.getLogger(ACCESS_LOGGER).handlers
        if isinstance(handler, logging.FileHandler)
    )
    return next(files, None)
