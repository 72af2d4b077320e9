"""The name servers to which an egress sidecar forwards the queries that its policy allows.

On a user-defined network, sandboxes' own included, the Engine gives containers its embedded resolver, 127.0.0.11. A
sidecar must not use it: it forwards queries from within the namespace of the client, where the sidecar's redirect
catches them again, in a loop. So the sidecar is configured with the upstream name servers, by address.

They are, in this order: those set by the operator (`egress.env`, or the environment of the sidecar's image);
`docker.dns`; those of this machine, if it is the Engine's and its files are visible here; those that the Engine uses,
which are known to it alone when it is on another machine or in a virtual one, or when we are in a container.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from manager.domain import errors
from manager.domain.codes import INVALID_PARAMETER
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.error_mapping import REFUSALS
from manager.runtime.docker.execd import unpack
from manager.runtime.docker.host.instance_id import instance_of
from manager.runtime.docker.host.topology import GatewayReachable, Topology, in_container
from manager.runtime.docker.labels import HELPER, INSTANCE
from manager.settings.model import Settings

log = logging.getLogger(__name__)
Json = dict[str, Any]

UPSTREAM: Final = "OPENSANDBOX_EGRESS_DNS_UPSTREAM"
ENGINES_OWN: Final = "127.0.0.11"
"""The Engine's embedded resolver on user-defined networks."""
STUBS: Final = frozenset({"127.0.0.53", "127.0.0.54"})
"""Stub addresses of systemd-resolved, which lists its upstream name servers in a file of its own."""
HOST_FILE: Final = Path("/etc/resolv.conf")
BEHIND_STUB: Final = Path("/run/systemd/resolve/resolv.conf")
OF_ENGINE: Final = "the Docker Engine"
PUBLIC: Final = frozenset({"8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"})
"""The Engine's fallback when its host has none that containers can reach."""
REMEMBERED: Final = 300.0
"""Seconds for which the Engine's answer is cached: its host may have moved to another network."""
_MOST: Final = 10
"""Most name servers that a sidecar uses."""


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Name servers by address; `told`: the sidecar is configured with them already, `source`: where they are from."""

    addresses: tuple[str, ...]
    source: str
    told: bool = False
    search: tuple[str, ...] = ()
    """Lines of a resolv.conf beside its name servers: search domains and options."""

    def resolv_conf(self) -> str:
        """The file that lists them."""
        return "".join(f"{line}\n" for line in (*(f"nameserver {found}" for found in self.addresses), *self.search))


def parse(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name servers of a resolv.conf, and its lines about search domains and options. Pure."""
    words = [line.split() for line in text.splitlines() if line.split()]
    servers = tuple(line[1] for line in words if line[0] == "nameserver" and len(line) > 1)
    return servers, tuple(" ".join(line) for line in words if line[0] in ("search", "domain", "options"))


def usable(servers: Iterable[str], *, ipv6: bool) -> tuple[str, ...]:
    """Those that a container can ask, version 4 first: no loopback, no address that needs an interface. Pure."""
    found = [address for address in map(_address, servers) if address is not None]
    four = [str(address) for address in found if address.version == 4]
    six = [str(address) for address in found if address.version == 6 and ipv6 and not address.is_link_local]
    return tuple(dict.fromkeys((*four, *six)))[:_MOST]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if address.is_loopback or address.is_unspecified or address.is_multicast else address


def told_by(environment: Iterable[str]) -> str | None:
    """What variables (`NAME=value`) say to a sidecar about its name servers, or None. Pure."""
    values = [entry.partition("=")[2].strip() for entry in environment if entry.startswith(f"{UPSTREAM}=")]
    return next((value for value in values if value), None)


def hosts_of(upstream: str) -> tuple[str, ...]:
    """The addresses in a sidecar's list, whose entries may have a port. Pure."""
    return tuple(_host_of(entry.strip()) for entry in upstream.split(",") if entry.strip())


