"""The two modes of the egress sidecar side by side, and what becomes of a policy where the kernel plays not along."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from manager.domain import errors
from manager.domain.sandbox import NetworkPolicy, NetworkRule, Sandbox, SandboxSpec, SandboxState
from manager.runtime.docker.runtime import DockerRuntime
from manager.runtime.docker.sidecar import UPSTREAM_CA
from manager.settings.model import Settings
from tests.docker.harness import Events
from tests.docker.outside import Outside
from tests.docker.own_engine import OwnEngine
from tests.docker.test_egress import TARGET, egress_image, listener, made, policed, reaches
from tests.docker.test_egress_whole import outside
from tests.engine import api_client

pytestmark = pytest.mark.timeout(120)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
Made = Callable[..., Settings]

DENIED, OTHER = (f"{TARGET.replace('.', '-')}.{domain}.test" for domain in ("denied", "other"))
"""Names of this host, to the name server outside."""
DENY_BOTH = NetworkPolicy("allow", (NetworkRule("deny", "*.denied.test"), NetworkRule("deny", f"{TARGET}/32")))
ALLOW_ONE = NetworkPolicy("deny", (NetworkRule("allow", OTHER),))
READ_LIMIT = """
import os
places = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max")
print(open(next(filter(os.path.exists, places))).read())
"""
WITHOUT_IPV6 = """#!/bin/sh
# runc on a kernel without IPv6: the switch that is asked for is not there, which it tells in its log.
log= bundle= previous=
for argument in "$@"; do
    case "$previous" in --log) log=$argument ;; --bundle) bundle=$argument ;; esac
    previous=$argument
done
if [ -n "$bundle" ] && grep -q disable_ipv6 "$bundle/config.json"; then
    said="open /proc/sys/net/ipv6/conf/all/disable_ipv6: no such file or directory"
    echo "{\\"level\\": \\"error\\", \\"msg\\": \\"$said\\"}" >>"$log"
    exit 1
