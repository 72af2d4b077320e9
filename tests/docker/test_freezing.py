"""A freeze that the kernel does not finish in time is tried again, which no Engine can be made to need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from manager.domain import errors
from manager.runtime.docker.codes import ENGINE_ERROR, SANDBOX_PAUSE_FAILED
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.pause import FREEZE_TRIES, Freezer

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


@dataclass(slots=True)
class LateEngine:
    """An Engine that has not noticed yet that a sidecar is dead: its kill returns before, on a busy host."""

    thawed: list[str]

    async def inspect_container(self, ref: str) -> dict[str, object]:
        """Says of the sidecar that it runs, or is frozen as the sandbox is."""
        return {"State": {"Running": True, "Paused": "frozen" in ref}}

    async def pause(self, ref: str) -> None:
        """Finds out."""
        if ref != RUNNING["Id"]:
            raise errors.Conflict(ENGINE_ERROR, f"Container {ref} is not running")

    async def unpause(self, ref: str) -> None:
        """Finds out, too."""
        await self.pause(ref)
        self.thawed.append(ref)


@pytest.mark.parametrize(("doing", "state"), [("pause", "running"), ("resume", "paused")])
async def test_a_refusal_about_the_sidecar_names_it(doing: str, state: str) -> None:
    """The Engine's words name a container that the caller knows nothing of; the sandbox is as it was before."""
    engine = LateEngine([])
    labels = {"opensandbox.io/egress-auth-token": "t"}
    mode = {"NetworkMode": f"container:{'frozen' if doing == 'resume' else 'running'}"}
    seen = {**RUNNING["State"], "Status": state, "Paused": state == "paused"}  # type: ignore[dict-item]
    details = {**RUNNING, "HostConfig": mode, "State": seen, "Config": {"Labels": labels}}
    with pytest.raises(errors.Failed, match=f"Failed to {doing} sandbox a: its egress sidecar: .* is not running"):
        await getattr(Freezer(cast(Calls, engine)), doing)("a", details)
    assert engine.thawed == ([RUNNING["Id"]] if doing == "pause" else [])


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
    assert (raised.value.code, host.asked) == (SANDBOX_PAUSE_FAILED, FREEZE_TRIES)
