"""The inventory's changes → routes: a sandbox's state in the API and in the gateway never disagree.

It also resolves the gateway's route misses while the runtime's events are out of sync.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from gateway.access.cors import CorsRule
from gateway.access.credentials import AccessRule
from gateway.table import Removal, Resolution, RouteState, RouteTable, SandboxRoute
from gateway.upstream.host_rules import NONE, HostRules
from gateway.upstream.targets import Targets
from manager.domain import extensions
from manager.domain.errors import ManagerError
from manager.domain.ownership import sees
from manager.domain.sandbox import EXECD_PORT, Sandbox, SandboxState
from manager.runtime.base import Runtime
from manager.services.inventory import Change, Ending, Inventory
from manager.services.limits import rules_of

_logger = logging.getLogger(__name__)

_STATES = {
    SandboxState.PENDING: RouteState.STARTING,
    SandboxState.RUNNING: RouteState.RUNNING,
    SandboxState.PAUSING: RouteState.PAUSED,
    SandboxState.PAUSED: RouteState.PAUSED,
    SandboxState.RESUMING: RouteState.STARTING,
    SandboxState.STOPPING: RouteState.STOPPED,
    SandboxState.TERMINATED: RouteState.STOPPED,
    SandboxState.FAILED: RouteState.STOPPED,
    SandboxState.UNKNOWN: RouteState.STARTING,
}

_REMOVALS = {
    None: Removal.DELETED,
    Ending.DELETED: Removal.DELETED,
    Ending.EXPIRED: Removal.EXPIRED,
    Ending.VANISHED: Removal.DELETED,
}


def reach_of(sandbox: Sandbox) -> Targets:
    """How the gateway dials the sandbox."""
    addresses = sandbox.addresses
    execd = addresses.published.get(EXECD_PORT)
    return Targets(
        host=addresses.dial_host,
        published=addresses.published,
        relay=execd if addresses.dial_host is None else (addresses.dial_host, EXECD_PORT),
        forwarded=bool(addresses.published),
        relayed=sandbox.relayed,
    )


def cors_of(given: Mapping[str, str]) -> CorsRule | None:
    """The CORS rule of the sandbox: `access.cors` and `access.cors.ports`."""
    origins = extensions.allowed_origins(given)
    if not origins:
        return None
    return CorsRule(frozenset(origin.encode() for origin in origins), extensions.cors_ports(given))


def hosts_of(given: Mapping[str, str]) -> HostRules:
    """Which Host its programs are sent: `access.upstream.host` and `access.upstream.origin`."""
    hosts = extensions.upstream_hosts(given)
    if not hosts:
        return NONE
    return HostRules({port: host.encode() for port, host in hosts.items()}, extensions.origin_ports(given))


def route_of(sandbox: Sandbox) -> SandboxRoute:
    """The sandbox as the gateway sees it."""
    return SandboxRoute(
        sandbox.id,
        sandbox.uid,
        reach_of(sandbox),
        state=_STATES[sandbox.status.state],
        access=AccessRule(sandbox.secure_token.encode()) if sandbox.secure_token else None,
        wakes=extensions.idle_seconds(sandbox.extensions) is not None,
        keep_prefix=extensions.kept_prefixes(sandbox.extensions),
        rules=rules_of(sandbox),
        cors=cors_of(sandbox.extensions),
        hosts=hosts_of(sandbox.extensions),
        owner=sandbox.owner,
    )


class Publisher:
    """Keeps the route table equal to the inventory."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    def on_change(self, change: Change) -> None:
        """Publishes or removes one route; open connections of a removed route are closed before this returns.

        A deletion removes the route when it begins, not when the runtime is done.
        """
        after = change.after
        if after is None or after.status.state is SandboxState.STOPPING or _never_existed(after):
            self._table.remove(change.sandbox_id, _REMOVALS[change.ending])
        else:
            self._table.put(route_of(after))

    def has_expired(self, sandbox_id: str, viewer: str | None = None) -> bool:
        """Whether the gateway reports this id as expired; never for a sandbox that the viewer may not see."""
        key = sandbox_id.encode("ascii")
        return self._table.gone(key) is Removal.EXPIRED and sees(viewer, self._table.owner_of(key) or "")

    def synced(self, in_sync: bool) -> None:
        """Whether a miss in the table means that the sandbox does not exist."""
        self._table.synced = in_sync


def _never_existed(sandbox: Sandbox) -> bool:
    """Whether this is the record of a failed creation, behind which nothing ever stood."""
    return sandbox.status.state is SandboxState.FAILED and not sandbox.uid


class RouteResolver:
    """The gateway's resolver: looks a sandbox up while events are out of sync, and resumes a paused one."""

    def __init__(self, runtime: Runtime, inventory: Inventory, wake: Callable[[str], Awaitable[bool]]) -> None:
        self._runtime = runtime
        self._inventory = inventory
        self._wake = wake

    async def wake(self, sandbox_id: str) -> Resolution:
        """Resumes a paused sandbox that opted in to waking by requests; PUBLISHED when it runs. Does not raise."""
        if await self._wake(sandbox_id):
            return Resolution.PUBLISHED
        return Resolution.NOT_FOUND if self._inventory.get(sandbox_id) is None else Resolution.UNAVAILABLE

    async def resolve(self, sandbox_id: str) -> Resolution:
        """Publishes the sandbox's route when the runtime knows it."""
        try:
            sandbox = await self._runtime.get(sandbox_id)
        except ManagerError as error:
            _logger.info("cannot look up sandbox %s: %s", sandbox_id, error.message)
            return Resolution.UNAVAILABLE
        if sandbox is None:
            return Resolution.NOT_FOUND
        self._inventory.report(sandbox)
        return Resolution.NOT_FOUND if self._inventory.get(sandbox_id) is None else Resolution.PUBLISHED
