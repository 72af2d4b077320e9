"""Settings → the data plane: how this process assembles its gateway, and what worker processes are told to do alike."""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Sequence

from gateway.access.credentials import Keyring
from gateway.addressing.routing import Router, RoutingConfig
from gateway.gateway import Gateway
from gateway.limits import Limits
from gateway.proxy.access_log import AccessLog
from gateway.table import RouteTable
from gateway.workers.messages import AccessLogSetup, Secrets, Setup
from manager.logs import ACCESS_LOGGER
from manager.services.wiring import Services
from manager.settings.model import Settings
from manager.workers.supervisor import share_of


def build_gateway(settings: Settings, table: RouteTable, services: Services) -> Gateway:
    """The data plane of these settings."""
    log_lines = AccessLog(settings.gateway.access_log_sample) if settings.gateway.access_log else None
    known = secrets(settings, services)
    gateway = Gateway(
        table,
        Router(routing_config(settings)),
        keyring=Keyring(known.keys),
        limits=limits(settings),
        resolver=services.resolver,
        application=None,
        trusted_proxies=trusted_proxies(settings),
        access_log=log_lines,
        cors_origins=cors_origins(settings),
        **switches(settings),
    )
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
        routing=routing_config(settings),
        limits=limits(settings),
        trusted_proxies=tuple(trusted_proxies(settings)),
        access_log=_access_log(settings),
        switches=switches(settings),
        grace=settings.server.shutdown_grace_seconds,
        log_level=logging.getLevelNamesMapping()[settings.log.level],
        processes=settings.server.workers,
        cors_origins=cors_origins(settings),
    )


def cors_origins(settings: Settings) -> frozenset[bytes]:
    """Pages of which other origins the operator lets in."""
    return frozenset(origin.encode() for origin in settings.gateway.cors_origins)


def switches(settings: Settings) -> dict[str, bool]:
    """What the data plane does or leaves, by the name of the gateway's option."""
    return {
        "upstream_host": settings.gateway.upstream_host == "upstream",
        "standard_forwarded": settings.gateway.forwarded,
        "proxy_protocol": settings.server.proxy_protocol,
        "proxy_needs_key": settings.server.proxy_needs_key,
        "rewrite_prefix": settings.gateway.rewrite_prefix,
        "link_cookies": settings.gateway.link_cookies,
        "referer_fallback": settings.gateway.referer_fallback,
    }


def limits(settings: Settings) -> Limits:
    """The limits of one process."""
    return share_of(settings.gateway.limits, settings.server.workers)


def trusted_proxies(settings: Settings) -> list[str]:
    """Whose forwarding marks are believed."""
    return [str(network) for network in settings.server.trusted_proxies]


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


def _access_log(settings: Settings) -> AccessLogSetup | None:
    """Workers write to the file that this process turns over, wherever logging has put it."""
    if not settings.gateway.access_log:
        return None
    files = (
        handler.baseFilename
        for handler in logging.getLogger(ACCESS_LOGGER).handlers
        if isinstance(handler, logging.FileHandler)
    )
    return AccessLogSetup(settings.gateway.access_log_sample, next(files, None))
