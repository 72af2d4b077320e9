"""What the first process and a worker say to each other, and the channel they say it on.

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

The channel is one end of a socket pair that the worker inherits: it has no name, so nobody else can join, and it ends
with the process at either side of it. Tokens and keys travel on nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from gateway.access.cors import CorsRule
from gateway.access.credentials import AccessRule
from gateway.access.quotas import QuotaRules
from gateway.flow import LATER, Valve, put_off
from gateway.options import GatewayOptions
from gateway.table import Removal, Resolution, RouteState, SandboxRoute
from gateway.upstream.host_rules import NONE, HostRules
from gateway.upstream.targets import Targets
from gateway.workers.json_codec import from_plain, to_plain
from gateway.workers.usage import Report

_PER_TURN: Final = 32
"""Most messages that are taken in one turn of the loop; a read can hold a thousand."""
_BYTES_PER_TURN: Final = 16384
"""After so many bytes no other message is taken: to decode them takes about a millisecond."""


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


class Channel(asyncio.Protocol):
    """One end of the feed."""

    _transport: asyncio.Transport
    _valve: Valve

    def __init__(
        self,
        take: Callable[[Message], None],
        lost: Callable[[], None],
        applied: Callable[[], None] = lambda: None,
    ) -> None:
        """`take` gets every message in order; `lost` is called once, when the other end has gone.

        `applied` is called whenever some have been taken.
        """
        self._take = take
        self._lost = lost
        self._applied = applied
        self._rest = bytearray()
        self._seen = 0
        """How much of that has no end of a line in it."""
        self._resting = False
        """Whether what is there waits for a later turn."""
        self._ended = False
        self._writable = asyncio.Event()
        self._writable.set()
        self.taken = 0
        """Messages that came so far."""
        self.sent = 0
        """Messages that went so far."""

    @property
    def backlog(self) -> int:
        """Bytes that the other end has not taken yet."""
        return self._transport.get_write_buffer_size()

    def send(self, message: Message) -> None:
        """Sends a message; without effect when the other end has gone."""
        self.send_line(encode(message))

    def send_line(self, line: bytes) -> None:
        """Sends what `encode` has made: once for many channels."""
        self.sent += 1
        self._transport.write(line)

    async def writable(self) -> None:
        """Waits until the other end keeps up, and lets others run in any case."""
        await asyncio.sleep(0)
        await self._writable.wait()

    def close(self) -> None:
        """Ends the channel once everything has been sent."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._valve = Valve(self._transport)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if not self._resting:
            self._take_some()

    def _take_some(self) -> None:
        """Takes a few messages; the others wait for a later turn of the loop, and so does reading."""
        rest, count, start = self._rest, 0, 0
        while count < _PER_TURN and start < _BYTES_PER_TURN and (end := rest.find(b"\n", max(start, self._seen))) >= 0:
            line = bytes(rest[start:end])
            start, count = end + 1, count + 1
            self.taken += 1
            self._take(decode(line))
        del rest[:start]
        if count == _PER_TURN or start >= _BYTES_PER_TURN:
            self._seen, self._resting = 0, True
            self._valve.hold(LATER)
            put_off(self._take_some)
        else:
            self._seen = len(rest)
            if self._resting:
                self._resting = False
                self._valve.release(LATER)
        if self._ended:
            if not self._resting:
                self._lost()
        elif count:
            self._applied()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self._ended = True
        if not self._resting:  # else what came before the end has its turn first
            self._lost()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
