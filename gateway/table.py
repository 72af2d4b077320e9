"""The route table: which sandboxes exist and how their ports are dialled. The only object that both planes share.

Everything here is synchronous and runs on the loop: the data plane reads a route with one dict lookup, and
whoever changes the table sees the change take effect before the call returns.

A route carries a *lifecycle uid* which changes whenever what stands behind the id does (another container, a
restart). Idle connections and open exchanges belong to the route object, hence to the uid, so an address that is
used again by somebody else can never receive the bytes of an earlier sandbox.
"""

from __future__ import annotations

import enum
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from gateway.access.cors import CorsRule
from gateway.access.quotas import Quota, QuotaRules
from gateway.revocation import Revocations
from gateway.upstream.host_rules import NONE, HostRules
from gateway.upstream.targets import Target, Targets

if TYPE_CHECKING:
    from gateway.access.credentials import AccessRule
    from gateway.upstream.pool import Pool

__all__ = [
    "TOMBSTONES",
    "Live",
    "Removal",
    "Resolution",
    "Resolver",
    "RouteState",
    "RouteTable",
    "SandboxRoute",
    "Target",
]

TOMBSTONES = 4096
"""How many removed ids are remembered, so that requests for them get 410 with the reason rather than 404."""


class RouteState(enum.Enum):
    """The state of a sandbox as the gateway reports it to authorised clients."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Removal(enum.Enum):
    """Why open connections of a route are closed."""

    DELETED = "deleted"
    EXPIRED = "expired"
    PAUSED = "paused"
    STOPPED = "stopped"
    REPLACED = "replaced"
    REVOKED = "revoked"


class Live(Protocol):
    """Something open on a route: an exchange or a tunnel."""

    bytes_in: int
    """Bytes of the client's so far; the route counts them when it ends."""
    bytes_out: int
    """The same of the sandbox's."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """What let it in and may be taken back: ids of keys that have signed its address, keys of our API."""

    @property
    def since(self) -> float:
        """When its request came, in the monotonic clock's seconds."""

    def revoke(self, reason: Removal) -> None:
        """Ends at once: a WebSocket gets its close frame, an HTTP stream is cut so that truncation shows."""


class SandboxRoute:
    """One sandbox as the data plane sees it."""

    # Set by the manager; `RouteTable.put` with the same uid replaces these in place.
    __slots__ = (
        "access",
        "amends_answers",
        "bytes_in",
        "bytes_out",
        "cors",
        "hosts",
        "id",
        "keep_prefix",
        "last_active",
        "live",
        "open_elsewhere",
        "owner",
        "pools",
        "quota",
        "reach",
        "requests",
        "state",
        "uid",
        "wakes",
    )

    def __init__(
        self,
        id: str,
        uid: str,
        reach: Targets,
        *,
        state: RouteState = RouteState.RUNNING,
        access: AccessRule | None = None,
        wakes: bool = False,
        keep_prefix: frozenset[int] = frozenset(),
        rules: QuotaRules | None = None,
        owner: str = "",
        cors: CorsRule | None = None,
        hosts: HostRules = NONE,
    ) -> None:
        self.id = id.encode("ascii")
        self.uid = uid
        self.reach = reach
        self.state = state
        self.access = access
        self.wakes = wakes
        """Whether a request resumes the paused sandbox."""
        self.keep_prefix = keep_prefix
        """Ports whose applications are told to live under the public path prefix, and so want to see it; 0: all."""
        self.quota = None if rules is None else Quota(rules, time.monotonic())
        """What the owner has limited; None, which is usual, costs nothing."""
        self.owner = owner
        """The name of the API key that made the sandbox; empty without one."""
        self.cors = cors
        """Pages of which other origins the owner lets in; None, which is usual, for none."""
        self.hosts = hosts
        """Which Host the programs on its ports are sent; read once for each pool."""
        self.amends_answers = False
        """Whether answers are looked at for what its owner has asked for beside the usual: one look for all of it."""
        self._note_amendments()
        # What the data plane keeps. `last_active` is loop time in seconds; 0.0 means never.
        self.last_active = 0.0
        self.live: set[Live] = set()
        self.open_elsewhere = 0
        self.pools: dict[int, Pool] = {}
        self.requests = 0
        self.bytes_in = 0
        self.bytes_out = 0

    @property
    def open(self) -> int:
        """How many exchanges and tunnels are open on it, those of worker processes included."""
        return len(self.live) + self.open_elsewhere

    def moved(self) -> tuple[int, int]:
        """Bytes to the sandbox and to its clients so far, those of what is still open here among them."""
        total_in, total_out = self.bytes_in, self.bytes_out
        for member in self.live:
            total_in += member.bytes_in
            total_out += member.bytes_out
        return total_in, total_out

    @property
    def rules(self) -> QuotaRules | None:
        """What the owner has limited."""
        return None if self.quota is None else self.quota.rules

    def describe_as(self, other: SandboxRoute) -> None:
        """Takes over what the manager says of the sandbox, keeping connections and counters."""
        if other.reach != self.reach or other.hosts != self.hosts:
            self.close_idle()
        self.reach, self.state, self.access = other.reach, other.state, other.access
        self.cors, self.hosts = other.cors, other.hosts
        self._note_amendments()
        self.wakes, self.keep_prefix, self.owner = other.wakes, other.keep_prefix, other.owner
        if self.rules != other.rules:
            self.quota = other.quota

    def _note_amendments(self) -> None:
        self.amends_answers = self.cors is not None or bool(self.hosts.hosts)

    def close_idle(self) -> None:
        """Drops the idle upstream connections."""
        pools, self.pools = self.pools, {}
        for pool in pools.values():
            pool.close()


