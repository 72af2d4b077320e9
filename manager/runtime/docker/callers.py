"""Recognises API calls that come from inside a sandbox: of any sandbox on this Engine, of whichever server.

Networks made for sandboxes carry a label, and every address in them counts. Elsewhere, on the Engine's bridge or a
network of the operator's, other programs run that may call, so there only the addresses of labelled containers count.
Both are read from a list at each connection and from network events after that: networks are listed again when one is
created or removed, a container is inspected when it joins one without the label. An API call makes no Engine call.

The source address can also be translated. Where a port of this server's own container is published on all interfaces,
`docker-proxy` connects from the gateway address of the container's network, whatever the client. Calls from sandboxes
of a rootless Engine or one in a virtual machine come from this machine's address, of a remote Engine from its host's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from manager.domain import errors
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.labels import ID, NETWORK, SIDECAR_FOR

log = logging.getLogger(__name__)
Json = dict[str, Any]
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts to reach the Engine."""
OVERLAP = 3.0
"""Seconds of events requested again at each start, to allow for clock skew."""


class Callers:
    """Knows the addresses that code in sandboxes calls from."""

    def __init__(self, calls: Calls, *, is_own_machine: Callable[[str], bool]) -> None:
        """`is_own_machine(address)`: calls from sandboxes have this address because it is one of this machine's."""
        self._calls = calls
        self._is_own_machine = is_own_machine
        self._networks: dict[str, tuple[Subnet, ...]] = {}
        self._joined: dict[tuple[str, str], frozenset[str]] = {}
        self._task: asyncio.Task[None] | None = None
        self.detours: frozenset[str] = frozenset()
        """Addresses of other hosts and gateways that sandboxes' calls may come from."""

    def __contains__(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if any(parsed in subnet for subnets in self._networks.values() for subnet in subnets):
            return True
        text = str(parsed)
        if text in self.detours or any(text in joined for joined in self._joined.values()):
            return True
        return not parsed.is_loopback and self._is_own_machine(text)

    def start(self) -> None:
        """Begins to watch the Engine's networks; returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="docker-callers")

    async def stop(self) -> None:
        """Ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Known addresses are kept while the Engine is unreachable; the container watcher reports that."""
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._session()
            except errors.ManagerError as error:
                log.debug("the networks of the Docker Engine are not watched: %s", error.message)
            except Exception:
                log.exception("unexpected error in the Docker network watcher")
            pause = FIRST_PAUSE if time.monotonic() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1))

    async def _session(self) -> None:
        feed = await self._calls.network_events(since=time.time() - OVERLAP)
        try:
            await self._read_networks()
            await self._read_containers()
            async for event in feed:
                await self._learn(event)
        finally:
            feed.close()

    async def _read_networks(self) -> None:
        listed = await self._calls.list_networks([NETWORK])
        self._networks = {network["Id"]: tuple(subnets(network)) for network in listed}

    async def _read_containers(self) -> None:
        listed = [entry for label in (ID, SIDECAR_FOR) for entry in await self._calls.list_containers([label])]
        self._joined = {
            (entry["Id"], network): found
            for entry in listed
            if _is_sandbox(entry.get("Labels"))
            for network, found in joined(entry)
            if network not in self._networks
        }

    async def _learn(self, event: Json) -> None:
        actor = event.get("Actor") or {}
        network, container = str(actor.get("ID")), (actor.get("Attributes") or {}).get("container")
        action = event.get("Action")
        if action in ("create", "destroy"):
            await self._read_networks()
        elif action == "disconnect":
            self._joined.pop((str(container), network), None)
        elif action == "connect" and network not in self._networks and container:
            details = await self._calls.inspect_container(container)
            if details is not None:
                self._join(container, details)

    def _join(self, container: str, details: Json) -> None:
        """Removes these addresses from their previous containers, also where the disconnect event was missed."""
        here = {(container, name): found for name, found in joined(details) if name not in self._networks}
        taken = frozenset().union(*here.values())
        kept = {place: found for place, found in self._joined.items() if not found & taken}
        self._joined = kept | here if _is_sandbox(details["Config"].get("Labels")) else kept


def _is_sandbox(labels: Mapping[str, str] | None) -> bool:
    """By value: the image of a snapshot leaves the labels on any container made from it, blank."""
    return bool(labels and (labels.get(ID) or labels.get(SIDECAR_FOR)))


def subnets(network: Json) -> Iterator[Subnet]:
    """The ranges of an inspected or listed network."""
    for entry in (network.get("IPAM") or {}).get("Config") or ():
        with contextlib.suppress(ValueError):
            yield ipaddress.ip_network(str(entry.get("Subnet")), strict=False)


def joined(container: Json) -> Iterator[tuple[str, frozenset[str]]]:
    """The ids of the networks that a container is on, each with its addresses there."""
    for endpoint in ((container.get("NetworkSettings") or {}).get("Networks") or {}).values():
        found = (endpoint.get("IPAddress"), endpoint.get("GlobalIPv6Address"))
        if any(found):
            yield str(endpoint.get("NetworkID")), frozenset(address for address in found if address)


def gateways_with_sandboxes(container: Json | None) -> frozenset[str]:
    """The gateways of our own container's networks, if a port of it is published where sandboxes can dial it. Pure.

    A port on loopback is dialled by programs of the host alone; then a gateway stands for these.
    """
    settings = (container or {}).get("NetworkSettings") or {}
    bindings = [binding for found in (settings.get("Ports") or {}).values() for binding in found or ()]
    if all(_is_loopback(str(binding.get("HostIp") or "")) for binding in bindings):
        return frozenset()
    networks = (settings.get("Networks") or {}).values()
    return frozenset(
        str(network[name]) for network in networks for name in ("Gateway", "IPv6Gateway") if network.get(name)
    )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False  # "" publishes everywhere


async def addresses_of_host(host: str | None) -> frozenset[str]:
    """Where calls from a remote Engine's sandboxes come from: its machine, which translates their addresses."""
    if host is None:
        return frozenset()
    with contextlib.suppress(OSError):
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return frozenset(str(entry[4][0]) for entry in found if not _is_loopback(str(entry[4][0])))
    return frozenset()
