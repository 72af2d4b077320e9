"""Rules between keys. Each is a pure function of the settings that yields problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from manager.domain.quantities import LEAST_MEMORY, LEAST_NANOS
from manager.settings.aliases import SPELLINGS, Path, leaves_alone
from manager.settings.problem import Problem
from manager.settings.quantities import above_limit, quantity
from manager.settings.text import dotted
from manager.settings.values import ADDRESS_WORDS, parse_wildcard, split_address

if TYPE_CHECKING:
    from manager.settings.model import Settings

_LEAST_OF_SIDECAR: Final = {"cpu": (Decimal(LEAST_NANOS) / 10**9, "10m"), "memory": (Decimal(LEAST_MEMORY), "6Mi")}
"""The sidecar's resources that Docker can limit, and the least amount of each."""
_PUBLIC_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?$")


def conflicts(settings: Settings) -> list[Problem]:
    """All problems between keys that are each valid by themselves."""
    return [problem for rule in _RULES for problem in rule(settings)]


def _quote(text: str | None) -> str | None:
    return None if text is None else f'"{text}"'


def _value(settings: Settings, path: Path) -> Any:
    value: Any = settings
    for name in path:
        value = getattr(value, name)
    return value


def _spellings(settings: Settings) -> Iterator[Problem]:
    for other, path in SPELLINGS.items():
        value = _value(settings, other)
        if value is not None and not leaves_alone(other, value) and value != _value(settings, path):
            text = f"says something else than {'.'.join(path)}, which is the same setting; remove one of them"
            yield Problem(".".join(other), text)


def _runtime_tables(settings: Settings) -> Iterator[Problem]:
    agent = settings.kubernetes.workload_provider == "agent-sandbox"
    if settings.runtime.type == "docker":
        for name, table in (("kubernetes", settings.kubernetes), ("agent_sandbox", settings.agent_sandbox)):
            if table.given:
                yield Problem(name, f'has no meaning with runtime.type = "docker"; remove [{name}]')
        if settings.egress.upstream_proxy.ca_secret_name:
            yield Problem("egress.upstream_proxy.ca_secret_name", "is for Kubernetes; use ca_cert_path with Docker")
        if settings.tenants.given:
            yield Problem("tenants", 'needs runtime.type = "kubernetes"; remove [tenants]')
        return
    if settings.agent_sandbox.given and not agent:
        yield Problem("agent_sandbox", 'needs kubernetes.workload_provider = "agent-sandbox"; remove [agent_sandbox]')
    if settings.egress.upstream_proxy.ca_cert_path:
        yield Problem("egress.upstream_proxy.ca_cert_path", "is for Docker; use ca_secret_name with Kubernetes")


def _ports(settings: Settings) -> Iterator[Problem]:
    least, most = settings.docker.port_range_min, settings.docker.port_range_max
    if most <= least:
        text = f"must be above docker.port_range_min = {least}: a sandbox takes two ports, with a network policy three"
        yield Problem("docker.port_range_max", text, str(most))


def _pools(settings: Settings) -> Iterator[Problem]:
    docker = settings.docker
    on_host = {
        name: pool for name, pool in docker.pools.items() if (pool.network_mode or docker.network_mode) == "host"
    }
    if sum(pool.size for pool in on_host.values()) > 1:
        text = 'is on network_mode "host", where one sandbox at a time has the port of execd; use "bridge"'
        yield Problem(dotted(("docker", "pools", next(iter(on_host)))), text)


def _listening(settings: Settings) -> Iterator[Problem]:
    server = settings.server
    if (server.tls.certificate is None) != (server.tls.key is None):
        lacking, given = ("key", "certificate") if server.tls.key is None else ("certificate", "key")
        yield Problem(f"server.tls.{lacking}", f"is required beside server.tls.{given}")
    if server.metrics_port == server.port:
        yield Problem("server.metrics_port", "must differ from server.port", str(server.metrics_port))
    if server.proxy_protocol and not server.trusted_proxies:
        text = "needs server.trusted_proxies: only they may begin a connection with it"
        yield Problem("server.proxy_protocol", text, "true")


