"""The table of a sandbox's states as callers meet it: what it lacks is a conflict, and nothing happens."""

from __future__ import annotations

import itertools

import pytest

from manager.domain.errors import Conflict
from manager.domain.lifecycle import MOVES, Event
from manager.domain.sandbox import SandboxState
from manager.services.filters import Paging
from manager.services.snapshots import SnapshotFilter
from tests.manager.fake_runtime import running
from tests.manager.harness import House, until

BOX = "box"


async def operate(house: House, event: Event) -> None:
    """The operation that begins with this event."""
    if event is Event.SNAPSHOT:
        await house.services.snapshots.create(BOX, None)
    else:
        await getattr(house.services.sandboxes, event.value)(BOX)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(SandboxState, Event)))
async def test_operations_follow_the_table(house: House, state: SandboxState, event: Event) -> None:
    """Whatever state the runtime reports, each operation is carried out or refused as the table says."""
    house.runtime.appear(running(BOX, state=state.value))
    if (state, event) in MOVES:
        await operate(house, event)
        await until(lambda: house.runtime.calls[event.value] == 1)
    else:
        with pytest.raises(Conflict, match=state.value):
            await operate(house, event)
        assert house.runtime.calls[event.value] == 0
        assert (await house.services.sandboxes.get(BOX)).status.state is state
        assert list(house.services.snapshots.list(SnapshotFilter(), Paging()).items) == []
