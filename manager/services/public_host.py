"""The host name under which clients reach published ports: from the configuration, else from the machine."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

from manager.settings.model import Settings

_ANY = frozenset({"", "0.0.0.0", "::"})
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})
_CONTAINER_KINDS = frozenset({"podman", "docker", "oci", "lxc", "lxc-libvirt", "systemd-nspawn"})
_ELSEWHERE = ("8.8.8.8", 53)
"""Any address outside: connecting a UDP socket only picks a route, nothing is sent."""


def public_host(settings: Settings) -> str:
    """The host of direct endpoints: the configured one, else this machine's address."""
    return configured_host(settings) or outward_address()


def configured_host(settings: Settings) -> str | None:
    """`server.eip`, else the advertised host in a container, else `server.host`; None when that is a wildcard address.

    A scheme, a port or a path in `server.eip` belongs to proxied addresses and is left out here.
    """
    server = settings.server
    if server.eip:
        return bare_host(server.eip)
    host = server.host.strip("[]")
    if host in _ANY | _LOCAL and settings.advertised_host and in_container():
        return bracketed(settings.advertised_host)
    return None if host in _ANY else bracketed(host)


def public_base(settings: Settings) -> str | None:
    """`server.eip` as the base of proxied addresses: without scheme and closing slash; None when it is not set."""
    eip = settings.server.eip
    return _without_scheme(eip).rstrip("/") if eip else None


def bare_host(address: str) -> str:
    """The host of `[scheme://]host[:port][/path]`, an IPv6 address in brackets."""
    host = _without_scheme(address).partition("/")[0]
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return bracketed(host) if host.count(":") > 1 else host.partition(":")[0]


def bracketed(host: str) -> str:
    """The host as it stands in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def is_loopback(host: str) -> bool:
    """Whether the host is a loopback name or address, of no use on other machines."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def in_container() -> bool:
    """Whether this process runs in a container."""
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return True
    named = (os.environ.get(name) for name in ("container", "CONTAINER"))  # engines set either spelling
    return not _CONTAINER_KINDS.isdisjoint(filter(None, named))


def outward_address() -> str:
    """This machine's address as seen from its network; 127.0.0.1 when it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
            return str(probe.getsockname()[0])
        except OSError:
            return _address_of_name()


def _address_of_name() -> str:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def _without_scheme(address: str) -> str:
    text = address.strip()
    return text.split("://", 1)[1] if "://" in text else text
