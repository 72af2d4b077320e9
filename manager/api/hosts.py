"""The `Host` names under which a server without an API key answers, against DNS rebinding. Pure.

Such a server trusts every client that reaches it, browsers of its users included. A page of another site is refused by
its origin; but its author can let a host name of his own resolve to this server once the page is loaded (DNS
rebinding), and then Origin and Host agree. So the Host has to be one that no attacker controls: an IP address (no name
was resolved at all), a loopback name (RFC 6761 §6.3), or one from the configuration.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from manager.domain.errors import Misdirected
from manager.services.public_host import bare_host
from manager.settings.model import Settings

MISDIRECTED: Final = "MISDIRECTED_REQUEST"
ANY: Final = "*"
_LOCAL: Final = ("localhost", "*.localhost")

PROBES: Final = frozenset({"/health", "/ready"})
"""Health checks, which load balancers request under any name; they return nothing but the server's health."""


class OwnHosts:
    """The names that are ours: each exact, or `*.` and a domain for every name under it, or `*` for any."""

    def __init__(self, names: Iterable[str]) -> None:
        names = {_plain(name) for name in names}
        self._any = ANY in names
        self._exact = frozenset(name for name in names if not name.startswith(ANY))
        self._under = tuple(name[1:] for name in names if name.startswith("*."))

    def __contains__(self, host: str) -> bool:
        name = _plain(bare_host(host))
        return self._any or name in self._exact or name.endswith(self._under) or _is_address(name)

    def check(self, host: str) -> None:
        """Raises Misdirected unless the Host is ours."""
        if host not in self:
            raise Misdirected(
                MISDIRECTED,
                f"This server has no API key, so it answers only under names that are its own; {host[:100]!r} is none. "
                "Add the name to server.allowed_hosts, or set server.api_key and send it.",
            )


def own_hosts(settings: Settings) -> OwnHosts:
    """The names of this server that its configuration contains."""
    server, gateway = settings.server, settings.ingress.gateway
    names = [*_LOCAL, server.host, *server.allowed_hosts, *gateway.api_hosts]
    if gateway.wildcard_domain is not None:
        names.append(gateway.wildcard_domain.domain)
    addresses = (server.eip, gateway.address, settings.advertised_host)
    names += [bare_host(address).removeprefix("*.") for address in addresses if address]
    return OwnHosts(names)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
