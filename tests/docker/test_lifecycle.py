"""A sandbox's life on a real Engine: create, look, pause, resume, delete, and what is told meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import docker
import pytest

from manager.domain import errors
from manager.domain.sandbox import EXECD_PORT, Sandbox, SandboxSpec, SandboxState
from manager.runtime.base import Departure, LogQuery
from manager.runtime.docker.runtime import DockerRuntime
from tests.docker.harness import Events, eventually, http_get

pytestmark = pytest.mark.timeout(60)
Spec = Callable[..., SandboxSpec]


async def test_a_created_sandbox_runs_and_its_execd_answers(sandbox: Sandbox) -> None:
    """Create returns a running sandbox whose address leads to execd."""
    assert sandbox.status.state is SandboxState.RUNNING
    assert sandbox.addresses.dial_host is not None
    status, _ = await http_get((sandbox.addresses.dial_host, EXECD_PORT), "/ping")
    assert status == 200


async def test_what_was_asked_for_comes_back(runtime: DockerRuntime, spec: Spec) -> None:
    """Get and list show metadata, extensions, times, image and entrypoint exactly as given."""
    asked = spec(metadata={"team": "x", "opensandbox": ""}, extensions={"a.b": "c"}, entrypoint=("sleep 600",))
    await runtime.create(asked, print)
    for found in (await runtime.get(asked.id), *await runtime.list()):
        assert found is not None
        assert (found.metadata, found.extensions) == (asked.metadata, asked.extensions)
        assert (found.created_at, found.expires_at) == (asked.created_at, asked.expires_at)
        assert (found.image, found.entrypoint) == (asked.image, ("sleep", "600"))


async def test_image_labels_do_not_leak(runtime: DockerRuntime, sandbox: Sandbox) -> None:
    """The test image carries a label; the sandbox's metadata does not."""
    found = await runtime.get(sandbox.id)
    assert found is not None
    assert found.metadata == {}


async def test_pause_and_resume_keep_the_lifecycle_uid(runtime: DockerRuntime, sandbox: Sandbox) -> None:
    """A paused sandbox is the same one: connections may be kept, the uid says so."""
    await runtime.pause(sandbox.id)
    paused = await runtime.get(sandbox.id)
    await runtime.resume(sandbox.id)
    resumed = await runtime.get(sandbox.id)
    assert paused is not None
    assert resumed is not None
    assert paused.status.state is SandboxState.PAUSED
    assert resumed.status.state is SandboxState.RUNNING
    assert paused.uid == resumed.uid == sandbox.uid


async def test_a_restarted_container_has_another_uid(
    runtime: DockerRuntime, sandbox: Sandbox, engine: docker.APIClient
) -> None:
    """What stands behind the address changed, so the uid does."""
    await asyncio.to_thread(engine.restart, f"sandbox-{sandbox.id}", 0)
    found = await runtime.get(sandbox.id)
    assert found is not None
    assert found.uid != sandbox.uid


async def test_pause_and_resume_refuse_the_wrong_state(runtime: DockerRuntime, sandbox: Sandbox) -> None:
    """Resume of a running and pause of a paused sandbox are conflicts with codes of their own."""
    with pytest.raises(errors.Conflict) as raised:
        await runtime.resume(sandbox.id)
    assert raised.value.code == "DOCKER::SANDBOX_NOT_PAUSED"
    await runtime.pause(sandbox.id)
    with pytest.raises(errors.Conflict) as raised:
        await runtime.pause(sandbox.id)
    assert raised.value.code == "DOCKER::SANDBOX_NOT_RUNNING"


async def test_delete_removes_it_once(runtime: DockerRuntime, sandbox: Sandbox) -> None:
    """The first delete finds it, the second does not, and its departure is told as ours."""
    assert await runtime.delete(sandbox.id)
    assert not await runtime.delete(sandbox.id)
    assert await runtime.get(sandbox.id) is None
    events: Events = runtime.events  # type: ignore[attr-defined]
    assert (await events.gone(sandbox.id)).reason is Departure.DELETED