def _api_keys(settings: Settings) -> Iterator[Problem]:
    server = settings.server
    names = [item.name for item in server.api_keys]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        yield Problem("server.api_keys", f'has the name "{twice}" twice; each key needs a name of its own')
    keys = [item.key.get_secret_value() for item in server.api_keys]
    if server.api_key is not None:
        keys.append(server.api_key.get_secret_value())
    if len(set(keys)) < len(keys):
        yield Problem(
            "server.api_keys", "holds the same key twice (server.api_key counts); one would never be recognised"
        )


def _gateway(settings: Settings) -> Iterator[Problem]:
    gateway = settings.ingress.gateway
    if settings.ingress.mode == "direct":
        if gateway.given:
            yield Problem("ingress.gateway", 'needs ingress.mode = "gateway"; set it or remove [ingress.gateway]')
        return
    if gateway.address is None:
        yield Problem("ingress.gateway.address", 'is required with ingress.mode = "gateway"; it is the public address')
        return
    try:
        _check_address(gateway.address, gateway.route.mode)
    except ValueError as error:
        yield Problem("ingress.gateway.address", f"{error} (route mode {gateway.route.mode})", _quote(gateway.address))
        return
    if gateway.route.mode == "wildcard" and gateway.wildcard not in (None, str(gateway.wildcard_domain)):
        text = "differs from ingress.gateway.address, which is the wildcard in wildcard mode; remove it"
        yield Problem("ingress.gateway.wildcard", text, _quote(gateway.wildcard))


def _check_address(text: str, mode: str) -> None:
    if mode == "wildcard":
        parse_wildcard(text)
    elif "*" in text:
        raise ValueError(f'must be {ADDRESS_WORDS}; a "*" needs route mode wildcard')
    else:
        # A uri address may go on with the path under which a proxy in front of us serves this gateway.
        split_address(_PUBLIC_PATH.sub("", text) if mode == "uri" else text)


def _api_hosts(settings: Settings) -> Iterator[Problem]:
    gateway = settings.ingress.gateway
    if (
        settings.ingress.mode == "gateway"
        and gateway.api_hosts
        and gateway.wildcard is None
        and gateway.route.mode != "wildcard"
    ):
        yield Problem("ingress.gateway.api_hosts", "has no meaning without wildcard hosts; remove it or set wildcard")


def _signing(settings: Settings) -> Iterator[Problem]:
    access = settings.ingress.secure_access
    ids = [item.key_id for item in access.keys]
    if (ids or access.active_key) and settings.ingress.mode != "gateway":
        yield Problem(
            "ingress.secure_access", 'needs ingress.mode = "gateway"; set it or remove [ingress.secure_access]'
        )
    for twice in sorted({name for name in ids if ids.count(name) > 1}):
        yield Problem("ingress.secure_access.keys", f'has key_id "{twice}" twice; each key needs an id of its own')
    if access.active_key and access.active_key not in ids:
        text = f"must be one of the key ids: {', '.join(ids) or 'there are none'}"
        yield Problem("ingress.secure_access.active_key", text, _quote(access.active_key))
    if ids and access.active_key is None:
        yield Problem("ingress.secure_access.active_key", f"is required beside keys; allowed: {', '.join(ids)}")


def _secure_runtime(settings: Settings) -> Iterator[Problem]:
    secure = settings.secure_runtime
    if secure.type == "":
        for name in ("oci_runtime_name", "k8s_runtime_class"):
            value = getattr(secure, name)
            if value is not None:
                yield Problem(
                    f"secure_runtime.{name}", "needs secure_runtime.type; set it or remove the key", _quote(value)
                )
        return
    if secure.type == "firecracker":
        if settings.runtime.type == "docker":
            yield Problem(
                "secure_runtime.type", 'needs runtime.type = "kubernetes"; use "kata-fc" with Docker', '"firecracker"'
            )
        elif secure.k8s_runtime_class is None:
            yield Problem("secure_runtime.k8s_runtime_class", 'is required with secure_runtime.type = "firecracker"')
    elif secure.oci_runtime_name is None and secure.k8s_runtime_class is None:
        text = f'is required with secure_runtime.type = "{secure.type}" (on Kubernetes: k8s_runtime_class)'
        yield Problem("secure_runtime.oci_runtime_name", text)


