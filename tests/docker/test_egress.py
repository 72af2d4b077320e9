"""Network policies on a real Engine, with a sidecar that really refuses: rules, token, order and cleanup."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import docker
import pytest

from manager.domain import errors
from manager.domain.sandbox import EGRESS_PORT, EXECD_PORT, NetworkPolicy, NetworkRule, Sandbox, SandboxSpec
from manager.runtime.docker.egress import AUTH_HEADER
from manager.runtime.docker.runtime import DockerRuntime
from manager.runtime.docker.spec import TRANSPARENT
from manager.settings.model import Settings
from tests.docker.conftest import BUILD
from tests.docker.harness import Events, free_port, http_get, make_settings

pytestmark = pytest.mark.timeout(60)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
Made = Callable[..., Settings]
INSECURE = {"OPENSANDBOX_EGRESS_MITMPROXY_SSL_INSECURE": "Yes"}
BEHIND_PROXY = {"image": "x", "mode": "dns+nft", "upstream_proxy": {"url": "http://proxy:3128"}}
MUTE = "opensandbox-test/mute:1"
TARGET = "172.17.0.1"
"""The address of the Engine's own bridge: on this host, and behind the sandbox's gateway."""


@pytest.fixture(scope="session")
def egress_image() -> str:
    """The stand-in for the sidecar."""
    return subprocess.run([str(BUILD), "egress"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def made(images: tuple[str, str], instance: str, tmp_path: Path, egress_image: str) -> Made:
    """Settings with a sidecar image."""
    return lambda **tables: make_settings(
        images[1], instance, tmp_path, **{"egress": {"image": egress_image, "mode": "dns+nft"}, **tables}
    )


@pytest.fixture
async def policed(started: Started, made: Made) -> AsyncIterator[DockerRuntime]:
    """A runtime that can enforce policies."""
    runtime, events = await started(made())
    runtime.events = events  # type: ignore[attr-defined]
    yield runtime
    await asyncio.gather(*(runtime.delete(sandbox.id) for sandbox in await runtime.list()))


@pytest.fixture
async def listener() -> AsyncIterator[int]:
    """A port of this host that answers whoever gets there."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(greet, TARGET, 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def deny(target: str) -> NetworkPolicy:
    """Everything but this."""
    return NetworkPolicy("allow", (NetworkRule("deny", target),))


async def reaches(sandbox: Sandbox, port: int, host: str = TARGET) -> bool:
    """Whether code inside gets through."""
    script = f"import socket; socket.create_connection(('{host}', {port}), 2)"
    url = f"http://{sandbox.addresses.dial_host}:{EXECD_PORT}/command"
    await http_get((str(sandbox.addresses.dial_host), EXECD_PORT), "/ping")
    async with aiohttp.ClientSession() as session, session.post(url, json={"argv": ["python3", "-c", script]}) as told:
        return "execution_complete" in await told.text()


async def policy(sandbox: Sandbox, method: str, body: Any = None, token: str | None = None) -> int:
    """Asks the sidecar."""
    url = f"http://{sandbox.addresses.dial_host}:{EGRESS_PORT}/policy"
    headers = {AUTH_HEADER: str(sandbox.egress_token) if token is None else token}
    async with aiohttp.ClientSession() as session, session.request(method, url, json=body, headers=headers) as answer:
        return answer.status


async def test_a_denied_address_is_not_reached(policed: DockerRuntime, spec: Spec, listener: int) -> None:
    """The rule holds from the first packet; without it the address answers."""
    free = await policed.create(spec(network_policy=NetworkPolicy("allow")), print)
    held = await policed.create(spec(network_policy=deny(f"{TARGET}/32")), print)
    assert await reaches(free, listener)
    assert not await reaches(held, listener)


async def test_no_default_means_deny(policed: DockerRuntime, spec: Spec, listener: int) -> None:
    """An empty policy lets nothing out; an allow rule lets that through."""
    allow = NetworkPolicy(None, (NetworkRule("allow", f"{TARGET}/32"),))
    assert not await reaches(await policed.create(spec(network_policy=NetworkPolicy()), print), listener)
    assert await reaches(await policed.create(spec(network_policy=allow), print), listener)


async def test_the_policy_api_asks_for_the_token(policed: DockerRuntime, spec: Spec, listener: int) -> None:
    """The token that get and list carry changes the policy; another does not."""
    await policed.create(asked := spec(network_policy=deny(f"{TARGET}/32")), print)
    found = await policed.get(asked.id)
    assert found is not None
    assert len(str(found.egress_token)) == 32
    assert await policy(found, "DELETE", [f"{TARGET}/32"], token="wrong") == 401
    assert not await reaches(found, listener)
    assert await policy(found, "DELETE", [f"{TARGET}/32"]) == 200
    assert await reaches(found, listener)


