"""The Docker runtime: `[docker]`."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, SecretStr

from manager.domain.errors import Invalid
from manager.domain.quantities import parse_limits
from manager.settings.table import Table, option
from manager.settings.values import (
    Capability,
    CountOrUnlimited,
    Image,
    IpAddress,
    NetworkName,
    OptionalHost,
    OptionalText,
    OrNone,
)

DROPPED_CAPABILITIES = (
    "AUDIT_WRITE",
    "MKNOD",
    "NET_ADMIN",
    "NET_RAW",
    "SYS_ADMIN",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
)
"""Capabilities that a sandbox on a shared kernel must not have."""

_ULIMIT = re.compile(r"(\d{1,19})(?::(\d{1,19}))?")
_INSTANCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def _blank_is_any(value: Any) -> Any:
    return "0.0.0.0" if isinstance(value, str) and not value.strip() else value


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError("must be an IPv4 address") from None


def _instance(text: str | None) -> str | None:
    if text is not None and _INSTANCE.fullmatch(text) is None:
        raise ValueError(
            "must be 1 to 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit"
        )
    return text


def _ulimits(limits: dict[str, str]) -> dict[str, str]:
    for name, text in limits.items():
        found = _ULIMIT.fullmatch(text)
        if found is None or (found[2] is not None and int(found[1]) > int(found[2])):
            raise ValueError(f'must be "SOFT" or "SOFT:HARD" with SOFT not above HARD; {name} is not')
    return limits


def _limits(limits: dict[str, str]) -> dict[str, str]:
    """Refused at the start rather than in the log of a pool that is never filled."""
    try:
        parse_limits(limits, "resource_limits")
    except Invalid as error:
        raise ValueError(f"must be limits that can be held: {error.message.rstrip('.')}") from None
    return limits


class RegistrySettings(Table):
    """`[docker.registries."HOST"]`"""

    username: str = option(doc="User name")
    password: SecretStr = option(secret=True, doc="Password or token")


class PoolSettings(Table):
    """`[docker.pools.NAME]`"""

    image: Image = option(
        allowed='an image reference such as "python:3.11-slim"', doc="Image of the sandboxes kept in stock"
    )
    size: int = option(least=1, doc="How many sandboxes are kept in stock")
    entrypoint: tuple[str, ...] = option(("tail", "-f", "/dev/null"), doc="What they run")
    resource_limits: Annotated[dict[str, str], AfterValidator(_limits)] = option(
        dict, doc="Their limits, in the notation of a create request"
    )
    network_mode: Annotated[str | None, OrNone] = option(
        None, shown="docker.network_mode", doc="Their network, if another than docker.network_mode"
    )
    volumes: tuple[str, ...] = option((), doc='Their bind mounts in the notation of "docker run -v"')


class DockerSettings(Table):
    """`[docker]`"""

    network_mode: NetworkName = option(
        "host",
        doc='Network of sandboxes: "host" (the Engine\'s own network, no isolation), "bridge", or the name of a Docker '
        "network that exists",
    )
    host_ip: OptionalHost = option(
        None, doc="Host or IP address written into bridge-mode endpoints when the server itself runs in a container"
    )
    api_timeout: int = option(180, least=1, doc="Longest wait for one answer of the Engine, in seconds")
    drop_capabilities: tuple[Capability, ...] = option(
        DROPPED_CAPABILITIES,
        allowed='a list of names of Linux capabilities such as ["NET_RAW"]',
        doc="Linux capabilities taken away from sandboxes",
    )
    no_new_privileges: bool = option(True, doc="Whether setuid programs in a sandbox gain nothing")
    apparmor_profile: OptionalText = option(
        None, shown='""', doc='AppArmor profile such as "docker-default"; empty leaves the Engine\'s'
    )
    seccomp_profile: OptionalText = option(
        None, shown='""', doc='Path of a seccomp profile, or "unconfined"; empty leaves the Engine\'s'
    )
    allow_isolation: bool = option(
        False,
        doc="Whether a request may have the isolation of execd (bootstrap.execd.isolation). It takes CAP_SYS_ADMIN: on "
        "an Engine without user namespaces a program in such a sandbox can become root of the host; "
        "docker.seccomp_profile gives way to one that lets it mount",
    )
    pids_limit: CountOrUnlimited = option(
        4096,
        least=1,
        allowed='a whole number of at least 1, or 0 or "unlimited" for no limit',
        doc='Most processes and threads in one sandbox; 0 or "unlimited" means no limit',
    )
    port_range_min: int = option(40000, least=1024, most=65535, doc="Lowest host port that is published for a sandbox")
    port_range_max: int = option(
        60000,
        least=1024,
        most=65535,
        doc="Highest host port that is published; a sandbox takes two, with a network policy three",
    )
    publish_host: Annotated[str, BeforeValidator(_blank_is_any), AfterValidator(_ipv4)] = option(
        "0.0.0.0", doc="IPv4 address on which sandbox ports are published in direct mode"
    )
    sandbox_env: dict[str, str] = option(
        dict, secret=True, doc="Environment variables of every sandbox; a request may override or remove them"
    )
    sandbox_binds: tuple[str, ...] = option((), doc='Bind mounts of every sandbox in the notation of "docker run -v"')
    instance: Annotated[str | None, OrNone, AfterValidator(_instance)] = option(
        None,
        shown="follows from store.path",
        doc="Which sandboxes of an Engine are this server's, when several servers share one",
    )
    adopt_unowned: bool = option(
        False,
        doc="Whether the sandboxes and snapshots of an earlier opensandbox-server of this user on this Engine are "
        "taken over",
    )
    host: OptionalText = option(
        None, shown="DOCKER_HOST", doc="Address of the Engine, such as unix:///var/run/docker.sock or ssh://user@host"
    )
    pull_timeout: float = option(
        600.0, above=0, doc="How long a pull may go without any progress before it is given up, in seconds"
    )
    pull_limit: float = option(3600.0, above=0, doc="Longest time for one pull, in seconds")
    inter_container: bool = option(
        False, doc="Whether sandboxes in bridge mode reach each other; off, they get a network that keeps them apart"
    )
    network_name: NetworkName = option("opensandbox", doc="Name of the network that keeps sandboxes apart")
    dns: tuple[IpAddress, ...] = option(
        (),
        allowed='a list of IP addresses such as ["10.0.0.2"]',
        shown="those of the Engine's host",
        doc="Name servers of sandboxes; egress sidecars ask them too",
    )
    ulimits: Annotated[dict[str, str], AfterValidator(_ulimits)] = option(
        dict, doc='Kernel limits of every sandbox by name, such as nofile = "1024:4096"'
    )
    registries: dict[str, RegistrySettings] = option(
        dict, secret=True, doc="Credentials for pulls by host of the registry; a request may bring its own"
    )
    pools: dict[str, PoolSettings] = option(dict, doc="Sandboxes kept in stock, by name")
