"""Real gVisor: create, traffic, pause and delete, on an Engine of our own that knows runsc."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from manager.domain import errors
from manager.domain.sandbox import EXECD_PORT, SandboxSpec, SandboxState
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.model import Settings
from tests.docker.harness import Events, eventually, http_get, make_settings
from tests.docker.own_engine import OwnEngine
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

pytestmark = pytest.mark.timeout(120)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
DEADLINE = 30.0
GVISORS_KERNEL = "Linux version 4.4.0"
PAGE_PORT = 8000
SERVE_VERSION = ["sh", "-c", f"cat /proc/version > /tmp/version && cd /tmp && exec python3 -m http.server {PAGE_PORT}"]
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
    assert GVISORS_KERNEL in await kernel(str(made.addresses.dial_host))
    await runtime.pause(made.id)
    await events.state(made.id, SandboxState.PAUSED)
    await runtime.resume(made.id)
    await events.state(made.id, SandboxState.RUNNING)
    assert await runtime.delete(made.id)


def processes_of(container_id: str) -> list[str]:
    """Command lines of this machine that name the container."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if container_id in line]


async def test_a_paused_sandbox_on_another_kernel_is_deleted_at_once_and_whole(
    started: Started, opt_in: Settings, spec: Spec
) -> None:
    """Its kernel takes no signal while it is frozen; what would stay are the processes that carry it."""
    runtime, _ = await started(opt_in)
    made = await runtime.create(spec(secure_runtime=True), print)
    details = await runtime._calls.inspect_container(f"sandbox-{made.id}")
    assert details is not None
    assert processes_of(details["Id"])
    await runtime.pause(made.id)
    assert await runtime.delete(made.id)
    await eventually(lambda: not processes_of(details["Id"]))


async def test_others_stay_on_the_hosts_kernel(started: Started, opt_in: Settings, spec: Spec) -> None:
    """Opt-in means that."""
    runtime, _ = await started(opt_in)
    made = await runtime.create(spec(), print)
    assert GVISORS_KERNEL not in await kernel(str(made.addresses.dial_host))
    await runtime.delete(made.id)


@pytest.fixture
def server(gvisor: OwnEngine, images: tuple[str, str], tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts `opensandbox-server` in gateway mode with these keys of `[secure_runtime]`."""
    servers: list[ServerProcess] = []

    def start(**secure: str) -> ServerProcess:
        tables = {
            "docker": {"host": gvisor.url},
            "ingress": {"mode": "gateway"},
            "ingress.gateway": {"address": "127.0.0.1:8080"},
            "ingress.gateway.route": {"mode": "header"},
            "secure_runtime": {"type": "gvisor", **secure},
        }
        servers.append(ServerProcess(tmp_path, tables))
        return servers[-1].start(ready=False)

    yield start
    for server in servers:
        server.delete_all()
        server.stop()


def through_the_gateway(server: ServerProcess, sandbox_id: str, **options: Any) -> tuple[int, Any]:
    """What a GET of the page that the sandbox serves is answered with."""
    return server.call("GET", "/version", headers={"OpenSandbox-Ingress-To": f"{sandbox_id}-{PAGE_PORT}"}, **options)


@pytest.mark.request_field("secureRuntime")
@pytest.mark.parametrize(
    ("spelling", "asked", "gvisors"),
    [("oci_runtime_name", True, True), ("oci_runtime_name", False, False), ("docker_runtime", False, True)],
)
def test_a_life_on_another_kernel(
    server: Callable[..., ServerProcess], spelling: str, asked: bool, gvisors: bool
) -> None:
    """Create, traffic through the gateway, pause, resume, delete; one spelling is opt-in, the other for everybody."""
    house = server(**{spelling: "runsc"})
    body = {"image": {"uri": SANDBOX_IMAGE}, "entrypoint": SERVE_VERSION, "timeout": 600, "resourceLimits": {}}
    status, made = house.call("POST", "/v1/sandboxes", {**body, **({"secureRuntime": True} if asked else {})})
    assert status == 202, made
    path = f"/v1/sandboxes/{made['id']}"
    wait_until(lambda: through_the_gateway(house, made["id"])[0] == 200, DEADLINE, "the first answer")
    assert (GVISORS_KERNEL in through_the_gateway(house, made["id"])[1]) is gvisors
    if gvisors:
        status, told = house.call("POST", f"{path}/snapshots")
        assert (status, told["code"]) == (409, "SNAPSHOT::UNSUPPORTED_RUNTIME")
    assert house.call("POST", f"{path}/pause")[0] == 202
    assert through_the_gateway(house, made["id"])[0] == 409
    assert house.call("POST", f"{path}/resume")[0] == 202
    assert through_the_gateway(house, made["id"])[0] == 200
    assert house.call("DELETE", path)[0] == 204
    assert through_the_gateway(house, made["id"])[0] == 410


@pytest.mark.parametrize("spelling", ["oci_runtime_name", "docker_runtime"])
def test_a_server_whose_engine_lacks_the_runtime(server: Callable[..., ServerProcess], spelling: str) -> None:
    """Not ready, with the name in the reason; a sandbox that would need it is refused, and nothing runs without it."""
    house = server(**{spelling: "no-such-runtime"})
    wait_until(lambda: "no-such-runtime" in str(house.call("GET", "/ready")[1]), DEADLINE, "the reason")
    body = {"image": {"uri": SANDBOX_IMAGE}, "entrypoint": SERVE_VERSION, "timeout": 600, "resourceLimits": {}}
    status, told = house.call("POST", "/v1/sandboxes", {**body, "secureRuntime": True})
    assert (status, told["code"]) == (503, "DOCKER::SANDBOX_START_FAILED")
    assert "no-such-runtime" in told["message"]


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
