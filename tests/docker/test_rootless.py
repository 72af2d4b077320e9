"""An Engine without root: sandboxes are made there as anywhere, and dialled at published ports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manager.doctor.engine import check_engine
from manager.doctor.findings import Verdict
from manager.domain import errors
from manager.domain.sandbox import (
    EXECD_PORT,
    HTTP_PORT,
    NamedVolume,
    NetworkPolicy,
    NetworkRule,
    Sandbox,
    SandboxSpec,
    SandboxState,
    VolumeMount,
)
from manager.runtime.docker.runtime import DockerRuntime
from manager.runtime.docker.status import LOOPBACK
from manager.settings.model import Settings
from tests.docker.harness import Events, http_get, make_settings
from tests.docker.rootless_engine import RootlessEngine
from tests.docker.test_networks import SERVE

pytestmark = pytest.mark.timeout(120)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
Made = Callable[..., Settings]
EGRESS_IMAGE = "opensandbox-test/egress:2"
DOCKER0 = "172.17.0.1"
"""The first bridge of every Engine, hence also an address of a machine with an Engine of root's."""


@pytest.fixture(scope="module")
def rootless() -> Iterator[RootlessEngine]:
    """An Engine of an ordinary user."""
    if not RootlessEngine.possible():
        pytest.skip("needs root, /dev/net/tun, rootlesskit, uidmap, slirp4netns and Debian's dockerd-rootless.sh")
    engine = RootlessEngine()
    engine.start()
    engine.build_images()
    yield engine
    engine.close()


@pytest.fixture
def made(rootless: RootlessEngine, images: tuple[str, str], instance: str, tmp_path: Path) -> Made:
    """Settings for that Engine with other tables."""

    def make(docker: dict[str, Any] | None = None, **tables: Any) -> Settings:
        docker = {"host": rootless.url, "inter_container": True, **(docker or {})}
        return make_settings(images[1], instance, tmp_path, docker=docker, **tables)

    return make


def execd(sandbox: Sandbox) -> tuple[str, int]:
    """Where execd is dialled."""
    return sandbox.addresses.published[EXECD_PORT]


@pytest.mark.parametrize("extensions", [{}, {"bootstrap.execd.isolation": "enable"}], ids=["volume", "archive"])
async def test_a_sandbox_without_root(
    started: Started, made: Made, spec: Spec, instance: str, extensions: dict[str, str]
) -> None:
    """Made, dialled on loopback and deleted; its address is not, though this machine may have one like its gateway."""
    runtime, events = await started(made(docker={"allow_isolation": True}))
    volume = VolumeMount("data", "/data", NamedVolume(f"{instance}-data", delete_on_termination=True))
    sandbox = await runtime.create(spec(volumes=(volume,), extensions=extensions), print)
    assert (sandbox.addresses.dial_host, execd(sandbox)[0]) == (None, LOOPBACK)
    assert (await http_get(execd(sandbox), "/ping"))[0] == 200
    assert await runtime.delete(sandbox.id)
    await events.gone(sandbox.id)


async def test_the_bridge_of_another_engine_is_not_taken_for_its_own(started: Started, made: Made, spec: Spec) -> None:
    """Both Engines have a bridge at the same address: what is dialled there would be a stranger's."""
    runtime, _ = await started(made())
    sandbox = await runtime.create(spec(), print)
    details = await runtime._calls.inspect_container(f"sandbox-{sandbox.id}")
    assert details is not None
    assert details["NetworkSettings"]["Networks"]["bridge"]["Gateway"] == DOCKER0
    assert sandbox.addresses.dial_host is None
    await runtime.delete(sandbox.id)


async def test_sandboxes_without_root_do_not_reach_each_other(
    started: Started, made: Made, spec: Spec, rootless: RootlessEngine
) -> None:
    """On the network that is made for them; we get an answer."""
    runtime, _ = await started(made(docker={"inter_container": False}))
    server = await runtime.create(spec(entrypoint=SERVE), print)
    assert (await http_get(server.addresses.published[HTTP_PORT], "/"))[0] == 200
    knock = f"import socket; socket.create_connection(('{server.addresses.own[0]}', {HTTP_PORT}), 1)"
    other = await runtime.create(spec(entrypoint=("python3", "-c", knock)), print)
    with rootless.client() as client:
        ended = await asyncio.to_thread(client.wait, f"sandbox-{other.id}")
    assert ended["StatusCode"] != 0
    for sandbox in (server, other):
        await runtime.delete(sandbox.id)


async def test_a_policy_is_enforced_without_root(
    rootless: RootlessEngine, started: Started, made: Made, spec: Spec
) -> None:
    """The sidecar may change the packet filter of its own network, which is all it needs."""
    rootless.build_images("egress")
    runtime, _ = await started(made(egress={"image": EGRESS_IMAGE, "mode": "dns+nft"}))
    server = await runtime.create(spec(entrypoint=SERVE), print)
    assert (await http_get(server.addresses.published[HTTP_PORT], "/"))[0] == 200
    target = server.addresses.own[0]
    probe = f"import socket; socket.create_connection(('{target}', {HTTP_PORT}), 2)"
    deny = NetworkPolicy("allow", (NetworkRule("deny", f"{target}/32"),))
    codes = []
    for policy in (None, deny):
        sandbox = await runtime.create(spec(entrypoint=("python3", "-c", probe), network_policy=policy), print)
        with rootless.client() as client:
            codes.append((await asyncio.to_thread(client.wait, f"sandbox-{sandbox.id}"))["StatusCode"])
        await runtime.delete(sandbox.id)
    assert (codes[0], codes[1] != 0) == (0, True)
    await runtime.delete(server.id)


async def test_a_pause_that_the_kernel_does_not_give_is_told(
    rootless: RootlessEngine, started: Started, made: Made, spec: Spec
) -> None:
    """Without cgroup v2 nothing of an ordinary user's can be frozen; the sandbox runs on."""
    with rootless.client() as client:
        can_freeze = client.info()["CgroupVersion"] == "2"
    runtime, _ = await started(made())
    sandbox = await runtime.create(spec(), print)
    if can_freeze:
        await runtime.pause(sandbox.id)
    else:
        with pytest.raises(errors.Failed, match="cgroups") as raised:
            await runtime.pause(sandbox.id)
        assert raised.value.code == "DOCKER::SANDBOX_PAUSE_FAILED"
    found = await runtime.get(sandbox.id)
    assert found is not None
    assert found.status.state is (SandboxState.PAUSED if can_freeze else SandboxState.RUNNING)
    await runtime.delete(sandbox.id)


async def test_host_mode_is_refused(started: Started, made: Made, spec: Spec) -> None:
    """What such an Engine calls the host's network is its own; nobody waits for a sandbox that cannot be dialled."""
    runtime, _ = await started(made(docker={"network_mode": "host"}))
    asked = spec()
    with pytest.raises(errors.Unavailable, match=r"rootless.*docker\.network_mode = 'bridge'"):
        await runtime.create(asked, print)
    assert "rootless" in str(runtime.degraded())
    assert await runtime.get(asked.id) is None


@pytest.mark.parametrize(("mode", "verdict"), [("bridge", Verdict.OK), ("host", Verdict.FAIL)])
async def test_what_the_doctor_says_of_it(made: Made, mode: str, verdict: Verdict) -> None:
    """What kind of Engine it is, which limits it cannot hold, and whether the network will do."""
    found = [finding async for finding in check_engine(made(docker={"network_mode": mode}))]
    assert any("is rootless" in finding.text for finding in found)
    assert next(finding for finding in found if finding.name == "network").verdict is verdict
