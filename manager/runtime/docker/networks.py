"""Which network sandboxes are on, and whether we can dial them there."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from dataclasses import dataclass

from manager.domain import errors
from manager.domain.codes import INVALID_PARAMETER
from manager.runtime.docker.engine.client import Calls, Json
from manager.runtime.docker.labels import NETWORK
from manager.runtime.docker.status import DialView

log = logging.getLogger(__name__)
SHARED_MODES = ("host", "none")
"""Network modes without a Docker network: no inspect, no published ports."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The NetworkMode of a new sandbox, and whether its ports can be dialled there without being published.

    `gateway` is the address of the Engine's host on that network, if it has an IPv4 one.
    """

    mode: str
    reachable: bool
    gateway: str | None = None

    @property
    def shared(self) -> bool:
        """Whether the mode has no Docker network: then no port can be published on it."""
        return self.mode in SHARED_MODES or self.mode.startswith("container:")


class Networks:
    """Decides the network of each sandbox."""

    def __init__(self, calls: Calls, view: DialView, *, own: str | None) -> None:
        """`own` names the bridge that isolates sandboxes from each other; None uses the Engine's, which does not."""
        self._calls = calls
        self._view = view
        self._own_name = own
        self._making = asyncio.Lock()

    async def choose(self, wanted: str) -> Choice:
        """The network for a configured mode. Raises Invalid when a network of that name does not exist."""
        if wanted in SHARED_MODES or wanted.startswith("container:"):
            return Choice(wanted, wanted == "host")
        if wanted == "bridge":
            return await self._own()
        network = await self._calls.inspect_network(wanted)
        if network is None:
            advice = f"Create it first with 'docker network create {wanted}'."
            raise errors.Invalid(INVALID_PARAMETER, f"Docker network '{wanted}' does not exist. {advice}")
        return self._choice(wanted, network)

    async def within_reach(self, wanted: str) -> bool:
        """Whether sandboxes on the network for this mode are dialled at their own addresses."""
        try:
            return (await self.choose(wanted)).reachable
        except errors.Invalid:
            return False

    def _choice(self, name: str, network: Json) -> Choice:
        found = gateways(network)
        ipv4 = next((address for address in found if ":" not in address), None)
        return Choice(name, any(self._view.reaches(address) for address in found), ipv4)

    async def _own(self) -> Choice:
        """Our bridge, on which sandboxes do not reach each other; the Engine's where ours cannot be created."""
        if self._own_name is not None:
            network = await self._look(self._own_name) or await self._make(self._own_name)
            if network is not None:
                return self._choice(self._own_name, network)
        shared = await self._calls.inspect_network("bridge")
        if shared is None:
            raise errors.Invalid(INVALID_PARAMETER, "The Engine has no bridge: set docker.network_mode.")
        return self._choice("bridge", shared)

    async def _look(self, name: str) -> Json | None:
        """The network of that name, the one that is left where there are several."""
        try:
            return await self._calls.inspect_network(name)
        except errors.Invalid:
            await self._thin_out(name)
            return await self._calls.inspect_network(name)

    async def _make(self, name: str) -> Json | None:
        """Creates the network once per server; of several servers' duplicates one is left."""
        async with self._making:
            return await self._look(name) or await self._make_one(name)

    async def _thin_out(self, name: str) -> None:
        """Leaves one network of that name.

        Engines before 25 do not check and reserve a name atomically, so two simultaneous creates both succeed, and
        neither network can be used by name then. Each server removes the duplicates in the same order, the newest
        first and none that is in use.
        """
        found = await self._calls.networks_named(name)
        left = len(found)
        for network in sorted(found, key=lambda one: (one["Created"], one["Id"]), reverse=True):
            if left > 1:
                with contextlib.suppress(errors.Forbidden, errors.Conflict):
                    await self._calls.remove_network(network["Id"])
                    left -= 1

    async def _make_one(self, name: str) -> Json | None:
        options = {"com.docker.network.bridge.enable_icc": "false"}
        try:
            await self._calls.create_network(name, options, {NETWORK: "sandboxes"})
        except errors.Conflict:
            pass  # another server was faster
        except (errors.Failed, errors.Invalid, errors.Forbidden) as error:
            log.warning("sandboxes share the Engine's bridge and can reach each other: %s", error.message)
            return None
        await self._thin_out(name)
        return await self._look(name)


def gateways(network: Json) -> list[str]:
    """The addresses of the Engine's host on an inspected network."""
    ranges = (network.get("IPAM") or {}).get("Config") or ()
    bridge = network.get("Driver") == "bridge"
    found = (entry.get("Gateway") or (_chosen(entry) if bridge else None) for entry in ranges)
    return [address for address in found if address]


def _chosen(entry: Json) -> str | None:
    """The gateway that the Engine takes for a range of a bridge whose maker named none.

    The API does not report it: neither for a network that was created with a subnet alone, nor for its own bridge until
    the Engine's second start. It is the first assignable address.
    """
    if not entry.get("Subnet"):
        return None
    subnet = ipaddress.ip_network(entry["Subnet"], strict=False)
    first = ipaddress.ip_network(entry.get("IPRange") or subnet, strict=False).network_address
    return str(first + 1 if first == subnet.network_address else first)