class Resolution(enum.Enum):
    """What the manager found out about an id that the table does not hold."""

    PUBLISHED = "published"
    NOT_FOUND = "not found"
    UNAVAILABLE = "unavailable"


class Resolver(Protocol):
    """Asked on a miss only, and only while events are out of step."""

    async def resolve(self, sandbox_id: str) -> Resolution:
        """Looks the sandbox up at its source, publishing its route when it exists."""

    async def wake(self, sandbox_id: str) -> Resolution:
        """Resumes a paused sandbox that has asked to be woken by requests; PUBLISHED when it runs. Does not raise."""


class Follower(Protocol):
    """Is told of every change after it has taken effect; it must not change the table."""

    def on_put(self, route: SandboxRoute) -> None:
        """The route is live, or what the manager says of it has changed."""

    def on_remove(self, sandbox_id: str, reason: Removal) -> None:
        """The route is gone."""

    def on_synced(self, synced: bool) -> None:
        """Whether a miss means that the sandbox does not exist."""


_STATE_REMOVALS = {RouteState.PAUSED: Removal.PAUSED, RouteState.STOPPED: Removal.STOPPED}


class RouteTable:
    """Routes by sandbox id."""

    def __init__(self) -> None:
        self._routes: dict[bytes, SandboxRoute] = {}
        self.retired_in = 0
        self.retired_out = 0
        """Body bytes that went through routes which are no longer held."""
        # Why each is gone, and whose it was.
        self._gone: OrderedDict[bytes, tuple[Removal, str]] = OrderedDict()
        self.get = self._routes.get
        """`get(id)` → the route or None: bound to the dict itself, since it runs once per request."""
        self._synced = False
        self.followers: list[Follower] = []
        """Who keeps a copy of the table."""
        self._revocations = Revocations()

    @property
    def synced(self) -> bool:
        """Whether the manager's events are in step: then a miss means the sandbox does not exist."""
        return self._synced

    @synced.setter
    def synced(self, synced: bool) -> None:
        self._synced = synced
        for follower in self.followers:
            follower.on_synced(synced)

    def put(self, route: SandboxRoute) -> SandboxRoute:
        """Makes the route live; returns the object the table holds from now on.

        The same uid updates in place. Another uid replaces: what was open on the old one is closed. A state in which
        the sandbox cannot answer closes what is open.
        """
        held = self._put(route)
        for follower in self.followers:
            follower.on_put(held)
        return held

    def _put(self, route: SandboxRoute) -> SandboxRoute:
        self._gone.pop(route.id, None)
        held = self._routes.get(route.id)
        if held is None:
            self._routes[route.id] = route
            return route
        if held.uid != route.uid:
            self._routes[route.id] = route
            self._retire(held, Removal.REPLACED)
            return route
        held.describe_as(route)
        removal = _STATE_REMOVALS.get(route.state)
        if removal is not None:
            self._revoke(held, removal)
        return held

    def remove(self, sandbox_id: str, reason: Removal) -> None:
        """Removes the route and closes what is open on it; an unknown id is no error."""
        key = sandbox_id.encode("ascii")
        route = self._routes.pop(key, None)
        if route is None:
            return
        self.bury(key, reason, route.owner)
        self._retire(route, reason)
        for follower in self.followers:
            follower.on_remove(sandbox_id, reason)

    def bury(self, sandbox_id: bytes, reason: Removal, owner: str = "") -> None:
        """Remembers that an id which is not held is gone, why, and whose it was."""
        self._gone[sandbox_id] = reason, owner
        if len(self._gone) > TOMBSTONES:
            self._gone.popitem(last=False)

    def _retire(self, route: SandboxRoute, reason: Removal) -> None:
        self._revoke(route, reason)
        moved_in, moved_out = route.moved()
        self.retired_in += moved_in
        self.retired_out += moved_out

    def _revoke(self, route: SandboxRoute, reason: Removal) -> None:
        route.close_idle()
        self._revocations.begin(route, reason)

    def revoke_keys(self, keys: frozenset[bytes], *, secured: bool = False) -> None:
        """Ends what was let in by one of these keys, everywhere or only where the owner asks for a credential."""
        for route in self._routes.values():
            if route.access is not None or not secured:
                self._revocations.begin(route, Removal.REVOKED, keys)

    def gone(self, sandbox_id: bytes) -> Removal | None:
        """Why the id is no longer here, for the last few thousand that were removed."""
        known = self._gone.get(sandbox_id)
        return None if known is None else known[0]

    def owner_of(self, sandbox_id: bytes) -> str | None:
        """The owner of an id that is here, or remembered as gone; None for any other."""
        route = self.get(sandbox_id)
        if route is not None:
            return route.owner
        known = self._gone.get(sandbox_id)
        return None if known is None else known[1]

    def tombstones(self) -> list[tuple[bytes, Removal]]:
        """The ids that are remembered as gone, the longest gone first."""
        return [(sandbox_id, reason) for sandbox_id, (reason, _) in self._gone.items()]

    def __iter__(self) -> Iterator[SandboxRoute]:
        return iter(list(self._routes.values()))

    def __len__(self) -> int:
        return len(self._routes)
