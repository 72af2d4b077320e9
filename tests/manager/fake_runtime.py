"""A runtime in memory, for tests of services and API: scripted delays and faults, and events like a real one's."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from manager.domain.errors import Conflict, NotFound
from manager.domain.sandbox import Addresses, Sandbox, SandboxSpec, SandboxState, SandboxStatus
from manager.domain.snapshot import Snapshot
from manager.runtime.base import (
    Appeared,
    Departed,
    Departure,
    EventNumbers,
    EventSink,
    Feature,
    LogQuery,
    OutOfSync,
    Output,
    Progress,
    Synced,
)

NOT_FOUND = "DOCKER::SANDBOX_NOT_FOUND"


def running(sandbox_id: str, *, expires_at: datetime | None = None, state: str = "Running", own: str = "") -> Sandbox:
    """A sandbox as a runtime would report it."""
    return Sandbox(
        id=sandbox_id,
        uid=f"uid-{sandbox_id}",
        status=SandboxStatus(SandboxState(state), "CONTAINER_RUNNING"),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        expires_at=expires_at,
        image="image:1",
        entrypoint=("sleep", "1"),
        addresses=Addresses(own=(own,) if own else ()),
    )


class FakeOutput:
    """The lines there are; a follower then waits at the gate `logs` and ends, or fails as scripted."""

    def __init__(self, runtime: FakeRuntime, query: LogQuery) -> None:
        self._runtime = runtime
        self._lines = iter(runtime.log_lines[-query.tail :])
        self._follow = query.follow
        self._closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for line in self._lines:
            return line
        if self._follow:
            await self._runtime._act("logs")
        raise StopAsyncIteration

    def close(self) -> None:
        """The runtime counts the open ones."""
        self._runtime.open_logs -= not self._closed
        self._closed = True


class FakeRuntime:
    """Sandboxes in a dict. `faults[operation]` is raised once, `gates[operation]` is waited for, calls are counted."""

    name = "docker"
    features: frozenset[Feature] = frozenset()
    numbers: EventNumbers | None = None

    def __init__(self) -> None:
        self.sandboxes: dict[str, Sandbox] = {}
        self.specs: dict[str, SandboxSpec] = {}
        self.images: set[str] = set()
        self.faults: dict[str, list[Exception]] = defaultdict(list)
        self.gates: dict[str, asyncio.Event] = {}
        self.calls: Counter[str] = Counter()
        self.reason: str | None = None
        self.log_lines: list[bytes] = []
        self.open_logs = 0
        self.synced_at_start = True
        self.stock: list[str] = []
        self.pools: frozenset[str] = frozenset()
        self.mounted: tuple[str, ...] = ()
        """The paths that snapshots leave out."""
        self.foreign: set[str] = set()
        self.earlier: list[Snapshot] = []
        self._sink: EventSink | None = None
        self._next_address = 2

    # The script

    def hold(self, operation: str) -> asyncio.Event:
        """Lets the operation wait until the returned event is set."""
        self.gates[operation] = asyncio.Event()
        return self.gates[operation]

    def fail(self, operation: str, error: Exception) -> None:
        """Lets the next call of the operation fail."""
        self.faults[operation].append(error)

    def appear(self, sandbox: Sandbox) -> None:
        """A sandbox appears or changes behind the server's back."""
        self.sandboxes[sandbox.id] = sandbox
        self.emit(Appeared(sandbox))

    def vanish(self, sandbox_id: str) -> None:
        """A sandbox goes behind the server's back."""
        del self.sandboxes[sandbox_id]
        self.emit(Departed(sandbox_id, Departure.VANISHED))

    def lose(self, reason: str = "the event stream ended") -> None:
        """The event stream breaks."""
        self.emit(OutOfSync(reason))

    def sync(self) -> None:
        """The event stream stands again."""
        self.emit(Synced(tuple(self.sandboxes.values())))

    def emit(self, event: Appeared | Departed | Synced | OutOfSync) -> None:
        """Sends one event."""
        if self._sink is not None:
            self._sink(event)

    # The promises of a runtime

    async def start(self, sink: EventSink) -> None:
        self._sink = sink
        if self.synced_at_start:
            self.sync()

    async def stop(self) -> None:
        self._sink = None

    def degraded(self) -> str | None:
        return self.reason

    def is_sandbox_address(self, address: str) -> bool:
        """Those of other servers' sandboxes."""
        return address in self.foreign

    def check(self, spec: SandboxSpec) -> None:
        for error in self.faults.pop("check", []):
            raise error

    def has_pool(self, name: str) -> bool:
        return name in self.pools

    def reserve(self, extensions: Mapping[str, str]) -> str | None:
        return self.stock.pop() if self.stock and "poolRef" in extensions else None

    async def create(self, spec: SandboxSpec, progress: Progress) -> Sandbox:
        progress(f"pulling {spec.image}")
        await self._act("create")
        address = f"10.9.0.{self._next_address}"
        self._next_address += 1
        sandbox = Sandbox(
            id=spec.id,
            uid=f"uid-{spec.id}",
            status=SandboxStatus(SandboxState.RUNNING, "CONTAINER_RUNNING", "Sandbox container is running."),
            created_at=spec.created_at,
            expires_at=spec.expires_at,
            manual_cleanup=spec.expires_at is None,
            image=spec.image,
            snapshot_id=spec.snapshot_id,
            platform=spec.platform,
            entrypoint=spec.entrypoint,
            metadata=spec.metadata,
            extensions=spec.extensions,
            addresses=Addresses((address,), address, {44772: ("127.0.0.1", 40001), 8080: ("127.0.0.1", 40002)}),
            secure_token=spec.secure_token,
            owner=spec.owner,
            egress_token="egress-token" if spec.network_policy else None,
        )
        self.specs[spec.id] = spec
        self.sandboxes[spec.id] = sandbox
        self.emit(Appeared(sandbox))
        return sandbox

    async def get(self, sandbox_id: str) -> Sandbox | None:
        await self._act("get")
        return self.sandboxes.get(sandbox_id)

    async def list(self) -> Sequence[Sandbox]:
        await self._act("list")
        return list(self.sandboxes.values())

    async def delete(self, sandbox_id: str) -> bool:
        await self._act("delete")
        if self.sandboxes.pop(sandbox_id, None) is None:
            return False
        self.emit(Departed(sandbox_id, Departure.DELETED))
        return True

    async def pause(self, sandbox_id: str) -> None:
        await self._act("pause")
        self._move(sandbox_id, SandboxState.RUNNING, SandboxState.PAUSED)

    async def resume(self, sandbox_id: str) -> None:
        await self._act("resume")
        self._move(sandbox_id, SandboxState.PAUSED, SandboxState.RUNNING)

    def snapshot_image(self, snapshot_id: str) -> str:
        return f"snapshots:{snapshot_id}"

    async def check_snapshot(self, sandbox_id: str) -> Sequence[str]:
        await self._act("check_snapshot")
        return self.mounted

    async def snapshot(self, sandbox_id: str, snapshot_id: str) -> str:
        await self._act("snapshot")
        image = self.snapshot_image(snapshot_id)
        self.images.add(image)
        return image

    async def delete_snapshot(self, image: str) -> None:
        await self._act("delete_snapshot")
        self.images.discard(image)

    async def has_snapshot(self, image: str) -> bool:
        await self._act("has_snapshot")
        return image in self.images

    async def earlier_snapshots(self) -> Sequence[Snapshot]:
        return self.earlier

    async def logs(self, sandbox_id: str, query: LogQuery) -> Output:
        await self._act("open_logs")
        self.open_logs += 1
        return FakeOutput(self, query)

    async def inspect(self, sandbox_id: str) -> dict[str, object] | None:
        if sandbox_id not in self.sandboxes:
            return None
        return {"Id": f"uid-{sandbox_id}", "State": {"Status": "running"}}

    async def _act(self, operation: str) -> None:
        self.calls[operation] += 1
        if operation in self.gates:
            await self.gates[operation].wait()
        if self.faults[operation]:
            raise self.faults[operation].pop(0)

    def _move(self, sandbox_id: str, expected: SandboxState, state: SandboxState) -> None:
        sandbox = self.sandboxes.get(sandbox_id)
        if sandbox is None:
            raise NotFound(NOT_FOUND, f"Sandbox {sandbox_id} not found.")
        if sandbox.status.state is not expected:
            raise Conflict("DOCKER::SANDBOX_NOT_RUNNING", f"it is {sandbox.status.state.value}")
        self.appear(replace(sandbox, status=SandboxStatus(state, f"CONTAINER_{state.value.upper()}")))