fi
exec runc "$@"
"""

SLOW = "opensandbox-test/slow-egress:1"
MARK = "import socket; socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)"

__all__ = ["egress_image", "listener", "made", "outside", "policed"]


async def seen(runtime: DockerRuntime, spec: SandboxSpec, port: int) -> dict[str, bool]:
    """Which ways to this host are open to code in a sandbox of this spec; names first, addresses last."""
    sandbox = await runtime.create(spec, print)
    found = {place: await reaches(sandbox, port, place) for place in (DENIED, OTHER, TARGET)}
    await runtime.delete(sandbox.id)
    return found


@pytest.mark.parametrize(
    ("mode", "policy", "expected"),
    [
        ("dns", DENY_BOTH, {DENIED: False, OTHER: True, TARGET: True}),
        ("dns+nft", DENY_BOTH, {DENIED: False, OTHER: False, TARGET: False}),
        ("dns", ALLOW_ONE, {DENIED: False, OTHER: True, TARGET: True}),
        ("dns+nft", ALLOW_ONE, {DENIED: False, OTHER: True, TARGET: True}),
        ("dns+nft", NetworkPolicy("deny"), {DENIED: False, OTHER: False, TARGET: False}),
    ],
)
async def test_dns_refuses_names_and_nft_addresses_too(
    started: Started,
    made: Made,
    spec: Spec,
    listener: int,
    egress_image: str,
    outside: Outside,
    mode: str,
    policy: NetworkPolicy,
    expected: dict[str, bool],
) -> None:
    """In mode dns whoever knows the address gets there; in dns+nft only where a name that is allowed has led."""
    tables = {"docker": {"dns": [outside.resolver]}, "egress": {"image": egress_image, "mode": mode}}
    runtime, _ = await started(made(**tables))
    assert await seen(runtime, spec(network_policy=policy), listener) == expected


@pytest.fixture
def without_ipv6() -> Iterator[OwnEngine]:
    """An Engine whose runtime refuses the IPv6 switches at the start of a container."""
    if not OwnEngine.possible():
        pytest.skip("needs root, dockerd and ip")
    engine = OwnEngine()
    script = engine.home / "runc-without-ipv6"
    script.write_text(WITHOUT_IPV6)
    script.chmod(0o755)
    engine.use_runtime("without-ipv6", script)
    engine.start()
    engine.build_images()
    engine.build_images("egress")
    yield engine
    engine.close()


async def test_a_kernel_without_ipv6_needs_none_switched_off(
    started: Started, without_ipv6: OwnEngine, made: Made, spec: Spec, caplog: pytest.LogCaptureFixture
) -> None:
    """The start is refused, so the sidecar is made again without the switches, and the log says so."""
    runtime, _ = await started(made(docker={"host": without_ipv6.url}))
    sandbox = await runtime.create(spec(network_policy=NetworkPolicy()), print)
    assert sandbox.status.state is SandboxState.RUNNING
    sidecar = await runtime._calls.inspect_container(f"sandbox-egress-{sandbox.id}")
    assert sidecar is not None
    assert not sidecar["HostConfig"].get("Sysctls")
    assert "IPv6 cannot be switched off here" in caplog.text
    await runtime.delete(sandbox.id)


async def test_the_sidecar_is_held_to_its_limits(
    started: Started, made: Made, spec: Spec, egress_image: str, engine: docker.APIClient
) -> None:
    """As its kernel sees them, not those of the sandbox."""
    egress = {"image": egress_image, "mode": "dns", "limits": {"memory": "96Mi", "cpu": "500m"}}
    runtime, _ = await started(made(egress={**egress, "requests": {"memory": "48Mi"}}))
    sandbox = await runtime.create(spec(network_policy=NetworkPolicy(), resource_limits={"memory": "128Mi"}), print)
    told = engine.exec_create(f"sandbox-egress-{sandbox.id}", ["python3", "-c", READ_LIMIT])
    assert engine.exec_start(told["Id"]).decode().split() == [str(96 * 1024**2)]
    await runtime.delete(sandbox.id)


@pytest.fixture
def slow_image(engine: docker.APIClient, egress_image: str) -> Iterator[str]:
    """A sidecar whose rules stand a while after its container runs."""
    source = engine.create_container(egress_image)
    changes = ["ENV STAND_IN_START_SECONDS=1.5"]
    engine.commit(source["Id"], repository=SLOW.partition(":")[0], tag="1", changes=changes)
    engine.remove_container(source["Id"])
    yield SLOW
    engine.remove_image(SLOW, force=True)


async def test_the_sandbox_starts_when_the_rules_stand(
    started: Started, made: Made, spec: Spec, listener: int, slow_image: str
) -> None:
    """Not when the sidecar's container runs: its first packet would be a free one."""
    runtime, _ = await started(made(egress={"image": slow_image, "mode": "dns+nft"}))
    probe = f"import socket; socket.create_connection(('{TARGET}', {listener}), 1)"
    asked = spec(entrypoint=("python3", "-c", probe), network_policy=NetworkPolicy())
    sandbox = await runtime.create(asked, print)
    ended = await asyncio.to_thread(exit_code, f"sandbox-{sandbox.id}")
    await runtime.delete(sandbox.id)
    assert ended != 0


def exit_code(container: str) -> int:
    """The exit code of a container, once it has ended."""
    with contextlib.closing(api_client()) as client:
        return int(client.wait(container)["StatusCode"])


async def test_a_policed_sandbox_cannot_pass_for_the_sidecar(
    started: Started, made: Made, spec: Spec, egress_image: str
) -> None:
    """It may not mark its packets, whatever capabilities the configuration leaves to sandboxes."""
    tables = {"docker": {"drop_capabilities": []}, "egress": {"image": egress_image, "mode": "dns"}}
    runtime, _ = await started(made(**tables))
    codes = []
    for policy in (None, NetworkPolicy("allow")):
        sandbox = await runtime.create(spec(entrypoint=("python3", "-c", MARK), network_policy=policy), print)
        codes.append(await asyncio.to_thread(exit_code, f"sandbox-{sandbox.id}"))
        await runtime.delete(sandbox.id)
    assert codes[1] != 0, codes