def _sidecar_resources(settings: Settings) -> Iterator[Problem]:
    if settings.runtime.type != "docker":
        return
    for table, values in (("requests", settings.egress.requests), ("limits", settings.egress.limits)):
        for name, text in values.items():
            key = dotted(("egress", table, name))
            if name not in _LEAST_OF_SIDECAR:
                yield Problem(key, 'has no meaning with runtime.type = "docker", which knows cpu and memory; remove it')
            elif not quantity(text):
                yield Problem(key, "must be more than nothing; remove it if there is no limit", _quote(text))
            elif quantity(text) < (least := _LEAST_OF_SIDECAR[name])[0] and (table, name) != ("requests", "cpu"):
                yield Problem(key, f"is too little to be held; the least is {least[1]}", _quote(text))


def _egress(settings: Settings) -> Iterator[Problem]:
    egress = settings.egress
    for name in above_limit(egress.requests, egress.limits):
        yield Problem(
            dotted(("egress", "requests", name)),
            "must not exceed the same name of egress.limits",
            _quote(egress.requests[name]),
        )
    proxy = egress.upstream_proxy
    if proxy.url is None:
        if proxy.given:
            yield Problem("egress.upstream_proxy.url", "is required in [egress.upstream_proxy]")
        return
    if egress.mode != "dns+nft":
        yield Problem("egress.upstream_proxy", 'needs egress.mode = "dns+nft"')
    url = urlsplit(proxy.url.get_secret_value())
    plain = url.scheme in ("http", "https") and url.hostname and not (url.username or url.path.strip("/") or url.query)
    if not plain:
        text = "must be http://host[:port] or https://host[:port], without user, path or query; use authorization"
        yield Problem("egress.upstream_proxy.url", text)
    if proxy.ca_cert_path and not proxy.ca_cert_path.startswith("/"):
        yield Problem("egress.upstream_proxy.ca_cert_path", "must be an absolute path", _quote(proxy.ca_cert_path))


def _services(settings: Settings) -> Iterator[Problem]:
    postgresql, redis, tenants = settings.store.postgresql, settings.renew_intent.redis, settings.tenants
    if settings.store.type == "postgresql" and postgresql.dsn is None:
        yield Problem("store.postgresql.dsn", 'is required with store.type = "postgresql"')
    if postgresql.min_pool_size > postgresql.max_pool_size:
        text = f"must not exceed store.postgresql.max_pool_size = {postgresql.max_pool_size}"
        yield Problem("store.postgresql.min_pool_size", text, str(postgresql.min_pool_size))
    webhook = settings.events.webhook
    if webhook.url is not None and webhook.secret is None:
        text = "is required beside url: whoever receives an event has to know that it is ours"
        yield Problem("events.webhook.secret", text)
    if redis.enabled and redis.dsn is None:
        yield Problem("renew_intent.redis.dsn", "is required with renew_intent.redis.enabled = true")
    if tenants.given and tenants.provider == "http" and tenants.endpoint is None:
        yield Problem("tenants.endpoint", 'is required with tenants.provider = "http"')
    if tenants.given and settings.server.has_keys:
        name = "api_keys" if settings.server.api_key is None else "api_key"
        yield Problem(f"server.{name}", "must be empty when [tenants] holds the keys")


_RULES: Final[tuple[Callable[[Settings], Iterator[Problem]], ...]] = (
    _spellings,
    _runtime_tables,
    _ports,
    _pools,
    _listening,
    _api_keys,
    _gateway,
    _api_hosts,
    _signing,
    _secure_runtime,
    _egress,
    _sidecar_resources,
    _services,
)
