"""Which network sandboxes are on, and whether we can dial them there."""

from __future__ import annotations

import functools
import logging
import socket
from dataclasses import dataclass

from manager.domain import errors
from manager.runtime.docker.calls import Calls, Json
from manager.runtime.docker.labels import NETWORK
from manager.runtime.docker.status import LOOPBACK, Sight

log = logging.getLogger(__name__)
NO_SUCH_NETWORK = "SANDBOX::INVALID_PARAMETER"
SHARED_MODES = ("host", "none")
"""Modes that are no network of the Engine's: nothing to look up, nothing to publish on."""


def sight(remote_host: str | None) -> Sight:
    """How we see an Engine: on another machine only published ports lead in, here container addresses may too."""
    if remote_host:
        return Sight(remote_host, lambda _: False)
    return Sight(LOOPBACK, is_ours)


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
