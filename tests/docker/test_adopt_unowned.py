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
from tests.server_process import ServerProcess, wait_until

pytestmark = pytest.mark.timeout(180)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
ROOT = Path(__file__).parents[2]
EGRESS_IMAGE = "opensandbox-test/egress:2"
DEADLINE = 30.0
PAGE_PORT = 8000
KEEP_AND_SERVE = ["sh", "-c", f"cd /tmp && echo hello > kept && exec python3 -m http.server {PAGE_PORT}"]


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
    engine.build_images("egress")
    yield engine
    engine.close()


@dataclass
class Earlier:
    """A running server of the earlier release."""

    base: str
    home: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """It is gone, and with it its timers."""
        self.process.kill()
        self.process.wait()

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
        f'[egress]\nimage = "{EGRESS_IMAGE}"\n'
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
        yield Earlier(f"http://127.0.0.1:{port}", tmp_path, process)
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


@pytest.fixture
def heir(engine_of_both: OwnEngine, tmp_path: Path) -> Iterator[ServerProcess]:
    """Our server as an operator would put it in the other's place: the same user, the same Engine, and the key."""
    tables: dict[str, dict[str, Any]] = {
        "docker": {"host": engine_of_both.url, "adopt_unowned": True},
        "egress": {"image": EGRESS_IMAGE},
        "ingress": {"mode": "gateway"},
        "ingress.gateway": {"address": "127.0.0.1:8080"},
        "ingress.gateway.route": {"mode": "header"},
    }
    server = ServerProcess(tmp_path, tables)
    yield server
    if server.running:
        server.delete_all()
        server.stop()


def shown(server: ServerProcess, path: str) -> dict[str, Any]:
    """What a GET of the API answers."""
    status, body = server.call("GET", path)
    assert status == 200, body
    return dict(body)


def snapshot(earlier: Earlier, sandbox_id: str, name: str) -> dict[str, Any]:
    """A snapshot that the earlier server has finished."""
    made = earlier.ask("POST", f"/v1/sandboxes/{sandbox_id}/snapshots", {"name": name})
    path = f"/v1/snapshots/{made['id']}"
    wait_until(lambda: earlier.ask("GET", path)["status"]["state"] == "Ready", DEADLINE, "the snapshot")
    return dict(earlier.ask("GET", path))


def test_a_whole_server_takes_the_others_place(
    earlier: Earlier, heir: ServerProcess, images: tuple[str, str], engine_of_both: OwnEngine
) -> None:
    """Sandboxes, renewed expiries and snapshots; what is deleted then stays deleted, whatever the other's files say."""
    home = {"HOME": str(earlier.home)}
    made = earlier.ask("POST", "/v1/sandboxes", request(images[0], entrypoint=KEEP_AND_SERVE))
    until = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    earlier.ask("POST", f"/v1/sandboxes/{made['id']}/renew-expiration", {"expiresAt": until.isoformat()})
    first, second = (snapshot(earlier, made["id"], name) for name in ("first", "second"))
    earlier.kill()

    heir.start(environment=home)
    path = f"/v1/sandboxes/{made['id']}"
    assert datetime.fromisoformat(shown(heir, path)["expiresAt"]) == until
    assert shown(heir, path)["status"]["state"] == "Running"
    page = {"OpenSandbox-Ingress-To": f"{made['id']}-{PAGE_PORT}"}
    wait_until(lambda: heir.call("GET", "/kept", headers=page) == (200, "hello\n"), DEADLINE, "the page")
    listed = {item["id"]: item for item in shown(heir, "/v1/snapshots")["items"]}
    for known in (first, second):
        same = ("id", "sandboxId", "name")
        assert {key: listed[known["id"]][key] for key in same} == {key: known[key] for key in same}
        assert listed[known["id"]]["status"]["state"] == "Ready"
        told = [datetime.fromisoformat(item["createdAt"]) for item in (listed[known["id"]], known)]
        assert told[0] == told[1]

    body = {"snapshotId": first["id"], "resourceLimits": {}, "entrypoint": ["cat", "/tmp/kept"]}
    status, restored = heir.call("POST", "/v1/sandboxes", body)
    assert status == 202, restored
    copy = shown(heir, f"/v1/sandboxes/{restored['id']}")
    assert (copy.get("expiresAt"), copy.get("metadata") or {}) == (None, {})
    logs = f"/v1/sandboxes/{restored['id']}/diagnostics/logs"
    wait_until(lambda: "hello" in heir.call("GET", logs)[1], DEADLINE, "the kept file")
    assert heir.call("DELETE", f"/v1/sandboxes/{restored['id']}")[0] == 204
    assert heir.call("DELETE", f"/v1/snapshots/{first['id']}")[0] == 204
    sooner = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    assert heir.call("POST", f"{path}/renew-expiration", {"expiresAt": sooner.isoformat()})[0] == 200

    heir.kill()
    heir.start(environment=home)
    assert [item["id"] for item in shown(heir, "/v1/snapshots")["items"]] == [second["id"]]
    assert datetime.fromisoformat(shown(heir, path)["expiresAt"]) == sooner
    assert heir.call("DELETE", f"/v1/snapshots/{second['id']}")[0] == 204
    assert heir.call("DELETE", path)[0] == 204
    with engine_of_both.client() as client:
        assert client.containers(all=True, filters={"label": f"opensandbox.io/id={made['id']}"}) == []
        assert client.images("opensandbox-snapshots") == []


def test_a_sandbox_with_a_policy_is_taken_over_whole(
    earlier: Earlier, heir: ServerProcess, images: tuple[str, str], engine_of_both: OwnEngine
) -> None:
    """Its sidecar goes with it through pause, resume and delete, and so does the volume that both share."""
    policy = {"networkPolicy": {"defaultAction": "allow", "egress": []}}
    made = earlier.ask("POST", "/v1/sandboxes", request(images[0], **policy))
    earlier.kill()
    heir.start(environment={"HOME": str(earlier.home)})
    path = f"/v1/sandboxes/{made['id']}"
    assert heir.call("GET", f"{path}/networkpolicy")[0] == 200
    for word, state, running in (("pause", "Paused", False), ("resume", "Running", True)):
        assert heir.call("POST", f"{path}/{word}")[0] == 202
        assert shown(heir, path)["status"]["state"] == state
        with engine_of_both.client() as client:
            sidecar = client.inspect_container(f"sandbox-egress-{made['id']}")["State"]
            assert (not sidecar["Paused"]) is running
    assert heir.call("DELETE", path)[0] == 204
    with engine_of_both.client() as client:
        assert client.containers(all=True, filters={"name": made["id"]}) == []
        assert not [volume for volume in client.volumes()["Volumes"] or [] if made["id"] in volume["Name"]]


def request(image: str, **more: Any) -> dict[str, Any]:
    """A request as clients of that server send it."""
    return {
        "image": {"uri": image},
        "entrypoint": ["tail -f /dev/null"],
        "timeout": 600,
        "resourceLimits": {},
        "metadata": {"team": "x"},
        "extensions": {"access.renew.extend.seconds": "300", "opensandbox.extensions.foo": "bar"},
        **more,
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