async def test_a_container_removed_behind_our_back_is_told(
    runtime: DockerRuntime, sandbox: Sandbox, engine: docker.APIClient
) -> None:
    """Somebody else's `docker rm` arrives as a departure within moments."""
    await asyncio.to_thread(engine.remove_container, f"sandbox-{sandbox.id}", force=True)
    events: Events = runtime.events  # type: ignore[attr-defined]
    assert (await events.gone(sandbox.id)).reason is Departure.VANISHED


async def test_a_sandbox_that_dies_at_once_is_told_with_its_exit_code(runtime: DockerRuntime, spec: Spec) -> None:
    """An entrypoint that fails ends in Failed with the code in the message."""
    made = await runtime.create(spec(entrypoint=("sh", "-c", "exit 7")), print)
    events: Events = runtime.events  # type: ignore[attr-defined]
    ended = await events.state(made.id, SandboxState.FAILED)
    assert ended.status.message == "Sandbox container exited with code 7."
    assert ended.addresses.dial_host is None


async def test_an_entrypoint_that_ends_well_is_terminated(runtime: DockerRuntime, spec: Spec) -> None:
    """Exit code 0 is no failure."""
    made = await runtime.create(spec(entrypoint=("true",)), print)
    events: Events = runtime.events  # type: ignore[attr-defined]
    assert (await events.state(made.id, SandboxState.TERMINATED)).status.reason == "CONTAINER_EXITED"


async def test_an_unknown_sandbox_is_not_found(runtime: DockerRuntime) -> None:
    """Get is None, delete is False, the rest is NotFound."""
    unknown = "11111111-2222-3333-4444-555555555555"
    assert await runtime.get(unknown) is None
    assert not await runtime.delete(unknown)
    for call in (runtime.pause, runtime.resume):
        with pytest.raises(errors.NotFound):
            await call(unknown)


async def test_logs_come_in_order_with_timestamps(runtime: DockerRuntime, spec: Spec) -> None:
    """The last lines, each with the time the Engine got it."""
    made = await runtime.create(spec(entrypoint=("sh", "-c", "echo one; echo two; echo three; sleep 600")), print)
    lines: list[bytes] = []
    while not (lines and lines[-1].endswith(b"three")):  # of the first two alone the last two are these
        lines = b"".join([chunk async for chunk in await runtime.logs(made.id, LogQuery(tail=2))]).splitlines()
    assert [line.partition(b" ")[2] for line in lines] == [b"two", b"three"]
    assert all(line.startswith(b"20") for line in lines)


async def test_followed_logs_end_when_nobody_reads(runtime: DockerRuntime, spec: Spec) -> None:
    """Closing the output closes the stream and frees its thread."""
    made = await runtime.create(spec(entrypoint=("sh", "-c", "echo one; sleep 600")), print)
    lane = next(workers for workers in runtime._engine._workers.values() if workers.name == "stream")
    await eventually(lambda: lane.busy == 2)  # events of containers, and of networks
    stream = await runtime.logs(made.id, LogQuery(follow=True))
    assert b"one" in await anext(stream)
    assert lane.busy == 3
    stream.close()
    await eventually(lambda: lane.busy == 2)


@pytest.mark.defect(13)
async def test_inspect_hides_secrets(runtime: DockerRuntime, spec: Spec) -> None:
    """Neither a token in the environment nor the access token appears anywhere."""
    made = await runtime.create(spec(env={"API_TOKEN": "hush-1", "PLAIN": "seen"}, secure_token="hush-2"), print)
    shown = str(await runtime.inspect(made.id))
    assert "PLAIN=seen" in shown
    assert "hush" not in shown


@pytest.mark.defect(11)
async def test_list_asks_the_engine_once(runtime: DockerRuntime, spec: Spec) -> None:
    """A list of sandboxes that have not changed is one call, however many there are."""
    await asyncio.gather(*(runtime.create(spec(), print) for _ in range(3)))
    await runtime.list()
    counted: list[str] = []
    call = runtime._engine.call

    async def counting(work: object, *lane: object) -> object:
        counted.append("call")
        return await call(work, *lane)  # type: ignore[arg-type]

    runtime._engine.call = counting  # type: ignore[method-assign, assignment]
    assert len(await runtime.list()) == 3
    assert len(counted) == 1
