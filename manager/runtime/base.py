"""What a runtime offers: one small Protocol with value types and events. Docker and Kubernetes implement it.

Calls are coroutines on the loop and block it for less than 5 ms; whatever a runtime cannot do raises
`manager.domain.errors.Unsupported`, which the API turns into a status in one place. An SDK's exceptions never leave it.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from manager.domain.sandbox import Sandbox, SandboxSpec
from manager.domain.snapshot import Snapshot


class Feature(enum.Enum):
    """What one runtime offers and another does not; a request for what is not offered is refused by name."""

    LIFECYCLE_HOOKS = "lifecycle hooks"
    TEMPLATES = "templates"
    POOL_MANAGEMENT = "pool management"


class Departure(enum.Enum):
    """Why a sandbox is no longer there."""

    DELETED = "deleted"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True)
class Appeared:
    """A sandbox exists or changed (state, address, uid): the whole of it, as it is now."""

    sandbox: Sandbox


@dataclass(frozen=True, slots=True)
class Departed:
    """A sandbox no longer exists."""

    sandbox_id: str
    reason: Departure


@dataclass(frozen=True, slots=True)
class Synced:
    """The event stream is live and this is everything there is; what is not in it is gone."""

    sandboxes: tuple[Sandbox, ...]


@dataclass(frozen=True, slots=True)
class OutOfSync:
    """The event stream broke; until the next `Synced` the listener's view is stale. `reason` is for people."""

    reason: str


RuntimeEvent = Appeared | Departed | Synced | OutOfSync
EventSink = Callable[[RuntimeEvent], None]
"""Called on the loop, in order; must not block."""

Progress = Callable[[str], None]
"""Progress callback: one human-readable line per update, such as "pulling python:3.11: 34 of 51 MB"; on the loop."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which log lines: the last `tail`, since `since`; `follow` keeps the stream open."""

    tail: int = 100
    since: datetime | None = None
    follow: bool = False


class Output(Protocol):
    """The output of a sandbox in chunks; the caller closes it, also at its end. `close` may be called twice."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    def close(self) -> None: ...


class EventNumbers(Protocol):
    """Numbers of changes, ascending, within one `epoch`; that is new with every start, since changes are not stored."""

    epoch: str
    last: int

    def advance(self) -> int:
        """The number of the change that has just been made known, greater than any before; becomes `last`."""


class Runtime(Protocol):
    """Where sandboxes run."""

    name: str
    features: frozenset[Feature]
    numbers: EventNumbers | None
    """Those that its events carry (resource versions, say); None where they carry none, and this process counts."""

    async def start(self, sink: EventSink) -> None:
        """Starts watching and delivers `Synced` once connected; returns at once, also when the runtime does not answer.

        It is retried for ever with a capped backoff.
        """

    async def stop(self) -> None:
        """Stops watching and closes all connections. Sandboxes keep running."""

    def degraded(self) -> str | None:
        """Why the runtime is degraded at present, for an operator; None when it is healthy."""

    def is_sandbox_address(self, address: str) -> bool:
        """Whether calls from this address may come from inside a sandbox, also of another server's; no I/O."""

    def check(self, spec: SandboxSpec) -> None:
        """Refuses what would fail by the spec and the configuration alone; no I/O, nothing is created.

        Raises Invalid or Unsupported, naming the field of the request.
        """

    def has_pool(self, name: str) -> bool:
        """Whether `extensions.poolRef` may name this pool; no I/O."""

    def reserve(self, extensions: Mapping[str, str]) -> str | None:
        """The id of a pooled sandbox that these extensions ask for, reserved for a create that follows soon; no I/O.

        None when they ask for none or none is left: then the caller chooses the id.
        """

    async def create(self, spec: SandboxSpec, progress: Progress) -> Sandbox:
        """Creates and starts; returns once the container runs. A failure leaves nothing behind.

        Raises Invalid, NotFound (image), Failed, Unavailable, TimedOut, Conflict.
        """

    async def get(self, sandbox_id: str) -> Sandbox | None:
        """The sandbox as the runtime sees it this moment, or None."""

    async def list(self) -> Sequence[Sandbox]:
        """Every sandbox of this server, in any state, with a number of runtime calls that does not grow with it."""

    async def delete(self, sandbox_id: str) -> bool:
        """Stops and removes it with everything that belongs to it; False when there was none."""

    async def pause(self, sandbox_id: str) -> None:
        """Pauses it. Raises NotFound, Conflict (not running), Failed."""

    async def resume(self, sandbox_id: str) -> None:
        """Resumes it. Raises NotFound, Conflict (not paused), Failed."""

    def snapshot_image(self, snapshot_id: str) -> str:
        """The reference of the image that `snapshot` makes; pure."""

    async def check_snapshot(self, sandbox_id: str) -> Sequence[str]:
        """The paths of which `snapshot` keeps nothing, since something is mounted there.

        Raises Conflict when none of the sandbox's writes would be in a snapshot, NotFound, Failed.
        """

    async def snapshot(self, sandbox_id: str, snapshot_id: str) -> str:
        """Keeps the file system of a running sandbox; returns the image reference to restore from."""

    async def delete_snapshot(self, image: str) -> None:
        """Removes what `snapshot` made; a missing one is no error. Raises Conflict while something uses it."""

    async def has_snapshot(self, image: str) -> bool:
        """Whether what `snapshot` made is there."""

    async def earlier_snapshots(self) -> Sequence[Snapshot]:
        """Those that a server before this one has made, where the configuration asks to take them over; else none."""

    async def logs(self, sandbox_id: str, query: LogQuery) -> Output:
        """Output of the sandbox's main process, standard output and error in order, with timestamps; open on return.

        Raises NotFound, TooMany, Unavailable.
        """

    async def inspect(self, sandbox_id: str) -> dict[str, object] | None:
        """The runtime's own description of it for diagnostics, secrets masked; None when there is none."""
