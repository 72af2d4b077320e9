"""Network topology between this process and the Engine: where ports are published and how we dial them.

Four cases: on the Engine's host (container addresses, else loopback), on another machine (the host's name), in a
container with host networking (like the first), and in a container with a network of its own. The last reaches no other
network's containers, since the Engine isolates networks, but it reaches the host: ports are published on the gateway
address of the sandboxes' network, which exists as long as they do and is not reachable from outside of the host.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manager.runtime.docker.status import LOOPBACK, DialView

CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
EVERYWHERE = "0.0.0.0"
HOST_NAMES = ("host.docker.internal", "gateway.docker.internal", "host.containers.internal")
"""Names of the Engine's host that resolve in containers only, for virtual machines with an unusable gateway."""
_DEFAULT_ROUTE = "00000000"
_VIRTUAL_MACHINE = "Docker Desktop"


@dataclass(slots=True)
class GatewayReachable:
    """Whether containers behind a gateway address are one hop away from here.

    `apart`: the Engine has a network namespace of its own. Then none are, though this machine may have an
    address like its gateway's, on the bridge of another Engine. It is known after the first `docker info`.
    """

    apart: bool = False

    def __call__(self, gateway: str) -> bool:
        """The answer for one gateway address."""
        return not self.apart and is_ours(gateway)


def is_rootless(info: Mapping[str, Any]) -> bool:
    """Whether the Engine of this `docker info` is rootless: in user and network namespaces of its own."""
    return "name=rootless" in (info.get("SecurityOptions") or ())


def has_user_namespaces(info: Mapping[str, Any]) -> bool:
    """Whether the Engine uses user namespace remapping (`userns-remap`)."""
    return "name=userns" in (info.get("SecurityOptions") or ())


def separate_network_namespace(info: Mapping[str, Any]) -> bool:
    """Whether the Engine's bridges are in another network namespace than the host's own programs. Pure."""
    return is_rootless(info) or info.get("OperatingSystem") == _VIRTUAL_MACHINE


@dataclass(frozen=True, slots=True)
class Place:
    """Whether this process is in a container with a network of its own, and that network's default gateway, if any."""

    own_network: bool = False
    gateway: str | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """Where ports are published and dialled; `publish_on` None means the gateway address of each sandbox's network."""

    sight: DialView
    publish_on: str | None
    remote: bool = False
    blind: bool = False
    """The Engine's host has no route from here."""

    @property
    def exposed(self) -> bool:
        """Whether published ports are reachable from other machines too."""
        return self.publish_on != LOOPBACK

    def publish_for_us(self, gateway: str | None) -> str:
        """The address to publish a port on that only we dial, for a sandbox in a network with this gateway."""
        return self.publish_on or gateway or self.sight.engine_host

    def obstacle(self, publish_on: str | None) -> str | None:
        """Why a port published on this address (None: any) cannot be dialled from here, or None."""
        if self.blind:
            return (
                "this server runs in a container from whose network nothing leads to the Engine's host: "
                "use network_mode 'host' for it, or a network that is not internal"
            )
        if publish_on is None or not _is_loopback(publish_on) or self.sight.engine_host == LOOPBACK:
            return None
        return (
            f"docker.publish_host = '{publish_on}' is an address that only the Engine's host itself can dial, and this "
            f"server is not on its network: set it to '{EVERYWHERE}', or run the server there"
        )


def topology(
    remote_host: str | None, host_ip: str | None, place: Place, reach: Callable[[str], bool], *, internal: bool = True
) -> Topology:
    """On another machine only published ports lead in; here container addresses may, and loopback does.

    Unless `internal`, container addresses are not dialled even where they could be.
    """
    if not internal:
        reach = _never
    if remote_host:
        return Topology(DialView(remote_host, _never), EVERYWHERE, remote=True)
    if not place.own_network:
        return Topology(DialView(LOOPBACK, reach), LOOPBACK)
    if host_ip in HOST_NAMES:
        return Topology(DialView(host_ip, reach, private=True), EVERYWHERE)
    if place.gateway is None:
        return Topology(DialView(LOOPBACK, reach, private=True), None, blind=True)
    return Topology(DialView(place.gateway, reach, private=True), None)


def _never(gateway: str) -> bool:
    return False


def in_container() -> bool:
    """Whether this process runs in a container, by the files that engines put there."""
    return any(os.path.exists(mark) for mark in CONTAINER_MARKS)


def find_place() -> Place:
    """Where this process runs."""
    if not in_container():
        return Place()
    try:
        table = Path("/proc/net/route").read_text(encoding="ascii")
        paired = {net.name: _is_paired(net) for net in Path("/sys/class/net").iterdir() if net.name != "lo"}
    except (OSError, ValueError):
        return Place()
    return place_of(table, paired)


def _is_paired(net: Path) -> bool:
    return (net / "iflink").read_text() != (net / "ifindex").read_text()


def place_of(routes: str, paired: Mapping[str, bool]) -> Place:
    """The topology that a container's route table and interfaces imply. Pure.

    A network of its own is one end of a pair of interfaces, so its link is another interface than itself; a container
    with the host's network sees the host's real one. `paired` says so by interface.
    """
    for line in routes.splitlines()[1:]:
        interface, destination, gateway = line.split()[:3]
        if destination == _DEFAULT_ROUTE:
            if not paired.get(interface, False):
                return Place()
            return Place(own_network=True, gateway=socket.inet_ntoa(struct.pack("<L", int(gateway, 16))))
    return Place(own_network=all(paired.values()))


@functools.lru_cache(maxsize=256)
def is_ours(gateway: str) -> bool:
    """Whether this address is on an interface of this machine: then the containers behind it are one hop away.

    False for a server that runs in a container of its own.
    """
    if not gateway:
        return False
    family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((gateway, 0))
        except OSError:
            return False
    return True


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
