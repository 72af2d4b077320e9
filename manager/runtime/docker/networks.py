"""Which network sandboxes are on, and whether we can dial them there."""

from __future__ import annotations

import functools
import logging
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from manager.domain import errors
from manager.runtime.docker.calls import Calls, Json
from manager.runtime.docker.labels import NETWORK
from manager.runtime.docker.status import LOOPBACK, Sight

log = logging.getLogger(__name__)
NO_SUCH_NETWORK = "SANDBOX::INVALID_PARAMETER"
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
SHARED_MODES = ("host", "none")
"""Modes that are no network of the Engine's: nothing to look up, nothing to publish on."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How we see an Engine: its networks, and where ports are published that only we have to dial."""

    sight: Sight
    publish_on: str


def outlook(remote_host: str | None, host_ip: str | None) -> Outlook:
    """On another machine only published ports lead in; here container addresses may, and loopback does.

    In a container with a network of its own the Engine's host is our gateway, unless `host_ip` overrules that.
    """
    if remote_host:
        return Outlook(Sight(remote_host, lambda _: False), "0.0.0.0")
    gateway = container_gateway()
    if gateway is not None:
        return Outlook(Sight(host_ip or gateway, is_ours), "0.0.0.0" if host_ip else gateway)
    return Outlook(Sight(LOOPBACK, is_ours), LOOPBACK)


def container_gateway() -> str | None:
    """Our default gateway if we run in a container that has a network of its own, else None.

    Such a network is one end of a pair of interfaces, so its link is another interface than itself; a container with
    the host's network sees the host's real one.
    """
    if not any(os.path.exists(mark) for mark in CONTAINER_MARKS):
        return None
    try:
        for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
            interface, destination, gateway = line.split()[:3]
            if destination == "00000000":
                net = Path("/sys/class/net", interface)
                paired = (net / "iflink").read_text() != (net / "ifindex").read_text()
                return socket.inet_ntoa(struct.pack("<L", int(gateway, 16))) if paired else None
    except (OSError, ValueError):
        return None
    return None


@functools.lru_cache(maxsize=256)
def is_ours(gateway: str) -> bool:
    """Whether this address is on an interface of this machine: then the containers behind it are one hop away.

    False for an Engine in a virtual machine, a rootless one and for a server that runs in a container of its own.
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


@dataclass(frozen=True, slots=True)
class Choice:
    """The NetworkMode of a new sandbox, and whether its ports can be dialled there without being published."""

    mode: str
    reachable: bool


class Networks:
    """Decides the network of each sandbox."""

    def __init__(self, calls: Calls, view: Sight, *, own: str | None) -> None:
        """`own` names the bridge that keeps sandboxes apart; None puts them on the Engine's, where they meet."""
        self._calls = calls
        self._view = view
        self._own_name = own

    async def choose(self, wanted: str) -> Choice:
        """The network for a configured mode. Raises Invalid when a network of that name does not exist."""
        if wanted in SHARED_MODES or wanted.startswith("container:"):
            return Choice(wanted, wanted == "host")
        if wanted == "bridge":
            return await self._own()
        network = await self._calls.inspect_network(wanted)
        if network is None:
            advice = f"Create it first with 'docker network create {wanted}'."
            raise errors.Invalid(NO_SUCH_NETWORK, f"Docker network '{wanted}' does not exist. {advice}")
        return self._choice(wanted, network)

    def _choice(self, name: str, network: Json) -> Choice:
        ranges = (network.get("IPAM") or {}).get("Config") or ()
        return Choice(name, any(self._view.reaches(entry.get("Gateway", "")) for entry in ranges))

    async def _own(self) -> Choice:
        """Our bridge, on which sandboxes do not reach each other; the Engine's where ours cannot be made."""
        if self._own_name is not None:
            network = await self._calls.inspect_network(self._own_name) or await self._make(self._own_name)
            if network is not None:
                return self._choice(self._own_name, network)
        shared = await self._calls.inspect_network("bridge")
        if shared is None:
            raise errors.Invalid(NO_SUCH_NETWORK, "The Engine has no bridge: set docker.network_mode.")
        return self._choice("bridge", shared)

    async def _make(self, name: str) -> Json | None:
        options = {"com.docker.network.bridge.enable_icc": "false"}
        try:
            await self._calls.create_network(name, options, {NETWORK: "sandboxes"})
        except errors.Conflict:
            pass  # another server was faster
        except (errors.Failed, errors.Invalid, errors.Forbidden) as error:
            log.warning("sandboxes share the Engine's bridge and can reach each other: %s", error.message)
            return None
        return await self._calls.inspect_network(name)
