"""Readiness check: a published port must accept a connection before the sandbox is reported Running."""

from __future__ import annotations

import asyncio

from manager.domain import errors
from manager.domain.sandbox import EXECD_PORT
from manager.runtime.docker.codes import SANDBOX_UNREACHABLE
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.host.topology import Topology
from manager.runtime.docker.status import addresses_of

REACH_LIMIT = 5.0
"""Connect timeout in seconds for a port of the Engine's host."""
LISTEN_LIMIT = 20.0
"""Seconds for which ECONNREFUSED may mean that execd does not listen yet: some Engines forward without a proxy."""
_PAUSE = 0.1


async def probe_tcp(host: str, port: int) -> OSError | None:
    """The connection error, or None when the port accepts. Waits at most `REACH_LIMIT`."""
    try:
        async with asyncio.timeout(REACH_LIMIT):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:  # TimeoutError is one of them
        return error
    writer.close()
    return None


async def wait_until_reachable(calls: Calls, topology: Topology, container: str) -> None:
    """Returns once execd's published port accepts a connection; raises Failed when it does not, naming the remedy.

    For a container that has exited it returns: the container's status has the cause.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LISTEN_LIMIT
    while True:
        details = await calls.inspect_container(container)
        if details is None or not details["State"].get("Running"):
            return
        published = addresses_of(details, details, topology.sight).published.get(EXECD_PORT)
        if published is None:
            return
        problem = await probe_tcp(*published)
        if problem is None:
            return
        if not isinstance(problem, ConnectionRefusedError) or loop.time() > deadline:
            raise errors.Failed(SANDBOX_UNREACHABLE, _advice(topology, *published)) from problem
        await asyncio.sleep(_PAUSE)


def _advice(topology: Topology, host: str, port: int) -> str:
    if topology.remote:
        return (
            f"Port {port}, published for the sandbox on the Engine's machine {host}, cannot be reached from here; "
            "open docker.port_range_min to docker.port_range_max in its firewall."
        )
    if topology.sight.private:
        return (
            f"Port {port}, published for the sandbox at {host}, cannot be reached from this server's container; let "
            "its network in through the host's firewall, or run it with network_mode 'host'."
        )
    return f"Port {port}, published for the sandbox at {host}, cannot be reached from here."
