"""What the log says of sandboxes that end without anybody having asked this server."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from manager.domain.sandbox import SandboxState, SandboxStatus
from tests.manager.fake_runtime import running
from tests.manager.harness import House, until, wish

LOGGER = "manager.services.endings"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (SandboxState.FAILED, "Sandbox container ran out of memory (exit code 137)."),
        (SandboxState.FAILED, "Sandbox container exited with code 3."),
        (SandboxState.TERMINATED, "Sandbox container exited successfully."),
    ],
)
async def test_a_death_is_one_line_with_its_cause(
    house: House, caplog: pytest.LogCaptureFixture, state: SandboxState, message: str
) -> None:
    """However often the runtime tells of it."""
    caplog.set_level(logging.INFO, LOGGER)
    house.runtime.appear(running("box"))
    dead = replace(running("box"), status=SandboxStatus(state, "CONTAINER_EXITED", message))
    house.runtime.appear(dead)
    house.runtime.appear(replace(dead, uid="again"))
    assert lines(caplog) == [f"sandbox box has ended without a request to this server: {message}"]


async def test_a_removal_outside_is_one_line(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Seen as it happens, or found missing when the runtime answers again."""
    caplog.set_level(logging.INFO, LOGGER)
    for name in ("seen", "missed"):
        house.runtime.appear(running(name))
    house.runtime.vanish("seen")
    house.runtime.lose()
    del house.runtime.sandboxes["missed"]
    house.runtime.sync()
    await until(lambda: len(lines(caplog)) == 2)
    told = [f"sandbox {name} is gone: its container was removed outside of this server" for name in ("seen", "missed")]
    assert lines(caplog) == told


async def test_what_was_asked_for_is_none(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a deletion nor the end of a lifetime, nor what was dead when the server started."""
    caplog.set_level(logging.INFO, LOGGER)
    made = [await house.services.creation.create(wish(timeout=60)) for _ in range(2)]
    await house.services.sandboxes.delete(made[0].id)
    house.clock.move(61)
    for work in house.services.expiry.check():
        await work
    house.runtime.appear(running("old", state="Failed"))
    assert lines(caplog) == []