def _host_of(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


class Resolvers:
    """Looked up for every sidecar: files are read each time, the Engine's name servers are cached for a while."""

    def __init__(
        self,
        calls: Calls,
        instance: str,
        *,
        configured: tuple[str, ...],
        environment: Iterable[str],
        ipv6: bool,
        beside: Callable[[], bool],
    ) -> None:
        """`configured` is docker.dns, `environment` what the sidecar is given; `beside` says that this is the Engine's
        machine and that we see its files.
        """
        self._calls = calls
        self._instance = instance
        self._configured = configured
        self._environment = tuple(environment)
        self._ipv6 = ipv6
        self._beside = beside
        self._offered: tuple[float, str] | None = None
        self.host_file, self.behind_stub = HOST_FILE, BEHIND_STUB

    async def find(self, image: Json) -> Upstreams:
        """For a sidecar of this inspected image. Raises Invalid, naming the key to set, when there are none."""
        told = told_by(self._environment) or told_by((image.get("Config") or {}).get("Env") or ())
        if told is not None:
            return Upstreams(_checked(hosts_of(told)), UPSTREAM, told=True)
        if self._configured:
            return self._need(self._configured, "docker.dns")
        found = self._of_host() if self._beside() else None
        return found or await self._of_engine(str(image["Id"]))

    def _need(self, servers: tuple[str, ...], source: str, search: tuple[str, ...] = ()) -> Upstreams:
        found = usable(servers, ipv6=self._ipv6)
        if not found:
            raise errors.Invalid(INVALID_PARAMETER, _none_found(servers, source))
        return Upstreams(found, source, search=search)

    def _of_host(self) -> Upstreams | None:
        servers, search = _read(self.host_file)
        source = self.host_file
        if not usable(servers, ipv6=self._ipv6) and STUBS.intersection(servers):
            (servers, search), source = _read(self.behind_stub), self.behind_stub
        found = usable(servers, ipv6=self._ipv6)
        return Upstreams(found, str(source), search=search) if found else None

    async def _of_engine(self, image_id: str) -> Upstreams:
        servers, search = parse(await self._offer(image_id))
        if PUBLIC.issuperset(servers) and self._beside():
            # The Engine's fallback. Its host has a name server, which must not be bypassed.
            raise errors.Invalid(INVALID_PARAMETER, _none_found(_read(self.host_file)[0], str(self.host_file)))
        return self._need(servers, OF_ENGINE, search)

    async def _offer(self, image_id: str) -> str:
        now = time.monotonic()
        if self._offered is None or now - self._offered[0] > REMEMBERED:
            self._offered = (now, await offer(self._calls, self._instance, image_id))
        return self._offered[1]


def resolvers_for(settings: Settings, calls: Calls, seen: Topology, reach: GatewayReachable) -> Resolvers:
    """The resolvers for these settings and this topology."""
    return Resolvers(
        calls,
        instance_of(settings),
        configured=settings.docker.dns,
        environment=(f"{key}={value}" for key, value in settings.egress.env.items()),
        ipv6=not settings.egress.disable_ipv6,
        beside=lambda: not (seen.remote or reach.apart or in_container()),
    )


def _none_found(servers: tuple[str, ...], source: str) -> str:
    listed = f"lists only {', '.join(servers)}" if servers else "lists none"
    return (
        f"networkPolicy: no name server is known that a sandbox could ask: {source} {listed}. "
        'Set docker.dns to the addresses of name servers, such as dns = ["10.0.0.2"].'
    )


def _checked(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """What somebody has told a sidecar. Raises Invalid where it would not start, or ask itself in a circle."""
    for host in hosts:
        if host == ENGINES_OWN:
            problem = "is the Docker Engine's own resolver, which sends what it is asked back to the sidecar"
        elif not _is_address(host):
            problem = "is no IP address, and a sidecar starts with no other"
        else:
            continue
        message = f"networkPolicy: {UPSTREAM} (of egress.env, or the egress image): '{host}' {problem}."
        raise errors.Invalid(INVALID_PARAMETER, message)
    return hosts


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _read(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        return parse(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return (), ()


async def offer(calls: Calls, instance: str, image_id: str) -> str:
    """The resolv.conf that the Engine writes for containers on its default bridge.

    It is written at each start and available nowhere else, so a container is started whose program does not exist.
    """
    name = f"sandbox-resolvers-{uuid.uuid4().hex[:12]}"
    body: Json = {
        "Image": image_id,
        "Entrypoint": ["/.opensandbox-no-program"],
        "Labels": {HELPER: "execd", INSTANCE: instance},
        "HostConfig": {"NetworkMode": "none"},
    }
    try:
        await calls.create_container(name, body)
        with contextlib.suppress(*REFUSALS):  # as meant
            await calls.start(name)
        archive = await calls.get_archive(name, "/etc/resolv.conf")
        return unpack(archive)[0].decode("utf-8", "replace") if archive else ""
    except REFUSALS as error:
        log.warning("the Engine does not show which name servers it offers: %s", error.message)
        return ""
    finally:
        await calls.remove_container(name)
