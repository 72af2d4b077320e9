"""The life of sandboxes against a model: random operations, restarts, deaths and time, and after each step all agree.

What callers are shown, what the runtime has and what the gateway routes must be what a dict of states says. Operations
come one by one, several at once on one sandbox, and while a create or a snapshot takes its time.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from gateway.table import RouteState
from manager.domain.errors import Conflict, Failed, Invalid, NotFound
from manager.domain.sandbox import SandboxState, SandboxStatus
from manager.domain.snapshot import SnapshotState
from manager.runtime.records import Records
from manager.services.filters import Paging, SandboxFilter
from manager.services.sandboxes import Sandboxes
from manager.services.snapshots import SnapshotFilter
from manager.store.store import Store
from tests.manager.fake_records import FakeRecords
from tests.manager.fake_runtime import FakeRuntime
from tests.manager.harness import DEADLINE, House, MovedClock, OpenRecords, open_house, until, wish

T = TypeVar("T")

TIMEOUT = 600
MEMORY = "/dev/shm"
"""Where a file system in memory is: these tests ask nothing of the disk, and write thousands of times."""
WISHES = ["pause", "resume", "delete", "patch"]
ROUTED = {
    SandboxState.RUNNING: RouteState.RUNNING,
    SandboxState.PAUSED: RouteState.PAUSED,
    SandboxState.FAILED: RouteState.STOPPED,
}


@dataclass
class Known:
    """What the model knows of one sandbox."""

    state: SandboxState
    expires_at: datetime | None
    metadata: dict[str, str] = field(default_factory=dict)


class Life(RuleBasedStateMachine):
    """Sandboxes, operated at random."""

    boxes = Bundle("boxes")
    snapshots = Bundle("snapshots")
    open_records: OpenRecords = FakeRecords

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
        self.clock, self.runtime = MovedClock(), FakeRuntime()
        self.model: dict[str, Known] = {}
        self.kept: set[str] = set()
        """Snapshots that there are."""
        self.stack = AsyncExitStack()
        self.house: House

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs on the machine's own loop."""
        return self.runner.run(work)

    def happen(self, event: Callable[[], None]) -> None:
        """Lets the runtime tell something, on the loop."""

        async def tell() -> None:
            event()

        self.run(tell())

    def teardown(self) -> None:
        """Closes what was opened."""
        self.run(self.stack.aclose())
        self.runner.close()
        self.directory.cleanup()

    async def _open(self) -> None:
        opened = open_house(Path(self.directory.name), self.runtime, self.clock, self.open_records)
        self.house = await self.stack.enter_async_context(opened)

    @initialize()
    def start(self) -> None:
        """The server starts with nothing."""
        self.run(self._open())

    @rule(target=boxes, timeout=st.sampled_from([None, TIMEOUT]))
    def create(self, timeout: int | None) -> str:
        """A sandbox is made."""
        box = self.run(self.house.services.creation.create(wish(timeout=timeout)))
        expires_at = None if timeout is None else self.clock() + timedelta(seconds=timeout)
        self.model[box.id] = Known(SandboxState.RUNNING, expires_at)
        return box.id

    @rule()
    def fail_to_create(self) -> None:
        """A create fails: nothing exists afterwards."""
        self.runtime.fail("create", Failed("X", "no space"))
        self.expect(Failed, self.house.services.creation.create(wish()))

    @rule(target=boxes, end=st.sampled_from(["runs", "fails", "is deleted", "is cut off"]), durable=st.booleans())
    def create_slowly(self, end: str, durable: bool) -> Any:
        """A create takes its time: it is Pending, can only be deleted, and a server that stops leaves none."""
        return self.run(self._create_slowly(end, durable=durable))

    async def _create_slowly(self, end: str, *, durable: bool) -> Any:
        house, gate, asked = self.house, self.runtime.hold("create"), self.runtime.calls["create"]
        if end == "fails":
            self.runtime.fail("create", Failed("X", "no space"))
        pending = await house.services.creation.begin(wish(), durable=durable)
        await until(lambda: self.runtime.calls["create"] > asked)
        assert (await house.services.sandboxes.get(pending.id)).status.state is SandboxState.PENDING
        await self.refused(Conflict, house.services.sandboxes.pause(pending.id))
        if end == "is deleted":
            await house.services.sandboxes.delete(pending.id)
            await self.refused(NotFound, house.services.sandboxes.get(pending.id))
        elif end == "is cut off":
            del self.runtime.gates["create"]
            house.services.creation._work[pending.id].cancel()
            await self.stack.aclose()
            await self._open()
            return multiple()
        gate.set()
        await until(lambda: not house.services.creation._work)
        if end != "runs":
            return multiple()
        self.model[pending.id] = Known(SandboxState.RUNNING, self.clock() + timedelta(seconds=TIMEOUT))
        return pending.id

    @rule(box=boxes, wishes=st.lists(st.sampled_from(WISHES), min_size=2, max_size=5))
    def at_once(self, box: str, wishes: list[str]) -> None:
        """Several operations on one sandbox at the same time: what succeeds makes a legal life."""
        outcomes = self.run(self._at_once(box, wishes))
        done = Counter(name for name, outcome in zip(wishes, outcomes, strict=True) if outcome is None)
        for outcome in outcomes:
            assert outcome is None or isinstance(outcome, Conflict | NotFound), outcome
        known = self.model.get(box)
        if known is None:
            assert not done
            return
        assert done["delete"] == ("delete" in wishes)
        if done["delete"]:
            del self.model[box]
            return
        steps = done["pause"] - done["resume"]
        assert abs(steps) <= 1
        if steps:
            assert known.state is (SandboxState.RUNNING if steps > 0 else SandboxState.PAUSED)
            known.state = SandboxState.PAUSED if steps > 0 else SandboxState.RUNNING
        if done["patch"]:
            known.metadata["at"] = "once"

    async def _at_once(self, box: str, wishes: list[str]) -> list[BaseException | None]:
        sandboxes = self.house.services.sandboxes
        gates = [self.runtime.hold(operation) for operation in ("pause", "resume", "delete")]
        begun = [asyncio.create_task(_operation(sandboxes, name, box)) for name in wishes]
        await asyncio.wait(begun, timeout=0)
        for gate in gates:
            gate.set()
        async with asyncio.timeout(DEADLINE):
            return await asyncio.gather(*begun, return_exceptions=True)

    @rule(box=boxes, key=st.sampled_from("ab"), value=st.sampled_from([None, "", "x"]))
    def patch(self, box: str, key: str, value: str | None) -> None:
        """Metadata changes in every state."""
        work, known = self.house.services.sandboxes.patch_metadata(box, {key: value}), self.model.get(box)
        if known is None:
            self.expect(NotFound, work)
            return
        self.run(work)
        known.metadata.pop(key, None)
        known.metadata.update({} if value is None else {key: value})

    @rule(target=snapshots, box=boxes, fails=st.booleans())
    def snapshot(self, box: str, fails: bool) -> Any:
        """Possible while it runs; a pause meanwhile is refused, and a snapshot that fails stays to say so."""
        known = self.model.get(box)
        if known is None or known.state is not SandboxState.RUNNING:
            self.expect(NotFound if known is None else Conflict, self.house.services.snapshots.create(box, None))
            return multiple()
        return self.run(self._snapshot(box, SnapshotState.FAILED if fails else SnapshotState.READY))

    async def _snapshot(self, box: str, outcome: SnapshotState) -> str:
        services, gate, asked = self.house.services, self.runtime.hold("snapshot"), self.runtime.calls["snapshot"]
        if outcome is SnapshotState.FAILED:
            self.runtime.fail("snapshot", Failed("X", "no space"))
        made = await services.snapshots.create(box, None)
        await until(lambda: self.runtime.calls["snapshot"] > asked)
        await self.refused(Conflict, services.sandboxes.pause(box))
        await self.refused(Conflict, services.snapshots.delete(made.id))
        gate.set()
        await until(lambda: services.snapshots.get(made.id).state is outcome)
        self.kept.add(made.id)
        return made.id

    @rule(target=boxes, snapshot=snapshots)
    def restore(self, snapshot: str) -> Any:
        """Possible from one that is ready."""
        work = self.house.services.creation.create(wish(image=None, snapshot_id=snapshot, timeout=None))
        if snapshot not in self.kept:
            self.expect(NotFound, work)
        elif self.house.services.snapshots.get(snapshot).state is not SnapshotState.READY:
            self.expect(Conflict, work)
        else:
            box = self.run(work)
            self.model[box.id] = Known(SandboxState.RUNNING, None)
            return box.id
        return multiple()

    @rule(snapshot=snapshots)
    def delete_snapshot(self, snapshot: str) -> None:
        """Possible once."""
        work = self.house.services.snapshots.delete(snapshot)
        if snapshot not in self.kept:
            self.expect(NotFound, work)
            return
        self.run(work)
        self.kept.discard(snapshot)

    @rule(box=boxes)
    def pause(self, box: str) -> None:
        """Possible when it runs."""
        self.operate(box, SandboxState.RUNNING, SandboxState.PAUSED, self.house.services.sandboxes.pause(box))

    @rule(box=boxes)
    def resume(self, box: str) -> None:
        """Possible when it is paused."""
        self.operate(box, SandboxState.PAUSED, SandboxState.RUNNING, self.house.services.sandboxes.resume(box))

    @rule(box=boxes, seconds=st.integers(-10, 5000))
    def renew(self, box: str, seconds: int) -> None:
        """Possible in every state when it expires at all and the moment is in the future."""
        moment, known = self.clock() + timedelta(seconds=seconds), self.model.get(box)
        work = self.house.services.sandboxes.renew(box, moment)
        if known is None:
            self.expect(NotFound, work)
        elif seconds <= 0:
            self.expect(Invalid, work)
        elif known.expires_at is None:
            self.expect(Conflict, work)
        else:
            self.run(work)
            known.expires_at = moment

    @rule(box=boxes)
    def delete(self, box: str) -> None:
        """Possible once."""
        work = self.house.services.sandboxes.delete(box)
        if box in self.model:
            self.run(work)
            del self.model[box]
        else:
            self.expect(NotFound, work)

    @rule(box=boxes)
    def die(self, box: str) -> None:
        """Its main process exits with an error."""
        if box in self.model:
            there = self.runtime.sandboxes[box]
            dead = replace(there, status=SandboxStatus(SandboxState.FAILED, "CONTAINER_EXITED_ERROR"))
            self.happen(lambda: self.runtime.appear(dead))
            self.model[box].state = SandboxState.FAILED

    @rule(box=boxes)
    def vanish(self, box: str) -> None:
        """Somebody removes it behind the server's back."""
        if self.model.pop(box, None) is not None:
            self.happen(lambda: self.runtime.vanish(box))

    @rule()
    def crash(self) -> None:
        """The server stops and another starts on the same store."""
        self.run(self.stack.aclose())
        self.run(self._open())

    @rule()
    def outage(self) -> None:
        """The event stream breaks and comes back."""
        self.happen(self.runtime.lose)
        self.happen(self.runtime.sync)

    @rule(seconds=st.integers(1, 1000))
    def time_passes(self, seconds: int) -> None:
        """What is due ends."""
        self.clock.move(seconds)

        async def expire() -> None:
            await asyncio.gather(*self.house.services.expiry.check())
            await until(lambda: not self.overdue())

        self.run(expire())
        now = self.clock()
        self.model = {
            box: known for box, known in self.model.items() if known.expires_at is None or known.expires_at > now
        }

    def overdue(self) -> list[str]:
        """What is still shown although its time is over."""
        inventory, now = self.house.services.inventory, self.clock()
        shown = [box.id for box in inventory.newest_first()]
        return [box for box in shown if (when := inventory.deadline(box)) is not None and when <= now]

    def expect(self, kind: type[Exception], work: Coroutine[Any, Any, Any]) -> None:
        """The work is refused."""
        self.run(self.refused(kind, work))

    async def refused(self, kind: type[Exception], work: Coroutine[Any, Any, Any]) -> None:
        """The same on the loop."""
        try:
            await work
        except kind:
            return
        raise AssertionError(f"{kind.__name__} was expected")

    def operate(self, box: str, before: SandboxState, after: SandboxState, work: Coroutine[Any, Any, None]) -> None:
        """An operation that needs one state and leads to another."""
        known = self.model.get(box)
        if known is None:
            self.expect(NotFound, work)
        elif known.state is not before:
            self.expect(Conflict, work)
        else:
            self.run(work)
            known.state = after

    @invariant()
    def everybody_agrees(self) -> None:
        """Callers, runtime and gateway see what the model says."""
        if not hasattr(self, "house"):
            return
        page = self.run(self.house.services.sandboxes.list(SandboxFilter(), Paging(1, 200)))
        shown = {box.id: Known(box.status.state, box.expires_at, dict(box.metadata)) for box in page.items if box.uid}
        assert shown == self.model
        assert {
            snapshot.id for snapshot in self.house.services.snapshots.list(SnapshotFilter(), Paging(1, 200)).items
        } == self.kept
        assert len(self.house.services.sandboxes._locks) == 0
        assert set(self.runtime.sandboxes) == set(self.model)
        routes = {route.id.decode(): route.state for route in self.house.table}
        assert routes == {box: ROUTED[known.state] for box, known in self.model.items()}


async def _operation(sandboxes: Sandboxes, name: str, box: str) -> None:
    if name == "patch":
        await sandboxes.patch_metadata(box, {"at": "once"})
    else:
        await getattr(sandboxes, name)(box)


class LifeOnDisk(Life):
    """The same with the records in a file, as beside Docker."""

    @staticmethod
    def open_records(directory: Path) -> Records:
        """A store in the directory."""
        return Store(directory / "gateway.db")


PLAN = settings(
    max_examples=80,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestLife = pytest.mark.timeout(120)(Life.TestCase)
TestLife.settings = PLAN
TestLifeOnDisk = pytest.mark.timeout(120)(LifeOnDisk.TestCase)
TestLifeOnDisk.settings = settings(PLAN, max_examples=20)
