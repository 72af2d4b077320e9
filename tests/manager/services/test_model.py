"""The life of sandboxes against a model: random operations, restarts, deaths and time, and after each step all agree.

What callers are shown, what the runtime has and what the gateway routes must be what a dict of states says.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from gateway.table import RouteState
from manager.domain.errors import Conflict, Failed, Invalid, NotFound
from manager.domain.sandbox import SandboxState, SandboxStatus
from manager.services.filters import Paging, SandboxFilter
from tests.manager.fake_runtime import FakeRuntime
from tests.manager.harness import House, MovedClock, open_house, until, wish

T = TypeVar("T")

TIMEOUT = 600
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


class Life(RuleBasedStateMachine):
    """Sandboxes, operated at random."""

    boxes = Bundle("boxes")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.clock, self.runtime = MovedClock(), FakeRuntime()
        self.model: dict[str, Known] = {}
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
        opened = open_house(Path(self.directory.name), self.runtime, self.clock)
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
        try:
            self.run(work)
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
        shown = {box.id: (box.status.state, box.expires_at) for box in page.items if box.uid}
        assert shown == {box: (known.state, known.expires_at) for box, known in self.model.items()}
        assert set(self.runtime.sandboxes) == set(self.model)
        routes = {route.id.decode(): route.state for route in self.house.table}
        assert routes == {box: ROUTED[known.state] for box, known in self.model.items()}


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
