"""The server itself: `[server]`, `[log]`, `[proxy]`, `[store]` and `[store.postgresql]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from manager.settings.callers import ApiKeySettings, HostPattern, Origin
from manager.settings.table import Table, option
from manager.settings.values import (
    LEVELS,
    Cidr,
    Host,
    Level,
    Lower,
    OptionalPath,
    OptionalSecret,
    OptionalText,
    OrNone,
    level,
)

_LEVELS = f"one of {', '.join(LEVELS)}"


def _level_or_none(value: str | None) -> str | None:
    return None if value is None else level(value)


class TlsSettings(Table):
    """`[server.tls]`"""

    certificate: OptionalPath = option(None, doc="PEM file of the certificate and those above it; both keys or neither")
    key: OptionalPath = option(None, doc="PEM file of its private key")


class ServerSettings(Table):
    """`[server]`"""

    host: Host = option("0.0.0.0", doc='Interface to bind; "127.0.0.1" for this machine only')
    port: int = option(8080, least=1, most=65535, doc="Port to listen on: the gateway and the REST API share it")
    api_key: OptionalSecret = option(
        None,
        secret=True,
        doc="Key that callers of the REST API send as OPEN-SANDBOX-API-KEY; empty switches authentication off. "
        "OPENSANDBOX_SERVER_API_KEY overrides it",
    )
    api_keys: tuple[ApiKeySettings, ...] = option(
        (), secret=True, doc="Further keys, each with a name and what it may do; changed by SIGHUP without a restart"
    )
    cors_origins: tuple[Origin, ...] = option(
        ("*",),
        allowed='a list of "*" or origins such as ["https://console.example.com"]',
        doc='Origins of pages that may call the REST API with a key; "*" is any, an empty list none',
    )
    allowed_hosts: tuple[HostPattern, ...] = option(
        (),
        allowed='a list of host names, "*." and a domain, or "*"',
        doc="Names under which a server without an API key answers, beside addresses, localhost and the names in this "
        'file; "*" is any, and then a page of any site may call it',
    )
    max_sandboxes: Annotated[int | None, OrNone] = option(
        None, least=1, doc="Most sandboxes that exist at once; a create beyond it is 429; unset means no limit"
    )
    eip: OptionalText = option(
        None, doc="Public host, or public base of proxied addresses, used when endpoints are written"
    )
    max_sandbox_timeout_seconds: Annotated[int | None, OrNone] = option(
        None, least=60, doc="Longest lifetime a create request may ask for, in seconds; unset means no limit"
    )
    shutdown_grace_seconds: float = option(
        30.0, least=0, doc="How long open requests may finish after SIGTERM before they are cut, in seconds"
    )
    trusted_proxies: tuple[Cidr, ...] = option(
        (),
        allowed='a list of IP addresses and networks such as ["10.0.0.0/8"]',
        doc="Addresses of proxies in front of us whose X-Forwarded-* values are believed",
    )
    allow_sandbox_callers: bool = option(
        False,
        doc="Whether code inside a sandbox may call the REST API; off, the addresses of every sandbox on the "
        "Engine are refused, whatever the key",
    )
    proxy_protocol: bool = option(
        False, doc="Whether every connection must begin with the PROXY protocol (v1 or v2) of a trusted proxy"
    )
    workers: int = option(
        1,
        least=1,
        most=64,
        doc="Processes that share the port: the first also runs the manager, each further one serves sandbox traffic. "
        "Limits on numbers of connections are divided among them",
    )
    metrics_port: Annotated[int | None, OrNone] = option(
        None, least=1, most=65535, doc="A port of its own for /metrics, without key; unset leaves it to the REST API"
    )
    metrics_host: Host = option("127.0.0.1", doc="Interface of that port")
    proxy_needs_key: bool = option(
        False, doc="Whether /sandboxes/{id}/proxy/ asks for an API key too; off, the id of a sandbox is enough there"
    )
    backlog: int = option(2048, least=1, doc="Length of the kernel's queue of connections not yet accepted")
    thread_pool_size: int = option(
        200,
        least=1,
        doc="Most threads for each kind of blocking work: questions to the Engine, changes, pulls, streams. "
        "A kind never gets more than it can use (16 to 64), nor less than 2",
    )
    loop: Annotated[Literal["auto", "uvloop", "asyncio"], Lower] = option("auto", doc="Event loop; it is always uvloop")
    http: Annotated[Literal["auto", "httptools", "h11"], Lower] = option(
        "auto", doc="HTTP parser; it is always httptools"
    )
    tls: TlsSettings = option(TlsSettings, doc="TLS on the port; without it the server speaks plain HTTP")
    log_level: Annotated[str | None, OrNone, AfterValidator(_level_or_none)] = option(
        None, allowed=_LEVELS, shown="log.level", doc="Another spelling of log.level"
    )
    timeout_graceful_shutdown: float | None = option(
        None, least=0, shown="server.shutdown_grace_seconds", doc="Another spelling of server.shutdown_grace_seconds"
    )
    timeout_keep_alive: float | None = option(
        None,
        least=1,
        shown="gateway.limits.keep_alive_timeout",
        doc="Another spelling of gateway.limits.keep_alive_timeout",
    )
    limit_concurrency: int | None = option(
        None,
        least=0,
        shown="gateway.limits.max_connections",
        doc="Another spelling of gateway.limits.max_connections; 0 leaves that key's value",
    )

    @property
    def has_keys(self) -> bool:
        """Whether callers of the REST API need a key."""
        return self.api_key is not None or bool(self.api_keys)


class LogSettings(Table):
    """`[log]`"""

    level: Level = option("INFO", allowed=_LEVELS, doc="Least severe messages that are logged")
    format: Annotated[Literal["auto", "text", "json"], Lower] = option(
        "auto",
        doc='Lines of "text", of "json" (an object each), or "auto": text, on a terminal with colours and progress',
    )
    file_enabled: bool = option(False, doc="Log to files instead of standard output")
    file_path: OptionalPath = option(None, shown="~/logs/opensandbox/server.log", doc="File of the server's log")
    access_file_path: OptionalPath = option(
        None, shown="~/logs/opensandbox/access.log", doc="File of the access log, when gateway.access_log is on"
    )
    file_max_bytes: int = option(104857600, least=1, doc="Size at which a log file is rotated")
    file_backup_count: int = option(5, least=0, doc="How many rotated log files are kept")


class ProxySettings(Table):
    """`[proxy]`"""

    resolve_internal: bool = option(
        True,
        doc="Requests are dialled at the sandbox's own address where that is possible; off, at published ports only, "
        "which sandboxes that were made while it was on need not have",
    )


class PostgresqlSettings(Table):
    """`[store.postgresql]`"""

    dsn: OptionalSecret = option(
        None, secret=True, doc="Connection string; OPENSANDBOX_STORE_POSTGRESQL_DSN overrides it"
    )
    min_pool_size: int = option(1, least=0, doc="Connections kept open")
    max_pool_size: int = option(10, least=1, doc="Most connections")
    connect_timeout_seconds: float = option(5.0, above=0, doc="Time for one connection to be made, in seconds")
    pool_timeout_seconds: float = option(5.0, above=0, doc="Longest wait for a free connection, in seconds")
    snapshot_recovery_interval_seconds: float = option(
        15.0, above=0, doc="How often unfinished snapshots are looked for, in seconds"
    )


class StoreSettings(Table):
    """`[store]`"""

    type: Annotated[Literal["sqlite", "postgresql"], Lower] = option(
        "sqlite", doc="Where the server keeps what a runtime cannot"
    )
    path: str = option("~/.opensandbox/gateway.db", doc="SQLite file; created with its directory when missing")
    postgresql: PostgresqlSettings = option(PostgresqlSettings, doc="Used when store.type is postgresql")
