"""What only a live container shows: a failing health check, memory that ran out, a sidecar that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import docker
import pytest

from manager.domain.sandbox import NetworkPolicy, Sandbox, SandboxSpec, SandboxState
from manager.runtime.base import Appeared
from manager.runtime.docker.runtime import DockerRuntime
from tests.docker.harness import Events
from tests.docker.test_egress import egress_image, made, policed

pytestmark = pytest.mark.timeout(60)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
SICK = "/tmp/sick"
HEALTHCHECK = f"HEALTHCHECK --interval=200ms --timeout=10s --retries=1 CMD test ! -e {SICK}"
SMALL = {"memory": "24Mi"}
STARVED = "memory limit was reached"
GLUTTON = "python3 -c 'x = bytearray(200 << 20)'"

__all__ = ["egress_image", "made", "policed"]


@pytest.fixture(scope="module")
def checked_image(engine: docker.APIClient, images: tuple[str, str], instance: str) -> Iterator[str]:
    """The test image with a health check that a file makes fail."""
    name = f"{instance}-checked:1"
    base = engine.create_container(images[0], "true")["Id"]
    engine.commit(base, repository=name.partition(":")[0], tag="1", changes=[HEALTHCHECK])
    engine.remove_container(base)
    yield name
    engine.remove_image(name, force=True)


async def told(runtime: DockerRuntime, sandbox_id: str, reason: str, words: str = "") -> Sandbox:
    """The sandbox as told when its status first gave this reason in these words."""
    events: Events = runtime.events  # type: ignore[attr-defined]

    def reached(event: object) -> Sandbox | None:
        if not isinstance(event, Appeared) or event.sandbox.id != sandbox_id:
            return None
        status = event.sandbox.status
        return event.sandbox if status.reason == reason and words in str(status.message) else None

    return await events.until(reached)


def run(engine: docker.APIClient, sandbox: Sandbox, *command: str) -> None:
    """Runs a command inside."""
    engine.exec_start(engine.exec_create(f"sandbox-{sandbox.id}", list(command))["Id"])


async def test_a_failing_health_check(
    runtime: DockerRuntime, spec: Spec, engine: docker.APIClient, checked_image: str
) -> None:
    """The sandbox runs on and its status says so, with the reason; well again, it says nothing of it."""
    made = await runtime.create(spec(image=checked_image), print)
    run(engine, made, "touch", SICK)
    sick = await told(runtime, made.id, "CONTAINER_UNHEALTHY")
    assert sick.status.state is SandboxState.RUNNING
    assert "health check fails" in str(sick.status.message)
    runtime.events.all.clear()  # type: ignore[attr-defined]
    run(engine, made, "rm", SICK)
    assert (await told(runtime, made.id, "CONTAINER_RUNNING")).status.state is SandboxState.RUNNING


async def test_the_main_process_runs_out_of_memory(runtime: DockerRuntime, spec: Spec) -> None:
    """Failed, and the reason is the memory, not just an exit code."""
    made = await runtime.create(spec(entrypoint=("sh", "-c", f"exec {GLUTTON}"), resource_limits=SMALL), print)
    ended = await told(runtime, made.id, "CONTAINER_OOM_KILLED")
    assert ended.status.state is SandboxState.FAILED
    assert "out of memory (exit code 137)" in str(ended.status.message)


async def test_a_process_inside_runs_out_of_memory(runtime: DockerRuntime, spec: Spec) -> None:
    """The sandbox survives; get and list say what happened inside, as long as it runs."""
    made = await runtime.create(spec(entrypoint=("sh", "-c", f"{GLUTTON}; sleep 600"), resource_limits=SMALL), print)
    await told(runtime, made.id, "CONTAINER_RUNNING", STARVED)
    for seen in (await runtime.get(made.id), *await runtime.list()):
        assert seen is not None
        assert seen.status.state is SandboxState.RUNNING
        assert STARVED in str(seen.status.message)


async def test_an_orderly_end_after_a_process_inside_ran_out_of_memory(runtime: DockerRuntime, spec: Spec) -> None:
    """Exit code 0 is a good end, whatever happened to others before."""
    asked = spec(entrypoint=("sh", "-c", f"{GLUTTON}; exit 0"), resource_limits=SMALL)
    made = await runtime.create(asked, print)
    assert (await told(runtime, made.id, "CONTAINER_EXITED")).status.state is SandboxState.TERMINATED


@pytest.mark.parametrize(("removed", "fate"), [(False, "ended with code"), (True, "was removed")])
async def test_a_sidecar_that_is_gone(
    policed: DockerRuntime, spec: Spec, engine: docker.APIClient, removed: bool, fate: str
) -> None:
    """The sandbox has lost its network for good: its status says so at once, and it can be deleted."""
    made = await policed.create(spec(network_policy=NetworkPolicy("allow")), print)
    engine.kill(f"sandbox-egress-{made.id}")
    if removed:
        engine.remove_container(f"sandbox-egress-{made.id}", force=True)
    lost = await told(policed, made.id, "EGRESS_SIDECAR_STOPPED", fate)
    assert lost.status.state is SandboxState.RUNNING
    assert (lost.addresses.dial_host, lost.addresses.published) == (None, {})
    assert await policed.delete(made.id)


async def test_a_sidecar_that_was_started_again(policed: DockerRuntime, spec: Spec, engine: docker.APIClient) -> None:
    """It has a new network namespace, and the sandbox is left in the old one, which leads nowhere."""
    made = await policed.create(spec(network_policy=NetworkPolicy("allow")), print)
    await asyncio.to_thread(engine.restart, f"sandbox-egress-{made.id}", timeout=1)
    lost = await told(policed, made.id, "EGRESS_SIDECAR_STOPPED", "was started again")
    assert lost.status.state is SandboxState.RUNNING
    assert await policed.delete(made.id)
