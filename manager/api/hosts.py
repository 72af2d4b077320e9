"""Under which names a server without a key answers. Pure.

Such a server trusts whoever reaches it, and the browser of whoever sits before it reaches it too. A page of another
site is refused by its origin; but its author can point a name of his own at this server once the page is loaded (DNS
rebinding), and then origin and Host agree. So the Host has to be a name that nobody else can point here: an address (no
name was resolved at all), a name of this machine itself (RFC 6761 §6.3), or one that the configuration knows.
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
"""What load balancers ask under whatever name they know; it says nothing but whether the server is well."""


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
    """The names of this server, as far as its configuration tells."""
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
