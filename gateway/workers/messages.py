"""What the first process and a worker say to each other.

The first process keeps the route table; a worker has a copy that follows it. One message is one line of JSON,
`[kind, fields]`; the order of lines is the order of events, so whoever has seen a message has seen all before it.

    first → worker                                       worker → first
    Setup, Secrets        once at the start, in order
    Gone, Put, Synced     the snapshot, then every change
    Loaded                the snapshot is complete       Serving   it accepts clients from now on
                                                         Applied   so many messages have taken effect
                                                         Ask       does it exist, or: wake it
    Answer                to an Ask, behind what it led to
    Secrets, NewCertificate, LogLevel   changes          Report    counters and activity, every second, in parts
    Drain                 finish, report and end         LogLine   something for the log
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from gateway.access.cors import CorsRule
from gateway.access.credentials import AccessRule
from gateway.access.quotas import QuotaRules
from gateway.options import GatewayOptions
from gateway.table import Removal, Resolution, RouteState, SandboxRoute
from gateway.upstream.host_rules import NONE, HostRules
from gateway.upstream.targets import Targets
from gateway.workers.json_codec import from_plain, to_plain
from gateway.workers.usage import Report


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs to know before anything else; times are seconds."""

    addresses: tuple[tuple[str, int], ...]
    backlog: int
    certificate: tuple[str, str] | None
    """Files of the certificate and of its key."""
    options: GatewayOptions
    access_log_file: str | None
    """Where lines of the access log go, if it is on; standard output without one."""
    grace: float
    log_level: int
    processes: int
    """How many share the port, the first included."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The keys of signed addresses, the keys of our API, and which of those open the proxy path where it asks."""

    keys: Mapping[bytes, bytes] = field(repr=False)
    own: frozenset[bytes] = field(repr=False)
    entering: frozenset[bytes] = field(default=frozenset(), repr=False)
    viewers: Mapping[bytes, str] = field(default_factory=dict, repr=False)
    """The names of those keys that see only what was made with them."""


@dataclass(frozen=True, slots=True)
class Put:
    """One route as the manager describes it: each field is one of SandboxRoute, by the same name."""

    id: str
    uid: str
    reach: Targets
    state: RouteState
    access: AccessRule | None
    wakes: bool
    keep_prefix: frozenset[int]
    rules: QuotaRules | None
    owner: str = ""
    cors: CorsRule | None = None
    hosts: HostRules = NONE

    @classmethod
    def of(cls, route: SandboxRoute) -> Put:
        """What has to be told of the route."""
        told = {each.name: getattr(route, each.name) for each in fields(cls)}
        return cls(**{**told, "id": route.id.decode("ascii")})

    def route(self) -> SandboxRoute:
        """The route as it was told."""
        return SandboxRoute(**{each.name: getattr(self, each.name) for each in fields(self)})


@dataclass(frozen=True, slots=True)
class Gone:
    """The route was taken off the table, now or earlier."""

    id: str
    reason: Removal
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Synced:
    """Whether a miss in the table means that the sandbox does not exist."""

    synced: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """The snapshot is complete."""


@dataclass(frozen=True, slots=True)
class Ask:
    """An id that the table does not hold while events are out of step, or (`wake`) one to be resumed for a request."""

    id: str
    wake: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a question."""

    to: Ask
    resolution: Resolution


@dataclass(frozen=True, slots=True)
class NewCertificate:
    """The certificate files have changed."""


@dataclass(frozen=True, slots=True)
class LogLevel:
    """The least severe messages that are logged."""

    level: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Accept nothing new, let what is under way finish for so many seconds, then end."""

    grace: float


@dataclass(frozen=True, slots=True)
class Serving:
    """The worker accepts clients."""


@dataclass(frozen=True, slots=True)
class Applied:
    """So many messages, counted from the first, have taken effect."""

    count: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """A record of Python's logging."""

    level: int
    logger: str
    text: str


_KINDS: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        *(Setup, Secrets, Put, Gone, Synced, Loaded, Answer, NewCertificate, LogLevel, Drain),
        *(Serving, Applied, Ask, Report, LogLine),
    )
}
Message = Any
"""One of the dataclasses above, or a Report."""


def encode(message: Message) -> bytes:
    """The message as one line, with its end."""
    return json.dumps([type(message).__name__, to_plain(message)], separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """The message in one line. Raises ValueError or KeyError for what `encode` has not made."""
    kind, fields = json.loads(line)
    return from_plain(_KINDS[kind], fields)
