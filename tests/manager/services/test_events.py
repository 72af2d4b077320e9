"""The lasting record of changes: each with its cause and who asked, one line in the log, and bounded."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from manager.domain.errors import Failed
from manager.domain.events import Cause, LifecycleEvent, Origin
from manager.domain.sandbox import SandboxState, SandboxStatus
from manager.services.origin import originating
from tests.manager.fake_runtime import FakeRuntime, running
from tests.manager.harness import House, open_house, until, wish

BY_ANN = Origin(Cause.API, "ann", "request-1")


async def told(house: House, after: int = 0) -> list[LifecycleEvent]:
    return await house.services.events.since(after, 1000)


def short(events: list[LifecycleEvent]) -> list[tuple[str, str, str]]:
    return [(str(event.before or "-"), str(event.after or "-"), event.cause.value) for event in events]


async def test_a_life_asked_for(house: House) -> None:
    """Create, pause, resume, renew and delete: each change once, with the key and the request."""
    with originating(BY_ANN):
        box = await house.services.creation.create(wish())
        await house.services.sandboxes.pause(box.id)
        await house.services.sandboxes.resume(box.id)
        assert box.expires_at is not None
        await house.services.sandboxes.renew(box.id, box.expires_at.replace(year=2030))
        await house.services.sandboxes.delete(box.id)
    events = await told(house)
    assert short(events) == [
        ("-", "Pending", "api"),
        ("Pending", "Running", "api"),
        ("Running", "Pausing", "api"),
        ("Pausing", "Paused", "api"),
        ("Paused", "Resuming", "api"),
        ("Resuming", "Running", "api"),
        ("Running", "Running", "renewed"),
        ("Running", "Stopping", "api"),
        ("Stopping", "-", "api"),
    ]
    assert {(event.actor, event.request_id) for event in events} == {("ann", "request-1")}
    assert [event.id for event in events] == list(range(1, 10))


@pytest.mark.parametrize(
    ("state", "reason", "message", "cause"),
    [
        (SandboxState.FAILED, "CONTAINER_OOM_KILLED", "It ran out of memory (exit code 137).", "out-of-memory"),
        (SandboxState.FAILED, "CONTAINER_EXITED_ERROR", "It exited with code 3.", "exited"),
        (SandboxState.TERMINATED, "CONTAINER_EXITED", "It exited successfully.", "exited"),
    ],
)
async def test_a_death_has_its_cause(
    house: House, caplog: pytest.LogCaptureFixture, state: SandboxState, reason: str, message: str, cause: str
) -> None:
    """However often the runtime tells of it; one line in the log."""
    caplog.set_level(logging.INFO, "manager.services.events")
    house.runtime.appear(running("box"))
    dead = replace(running("box"), status=SandboxStatus(state, reason, message))
    house.runtime.appear(dead)
    house.runtime.appear(replace(dead, uid="again"))
    (event,) = await told(house)
    assert (short([event]), event.message) == ([("Running", state.value, cause)], message)
    assert caplog.messages == [f"sandbox box: Running to {state.value}, {cause}: {message}"]


async def test_a_removal_outside_says_so(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Seen as it happens, or found missing when the runtime answers again."""
    for name in ("seen", "missed"):
        house.runtime.appear(running(name))
    house.runtime.vanish("seen")
    house.runtime.lose()
    del house.runtime.sandboxes["missed"]
    house.runtime.sync()
    await until(lambda: house.services.events.last == 2)
    events = await told(house)
    assert short(events) == [("Running", "-", "removed-outside")] * 2
    assert [event.sandbox_id for event in events] == ["seen", "missed"]


async def test_the_end_of_a_lifetime(house: House) -> None:
    """Nobody asked for it."""
    box = await house.services.creation.create(wish(timeout=60))
    seen = house.services.events.last
    house.clock.move(61)
    for work in house.services.expiry.check():
        await work
    events = await told(house, seen)
    assert short(events) == [("Running", "Stopping", "expiry"), ("Stopping", "-", "expiry")]
    assert {(event.sandbox_id, event.actor) for event in events} == {(box.id, "")}


async def test_a_create_that_fails(house: House) -> None:
    """With what the caller was answered."""
    house.runtime.fail("create", Failed("DOCKER::X", "no such image"))
    with originating(BY_ANN), pytest.raises(Failed):
        await house.services.creation.create(wish())
    event = (await told(house))[-1]
    assert (short([event]), event.message, event.actor) == (
        [("Pending", "Failed", "failed-create")],
        "no such image",
        "ann",
    )


async def test_what_the_runtime_does_by_itself(house: House) -> None:
    """A pause by the Engine's own command is nobody's here; what is found at the start is no change."""
    house.runtime.appear(running("box"))
    house.runtime.appear(running("box", state="Paused"))
    assert short(await told(house)) == [("Running", "Paused", "runtime")]


async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    """For all and for each owner; what has happened is still there."""
    runtime = FakeRuntime()
    async with open_house(tmp_path, runtime) as house:
        await house.services.creation.create(wish(), caller="ann")
    async with open_house(tmp_path, runtime) as house:
        await house.services.creation.create(wish(), caller="bob")
        await house.services.creation.create(wish(), caller="ann")
        events = await told(house)
    assert [(event.id, event.owner, event.own) for event in events] == [
        (1, "ann", 1),
        (2, "ann", 2),
        (3, "bob", 1),
        (4, "bob", 2),
        (5, "ann", 3),
        (6, "ann", 4),
    ]


async def test_old_events_are_dropped(tmp_path: Path) -> None:
    """By age and by number, at the next start at the latest."""
    async with open_house(tmp_path, events={"keep_events": 3}) as house:
        for _ in range(3):
            await house.services.creation.create(wish())
    async with open_house(tmp_path, house.runtime, events={"keep_events": 3}) as again:
        assert [event.id for event in await told(again)] == [4, 5, 6]
        assert [await again.services.events.knows(number) for number in (2, 3, 6, 7)] == [False, True, True, False]
    house.clock.move(8 * 86400)
    async with open_house(tmp_path, house.runtime, house.clock) as later:
        assert (await told(later))[0].id == 6
