"""Real gVisor: create, traffic, pause and delete, on an Engine of our own that knows runsc."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from manager.domain import errors
from manager.domain.sandbox import EXECD_PORT, SandboxSpec, SandboxState
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.model import Settings
from tests.docker.harness import Events, http_get, make_settings
from tests.docker.own_engine import OwnEngine

pytestmark = pytest.mark.timeout(120)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
RUNSC = {"runsc": {"path": shutil.which("runsc"), "runtimeArgs": ["--network=host"]}}


@pytest.fixture(scope="module")
def gvisor() -> Iterator[OwnEngine]:
    """An Engine that knows gVisor under its usual name."""
    if not OwnEngine.possible() or RUNSC["runsc"]["path"] is None:
        pytest.skip("needs root, dockerd and runsc")
    engine = OwnEngine(runtimes=RUNSC)
    engine.start()
    engine.build_images()
    yield engine
    engine.close()


@pytest.fixture
def opt_in(gvisor: OwnEngine, images: tuple[str, str], instance: str, tmp_path: Path) -> Settings:
    """The documentation's spelling: configured, and used by requests that ask for it."""
    secure = {"type": "gvisor", "oci_runtime_name": "runsc"}
    return make_settings(images[1], instance, tmp_path, docker={"host": gvisor.url}, secure_runtime=secure)


async def kernel(host: str) -> str:
    """What /proc/version says inside."""
    await http_get((host, EXECD_PORT), "/ping")
    url = f"http://{host}:{EXECD_PORT}/command"
    async with aiohttp.ClientSession() as session, session.post(url, json={"argv": ["cat", "/proc/version"]}) as told:
        return await told.text()


async def test_a_sandbox_on_another_kernel(started: Started, opt_in: Settings, spec: Spec) -> None:
    """secureRuntime puts it on gVisor's kernel, and it lives as any other."""
    runtime, events = await started(opt_in)
    made = await runtime.create(spec(secure_runtime=True), print)
    assert "Linux version 4.4.0" in await kernel(str(made.addresses.dial_host))
    await runtime.pause(made.id)
    await events.state(made.id, SandboxState.PAUSED)
    await runtime.resume(made.id)
    await events.state(made.id, SandboxState.RUNNING)
    assert await runtime.delete(made.id)


async def test_others_stay_on_the_hosts_kernel(started: Started, opt_in: Settings, spec: Spec) -> None:
    """Opt-in means that."""
    runtime, _ = await started(opt_in)
    made = await runtime.create(spec(), print)
    assert "Linux version 4.4.0" not in await kernel(str(made.addresses.dial_host))
    await runtime.delete(made.id)


async def test_a_runtime_that_the_engine_does_not_know(
    started: Started, gvisor: OwnEngine, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec
) -> None:
    """Said when the Engine first answers, and refused clearly."""
    secure = {"type": "kata-qemu", "oci_runtime_name": "kata-none"}
    settings = make_settings(images[1], instance, tmp_path, docker={"host": gvisor.url}, secure_runtime=secure)
    runtime, _ = await started(settings)
    assert "kata-none" in str(runtime.degraded())
    with pytest.raises(errors.Unavailable) as raised:
        await runtime.create(spec(secure_runtime=True), print)
    assert "kata-none" in raised.value.message
