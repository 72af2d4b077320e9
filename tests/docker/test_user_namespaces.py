"""An Engine with user namespaces: root inside is nobody outside, and sandboxes are made there as anywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import docker.errors
import pytest

from manager.doctor.engine import check_engine
from manager.doctor.findings import Verdict
from manager.domain import errors
from manager.domain.sandbox import EXECD_PORT, NamedVolume, SandboxSpec, VolumeMount
from manager.runtime.base import LogQuery
from manager.runtime.docker.runtime import DockerRuntime
from tests.docker.harness import Events, http_get, make_settings
from tests.docker.own_engine import FIRST_ID, OwnEngine
from tests.docker.test_isolation import ISOLATED, OPEN_TO_NOBODY, TRY_ALL

pytestmark = pytest.mark.timeout(120)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
Inside = Callable[..., Awaitable[str]]
TELL = ("sh", "-c", "cat /proc/self/uid_map; echo mine > /data/file && cat /data/file; exec sleep 600")


@pytest.fixture(scope="module")
def remapped() -> Iterator[OwnEngine]:
    """An Engine that gives its containers the numbers of nobody."""
    if not OwnEngine.possible():
        pytest.skip("needs root, dockerd and ip")
    engine = OwnEngine(**{"userns-remap": "nobody:nogroup"})
    engine.home.chmod(0o711)
    engine.see("/etc/subuid", f"nobody:{FIRST_ID}:65536\n")
    engine.see("/etc/subgid", f"nobody:{FIRST_ID}:65536\nnogroup:{FIRST_ID}:65536\n")
    engine.start()
    engine.build_images()
    yield engine
    engine.close()


@pytest.mark.parametrize("extensions", [{}, {"bootstrap.execd.isolation": "enable"}], ids=["volume", "archive"])
async def test_a_sandbox_whose_root_is_nobody(
    remapped: OwnEngine,
    started: Started,
    images: tuple[str, str],
    instance: str,
    tmp_path: Path,
    spec: Spec,
    extensions: dict[str, str],
) -> None:
    """Execd arrives by volume and by archive, both runnable; a named volume is the sandbox's to write."""
    docker_table = {"host": remapped.url, "allow_isolation": True}
    runtime, _ = await started(make_settings(images[1], instance, tmp_path, docker=docker_table))
    volume = VolumeMount("data", "/data", NamedVolume(f"{instance}-data", delete_on_termination=True))
    made = await runtime.create(spec(entrypoint=TELL, volumes=(volume,), extensions=extensions), print)
    assert (await http_get((str(made.addresses.dial_host), EXECD_PORT), "/ping"))[0] == 200
    told: list[str] = []
    while len(told) < 2:
        told = [line.decode() async for line in await runtime.logs(made.id, LogQuery())]
    assert told[0].split()[1:3] == ["0", str(FIRST_ID)]
    assert told[1].endswith(" mine\n")
    assert await runtime.delete(made.id)


async def test_isolation_opens_nothing_of_the_host(remapped: OwnEngine, inside: Inside) -> None:
    """Mounting /proc anew opens its files to root of the host, which nobody in a sandbox of this Engine is."""
    docker_table = {"host": remapped.url, "allow_isolation": True}
    told = await inside(*TRY_ALL, docker=docker_table, extensions=ISOLATED)
    assert set(told.splitlines()) == OPEN_TO_NOBODY


async def test_host_mode_is_refused(
    remapped: OwnEngine, started: Started, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec
) -> None:
    """Such an Engine shares no network of the host; the server is not ready, and nothing is made."""
    settings = make_settings(images[1], instance, tmp_path, docker={"host": remapped.url, "network_mode": "host"})
    runtime, _ = await started(settings)
    asked = spec()
    with pytest.raises(errors.Unavailable, match=r"user namespaces.*docker\.network_mode"):
        await runtime.create(asked, print)
    assert "user namespaces" in str(runtime.degraded())
    with remapped.client() as client, pytest.raises(docker.errors.NotFound):
        client.inspect_container(f"sandbox-{asked.id}")
    found = {finding.text: finding.verdict async for finding in check_engine(settings)}
    assert [verdict for text, verdict in found.items() if "user namespaces" in text] == [Verdict.OK, Verdict.FAIL]
