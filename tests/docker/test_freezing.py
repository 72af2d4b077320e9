"""A freeze that the kernel does not finish in time is tried again, which no Engine can be made to need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from manager.domain import errors
from manager.runtime.docker.calls import Calls
from manager.runtime.docker.freezing import FREEZE_TRIES, PAUSE_FAILED, Freezer

RUNNING = {
    "Id": "c0ffee",
    "State": {"Status": "running", "Running": True, "StartedAt": "2026-01-01T00:00:00Z"},
    "HostConfig": {"NetworkMode": "bridge"},
    "Config": {"Labels": {}},
}
SAID = "OCI runtime pause failed: unable to freeze: unknown"


@dataclass(slots=True)
class BusyHost:
    """An Engine whose runtime gives up some times."""

    refusals: int
    asked: int = 0

    async def pause(self, ref: str) -> None:
        """Freezes a container in the end."""
        self.asked += 1
        if self.asked <= self.refusals:
            raise errors.Failed("", SAID)


@pytest.mark.parametrize("refusals", range(FREEZE_TRIES))
async def test_a_freeze_is_tried_again(refusals: int) -> None:
    """As often as it takes, and no more than that."""
    host = BusyHost(refusals)
    await Freezer(cast(Calls, host)).pause("a", RUNNING)
    assert host.asked == refusals + 1


async def test_a_freeze_that_never_comes_is_told() -> None:
    """The last try's words are the answer's."""
    host = BusyHost(FREEZE_TRIES)
    with pytest.raises(errors.Failed, match=SAID) as raised:
        await Freezer(cast(Calls, host)).pause("a", RUNNING)
    assert (raised.value.code, host.asked) == (PAUSE_FAILED, FREEZE_TRIES)