async def test_ipv6_may_stay_on(started: Started, made: Made, spec: Spec, egress_image: str) -> None:
    """egress.disable_ipv6 = false asks the Engine for nothing."""
    runtime, _ = await started(made(egress={"image": egress_image, "mode": "dns", "disable_ipv6": False}))
    sandbox = await runtime.create(spec(network_policy=NetworkPolicy()), print)
    sidecar = await runtime._calls.inspect_container(f"sandbox-egress-{sandbox.id}")
    assert sidecar is not None
    assert not sidecar["HostConfig"].get("Sysctls")
    await runtime.delete(sandbox.id)


async def test_the_authority_of_the_upstream_proxy_is_in_the_sidecar(
    started: Started, made: Made, spec: Spec, egress_image: str, tmp_path: Path, engine: docker.APIClient
) -> None:
    """The file is there to be read; one that is missing fails the create and leaves nothing."""
    authority = tmp_path / "ca.pem"
    authority.write_text("certificate\n")
    proxy = {"url": "http://proxy:3128", "ca_cert_path": str(authority)}
    runtime, _ = await started(made(egress={"image": egress_image, "mode": "dns+nft", "upstream_proxy": proxy}))
    sandbox = await runtime.create(spec(network_policy=NetworkPolicy(), credential_proxy=True), print)
    archive, _ = engine.get_archive(f"sandbox-egress-{sandbox.id}", UPSTREAM_CA)
    assert b"certificate\n" in b"".join(archive)
    await runtime.delete(sandbox.id)
    authority.unlink()
    with pytest.raises(errors.Failed, match="Egress sidecar container failed to start"):
        await runtime.create(spec(network_policy=NetworkPolicy(), credential_proxy=True), print)


async def half_paused(runtime: DockerRuntime, sandbox: Sandbox) -> None:
    """What a server leaves that is killed after the first half of a pause."""
    await runtime._freezer._freeze(f"sandbox-{sandbox.id}")


async def half_resumed(runtime: DockerRuntime, sandbox: Sandbox) -> None:
    """What a server leaves that is killed after the first half of a resume."""
    await runtime.pause(sandbox.id)
    await runtime._calls.unpause(f"sandbox-egress-{sandbox.id}")


@pytest.mark.parametrize("leave", [half_paused, half_resumed])
async def test_a_half_made_pause_or_resume_can_be_finished(policed: DockerRuntime, spec: Spec, leave: Any) -> None:
    """The sidecar runs already, which is no error."""
    sandbox = await policed.create(spec(network_policy=NetworkPolicy()), print)
    await leave(policed, sandbox)
    await policed.resume(sandbox.id)
    found = await policed.get(sandbox.id)
    assert found is not None
    assert found.status.state is SandboxState.RUNNING


@pytest.mark.parametrize("fate", ["stopped", "removed"])
async def test_pause_and_resume_without_the_sidecar_fail_and_change_nothing(
    policed: DockerRuntime, spec: Spec, engine: docker.APIClient, fate: str
) -> None:
    """A sandbox whose policy nobody enforces does not go on as if nothing were."""
    sandbox = await policed.create(spec(network_policy=NetworkPolicy()), print)
    name = f"sandbox-egress-{sandbox.id}"
    end = engine.kill if fate == "stopped" else (lambda ref: engine.remove_container(ref, force=True))
    await asyncio.to_thread(end, name)
    if fate == "stopped":
        # The Engine's answer to a kill may come before it has noticed the end itself.
        await asyncio.to_thread(engine.wait, name)
    with pytest.raises(errors.Failed) as raised:
        await policed.pause(sandbox.id)
    assert (raised.value.code, "sidecar" in raised.value.message) == ("DOCKER::SANDBOX_PAUSE_FAILED", True)
    await half_paused(policed, sandbox)
    with pytest.raises(errors.Failed) as raised:
        await policed.resume(sandbox.id)
    assert (raised.value.code, "sidecar" in raised.value.message) == ("DOCKER::SANDBOX_RESUME_FAILED", True)
    details = await policed._calls.inspect_container(f"sandbox-{sandbox.id}")
    assert details is not None
    assert details["State"]["Paused"]