async def test_the_sandbox_cannot_change_its_own_network(policed: DockerRuntime, spec: Spec) -> None:
    """NET_ADMIN is in the sidecar only."""
    made = await policed.create(spec(network_policy=deny(f"{TARGET}/32")), print)
    shown = await policed._calls.inspect_container(f"sandbox-{made.id}")
    sidecar = await policed._calls.inspect_container(f"sandbox-egress-{made.id}")
    assert shown is not None
    assert sidecar is not None
    assert "NET_ADMIN" in shown["HostConfig"]["CapDrop"]
    assert sidecar["HostConfig"]["CapAdd"] == ["NET_ADMIN"]
    assert shown["State"]["StartedAt"] > sidecar["State"]["StartedAt"]


async def test_ipv6_is_off_where_it_can_be(policed: DockerRuntime, spec: Spec) -> None:
    """A policy on IPv4 addresses must not be walked around."""
    made = await policed.create(spec(network_policy=NetworkPolicy()), print)
    sidecar = await policed._calls.inspect_container(f"sandbox-egress-{made.id}")
    assert sidecar is not None
    assert sidecar["HostConfig"]["Sysctls"]["net.ipv6.conf.all.disable_ipv6"] == "1"


async def test_the_sidecar_comes_first_and_goes_last(
    policed: DockerRuntime, spec: Spec, engine: docker.APIClient
) -> None:
    """No packet of the sandbox leaves without the policy, neither at its beginning nor at its end."""
    since = int(time.time()) - 1
    made = await policed.create(spec(network_policy=NetworkPolicy()), print)
    await policed.delete(made.id)
    told = engine.events(since=since, until=int(time.time()) + 1, decode=True, filters={"event": ["start", "die"]})
    names = [(event["Action"], event["Actor"]["Attributes"]["name"]) for event in told]
    sandbox, sidecar = f"sandbox-{made.id}", f"sandbox-egress-{made.id}"
    ours = [(action, name) for action, name in names if name in (sandbox, sidecar)]
    assert ours == [("start", sidecar), ("start", sandbox), ("die", sandbox), ("die", sidecar)]


async def test_pause_and_resume_take_the_sidecar_along(policed: DockerRuntime, spec: Spec) -> None:
    """Both stop and both go on."""
    made = await policed.create(spec(network_policy=NetworkPolicy()), print)

    async def paused() -> list[bool]:
        names = (f"sandbox-{made.id}", f"sandbox-egress-{made.id}")
        shown = [await policed._calls.inspect_container(name) for name in names]
        return [bool(entry and entry["State"]["Paused"]) for entry in shown]

    await policed.pause(made.id)
    assert await paused() == [True, True]
    await policed.resume(made.id)
    assert await paused() == [False, False]


async def test_pause_and_resume_in_order(policed: DockerRuntime, spec: Spec, engine: docker.APIClient) -> None:
    """The sandbox is frozen first and thawed last: it never runs while nobody enforces its policy."""
    since = int(time.time()) - 1
    made = await policed.create(spec(network_policy=NetworkPolicy()), print)
    await policed.pause(made.id)
    await policed.resume(made.id)
    told = engine.events(since=since, until=int(time.time()) + 1, decode=True, filters={"event": ["pause", "unpause"]})
    names = [(event["Action"], event["Actor"]["Attributes"]["name"]) for event in told]
    sandbox, sidecar = f"sandbox-{made.id}", f"sandbox-egress-{made.id}"
    ours = [(action, name) for action, name in names if name in (sandbox, sidecar)]
    assert ours == [("pause", sandbox), ("pause", sidecar), ("unpause", sidecar), ("unpause", sandbox)]


async def test_a_resume_whose_second_half_fails(policed: DockerRuntime, spec: Spec, engine: docker.APIClient) -> None:
    """The first half is taken back: the sidecar is frozen again."""
    made = await policed.create(spec(network_policy=NetworkPolicy()), print)
    await policed.pause(made.id)
    before = await policed._calls.inspect_container(f"sandbox-{made.id}")
    assert before is not None
    await asyncio.to_thread(engine.unpause, f"sandbox-{made.id}")
    with pytest.raises((errors.Conflict, errors.Failed), match="not paused"):  # Engines differ in the kind
        await policed._freezer.resume(made.id, before)
    sidecar = await policed._calls.inspect_container(f"sandbox-egress-{made.id}")
    assert sidecar is not None
    assert sidecar["State"]["Paused"]


async def test_delete_takes_everything(policed: DockerRuntime, spec: Spec, engine: docker.APIClient) -> None:
    """Sandbox, sidecar and their volume."""
    made = await policed.create(spec(network_policy=NetworkPolicy()), print)
    assert await policed.delete(made.id)
    await nothing_left(engine, made.id)


async def nothing_left(engine: docker.APIClient, sandbox_id: str) -> None:
    """No container and no volume has this id in its name."""
    containers = await asyncio.to_thread(engine.containers, all=True, filters={"name": sandbox_id})
    volumes = await asyncio.to_thread(engine.volumes, filters={"name": sandbox_id})
    assert (containers, volumes["Volumes"] or []) == ([], [])


