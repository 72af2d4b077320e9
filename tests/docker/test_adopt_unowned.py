"""Taking over from a real opensandbox-server 1.1.1: its sandboxes, with what it kept in files beside the labels."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from manager.domain.sandbox import EXECD_PORT
from manager.runtime.docker.runtime import DockerRuntime
from tests.docker.harness import Events, free_port, http_get, make_settings, wait_for_port
from tests.docker.own_engine import OwnEngine

pytestmark = pytest.mark.timeout(180)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def earlier_server() -> str:
    """The released server's program, in an environment of its own: its dependencies are not ours."""
    done = subprocess.run([str(ROOT / "scripts" / "install"), "reference"], capture_output=True, text=True, check=False)
    program = ROOT / ".venvs" / "reference" / "bin" / "opensandbox-server"
    if done.returncode != 0 or not program.exists():
        pytest.skip(f"the released server could not be installed: {done.stderr[-200:]}")
    return str(program)


@pytest.fixture(scope="module")
def engine_of_both() -> Iterator[OwnEngine]:
    """An Engine on which nobody else has sandboxes without an owner."""
    if not OwnEngine.possible():
        pytest.skip("needs root and dockerd")
    engine = OwnEngine()
    engine.start()
    engine.build_images()
    yield engine
    engine.close()


@dataclass
class Earlier:
    """A running server of the earlier release."""

    base: str
    home: Path

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One API call."""
        data = json.dumps(body).encode() if body is not None else None
        request = Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")


@pytest.fixture
def earlier(
    earlier_server: str, engine_of_both: OwnEngine, images: tuple[str, str], tmp_path: Path
) -> Iterator[Earlier]:
    """Running with a home of its own, against the Engine that both use; stopped before the test goes on by `stop`."""
    port = free_port()
    config = tmp_path / "earlier.toml"
    config.write_text(
        f'[server]\nhost = "127.0.0.1"\nport = {port}\n[runtime]\ntype = "docker"\nexecd_image = "{images[1]}"\n'
        '[docker]\nnetwork_mode = "bridge"\npublish_host = "127.0.0.1"\n'
    )
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "DOCKER_HOST": engine_of_both.url,
        "OPENSANDBOX_INSECURE_SERVER": "YES",
    }
    with subprocess.Popen(
        [earlier_server, "--config", str(config)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_for_port(port)
        yield Earlier(f"http://127.0.0.1:{port}", tmp_path)
        process.kill()


async def test_sandboxes_renewals_and_metadata_are_taken_over(
    earlier: Earlier,
    engine_of_both: OwnEngine,
    started: Started,
    images: tuple[str, str],
    instance: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything the earlier server knew of its sandbox, we know; and then it is ours to delete."""
    made = earlier.ask("POST", "/v1/sandboxes", request(images[0]))
    path = f"/v1/sandboxes/{made['id']}"
    until = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    earlier.ask("POST", f"{path}/renew-expiration", {"expiresAt": until.isoformat()})
    earlier.ask("PATCH", f"{path}/metadata", {"stage": "two"})

    monkeypatch.setenv("HOME", str(tmp_path))
    settings = make_settings(images[1], instance, tmp_path, docker={"host": engine_of_both.url, "adopt_unowned": True})
    runtime, events = await started(settings)
    (found,) = (await events.synced()).sandboxes
    assert (found.id, found.expires_at) == (made["id"], until)
    assert found.metadata.items() >= {"team": "x", "stage": "two"}.items()
    assert found.extensions == {"access.renew.extend.seconds": "300", "opensandbox.extensions.foo": "bar"}
    assert found.entrypoint == ("tail", "-f", "/dev/null")
    address = found.addresses.published[EXECD_PORT]
    assert (await http_get(address, "/ping"))[0] == 200
    assert await runtime.delete(found.id)
    assert await runtime.list() == ()


def request(image: str) -> dict[str, Any]:
    """A request as clients of that server send it."""
    return {
        "image": {"uri": image},
        "entrypoint": ["tail -f /dev/null"],
        "timeout": 600,
        "resourceLimits": {},
        "metadata": {"team": "x"},
        "extensions": {"access.renew.extend.seconds": "300", "opensandbox.extensions.foo": "bar"},
    }


async def test_without_the_key_they_are_left_alone(
    engine_of_both: OwnEngine, started: Started, images: tuple[str, str], instance: str, tmp_path: Path
) -> None:
    """Another server's sandboxes are neither seen nor touched."""
    name = str(uuid.uuid4())
    with engine_of_both.client() as client:
        made = client.create_container(images[0], ["sleep", "600"], labels={"opensandbox.io/id": name})
        settings = make_settings(images[1], instance, tmp_path, docker={"host": engine_of_both.url})
        runtime, events = await started(settings, leftover_grace=0.0)
        assert (await events.synced()).sandboxes == ()
        assert not await runtime.delete(name)
        client.remove_container(made["Id"])