async def test_a_sidecar_that_ends_at_once_leaves_nothing(
    started: Started, made: Made, spec: Spec, images: tuple[str, str], engine: docker.APIClient
) -> None:
    """The image is none of a sidecar; the answer says so instead of waiting."""
    runtime, _ = await started(made(egress={"image": images[1]}))
    asked = spec(network_policy=NetworkPolicy())
    with pytest.raises(errors.Failed, match=r"ended with code 127\. .* needs /bin/sh and iptables") as raised:
        await runtime.create(asked, print)
    assert raised.value.code == "DOCKER::SANDBOX_START_FAILED"
    await nothing_left(engine, asked.id)


async def test_a_sidecar_that_never_gets_ready_leaves_nothing(
    started: Started, made: Made, spec: Spec, egress_image: str, engine: docker.APIClient
) -> None:
    """It runs and says nothing: egress.readiness_timeout_seconds is how long anybody waits."""
    asked = spec(network_policy=NetworkPolicy())
    with mute(engine, egress_image):
        runtime, _ = await started(made(egress={"image": MUTE, "readiness_timeout_seconds": 0.5}))
        with pytest.raises(errors.Failed, match="did not become ready within"):
            await runtime.create(asked, print)
        await nothing_left(engine, asked.id)


async def test_an_egress_image_that_is_not_there(started: Started, made: Made, spec: Spec) -> None:
    """The caller did not choose it: 500 naming the key, not 404."""
    runtime, _ = await started(made(egress={"image": f"127.0.0.1:{free_port()}/x:1"}))
    with pytest.raises(errors.Unavailable):
        await runtime.create(spec(network_policy=NetworkPolicy()), print)
    runtime, _ = await started(made(egress={"image": "Not-An-Image"}))
    with pytest.raises(errors.Failed, match=r"egress\.image") as raised:
        await runtime.create(spec(network_policy=NetworkPolicy()), print)
    assert raised.value.code == "DOCKER::SANDBOX_START_FAILED"


@contextlib.contextmanager
def mute(engine: docker.APIClient, image: str) -> Any:
    """An image that runs and listens nowhere."""
    source = engine.create_container(image)
    changes = ['CMD ["python3", "-c", "import time; time.sleep(600)"]']
    engine.commit(source["Id"], repository=MUTE.partition(":")[0], tag="1", changes=changes)
    engine.remove_container(source["Id"])
    try:
        yield
    finally:
        engine.remove_image(MUTE)


async def test_a_sidecar_without_its_sandbox_is_removed_at_start(
    started: Started, made: Made, spec: Spec, engine: docker.APIClient
) -> None:
    """Somebody removed the sandbox while no server ran."""
    first, _ = await started(made())
    sandbox = await first.create(spec(network_policy=NetworkPolicy()), print)
    await first.stop()
    await asyncio.to_thread(engine.remove_container, f"sandbox-{sandbox.id}", force=True)
    await started(made(), leftover_grace=0.0)
    await nothing_left(engine, sandbox.id)


async def test_without_a_name_server_nothing_is_made(
    started: Started, made: Made, spec: Spec, engine: docker.APIClient
) -> None:
    """400 that names the key, before there is a sidecar that could answer nothing."""
    runtime, _ = await started(made(docker={"dns": ["127.0.0.1"]}))
    asked = spec(network_policy=NetworkPolicy())
    with pytest.raises(errors.Invalid, match=r"lists only 127\.0\.0\.1\. Set docker\.dns") as raised:
        await runtime.create(asked, print)
    assert raised.value.code == "SANDBOX::INVALID_PARAMETER"
    await nothing_left(engine, asked.id)


@pytest.mark.parametrize(
    ("tables", "changes", "words"),
    [
        ({"docker": {"network_mode": "host"}}, {}, "docker network_mode=host"),
        ({"egress": {}}, {}, "egress.image"),
        ({"secure_runtime": {"type": "gvisor", "oci_runtime_name": "runsc"}}, {"secure_runtime": True}, "gVisor"),
        ({"egress": {"image": "x", "mode": "dns"}}, {"credential_proxy": True}, "dns+nft"),
        ({"secure_runtime": {"type": "gvisor", "docker_runtime": "runsc"}}, {}, "gVisor"),
        ({}, {"env": {"OPENSANDBOX_EGRESS_TOKEN": "x"}}, "OPENSANDBOX_EGRESS_TOKEN"),
        ({}, {"env": INSECURE, "credential_proxy": True}, "SSL_INSECURE"),
        ({"egress": BEHIND_PROXY}, {}, "credentialProxy.enabled"),
        ({"egress": BEHIND_PROXY}, {"env": INSECURE, "credential_proxy": True}, "SSL_INSECURE"),
        ({"egress": BEHIND_PROXY}, {"env": {**INSECURE, TRANSPARENT: "on"}}, "upstream_proxy"),
        ({}, {"network_policy": None, "credential_proxy": True}, "requires networkPolicy"),
    ],
)
async def test_what_cannot_be_enforced_is_refused(
    made: Made, spec: Spec, tables: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    """Before anything is made, and by name."""
    with pytest.raises(errors.Invalid) as raised:
        DockerRuntime(made(**tables)).check(spec(**{"network_policy": NetworkPolicy(), **changes}))
    assert raised.value.code == "SANDBOX::INVALID_PARAMETER"
    assert words in raised.value.message
