"""Fields of a create, sent as JSON to a whole server: what each does to the container on a real Engine.

Which test stands for which field is marked, and tests/test_tables.py fails for a field of the request without one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.conftest import end_server
from tests.docker.test_egress import egress_image
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

pytestmark = pytest.mark.timeout(120)
Create = Callable[..., dict[str, Any]]
PATIENCE = 30.0
PORT = 8000
SLEEP = ["sleep", "600"]
MEBI = 1024 * 1024
TRANSPARENT = "OPENSANDBOX_EGRESS_MITMPROXY_TRANSPARENT"
ECHO = """
import http.server
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())
http.server.HTTPServer(("", %d), Echo).serve_forever()
"""
TABLES: dict[str, dict[str, Any]] = {
    "docker": {"sandbox_env": {"FROM_CONFIG": "1", "ALSO": "1"}},
    "ingress": {"mode": "gateway"},
    "ingress.gateway": {"address": "127.0.0.1:8080"},
    "ingress.gateway.route": {"mode": "header"},
}

__all__ = ["egress_image"]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, images: tuple[str, str], egress_image: str
) -> Iterator[ServerProcess]:
    """One server for all of them, in gateway mode, with a sidecar image."""
    egress = {"egress": {"image": egress_image, "mode": "dns+nft"}}
    storage = {"storage": {"allowed_host_paths": [str(tmp_path_factory.getbasetemp())]}}
    server = ServerProcess(tmp_path_factory.mktemp("fields"), {**TABLES, **egress, **storage})
    server.start()
    yield server
    end_server(server)


@pytest.fixture
def create(server: ServerProcess) -> Iterator[Create]:
    """Creates a sandbox of a request with these changes (None leaves a field out); they are deleted afterwards."""
    made: list[str] = []

    def create(**changes: Any) -> dict[str, Any]:
        asked = {"image": {"uri": SANDBOX_IMAGE}, "entrypoint": SLEEP, "timeout": 600, "resourceLimits": {}, **changes}
        status, answer = server.call("POST", "/v1/sandboxes", {k: v for k, v in asked.items() if v is not None})
        assert status == 202, answer
        made.append(answer["id"])
        return dict(answer)

    yield create
    for sandbox_id in made:
        server.call("DELETE", f"/v1/sandboxes/{sandbox_id}")


def container(engine: docker.APIClient, sandbox: dict[str, Any]) -> dict[str, Any]:
    """What the Engine says of its container."""
    return dict(engine.inspect_container(f"sandbox-{sandbox['id']}"))


def variables(engine: docker.APIClient, sandbox: dict[str, Any]) -> dict[str, str]:
    """The environment of its first process, as that sees it."""
    ran = engine.exec_create(f"sandbox-{sandbox['id']}", ["cat", "/proc/1/environ"])
    text = engine.exec_start(ran["Id"]).decode()
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)


@pytest.mark.request_field("image.uri", "entrypoint", "env", "metadata")
def test_what_runs(create: Create, engine: docker.APIClient, server: ServerProcess) -> None:
    """Image, command and environment are those of the container; null takes a configured variable away."""
    made = create(env={"MINE": "a=b c", "ALSO": None}, metadata={"team": "x"})
    shown = container(engine, made)
    assert (shown["Config"]["Image"], shown["Config"]["Cmd"]) == (SANDBOX_IMAGE, SLEEP)
    seen = variables(engine, made)
    assert (seen["MINE"], seen["FROM_CONFIG"], seen["OPENSANDBOX_ID"]) == ("a=b c", "1", made["id"])
    assert "ALSO" not in seen
    assert server.call("GET", "/v1/sandboxes?metadata=team%3Dx")[1]["items"][0]["id"] == made["id"]


@pytest.mark.request_field("timeout")
@pytest.mark.parametrize("timeout", [60, None])
def test_how_long_it_lives(create: Create, engine: docker.APIClient, timeout: int | None) -> None:
    """The end is on the container, so that it holds whatever becomes of the server; without one there is none."""
    made = create(timeout=timeout)
    labels = container(engine, made)["Config"]["Labels"]
    assert labels["opensandbox.io/manual-cleanup"] == ("true" if timeout is None else "")
    assert ("expiresAt" in made) == (timeout is not None)
    if timeout is not None:
        told = datetime.fromisoformat(made["expiresAt"])
        assert told - datetime.fromisoformat(made["createdAt"]) == timedelta(seconds=timeout)
        assert datetime.fromisoformat(labels["opensandbox.io/expires-at"]) == told


@pytest.mark.request_field("resourceLimits", "resourceRequests")
def test_amounts(create: Create, engine: docker.APIClient) -> None:
    """A limit is hard; a request is a soft limit of memory, and a weight where CPU is scarce."""
    made = create(resourceLimits={"cpu": "500m", "memory": "128Mi"}, resourceRequests={"cpu": "250m", "memory": "64Mi"})
    host = container(engine, made)["HostConfig"]
    assert (host["NanoCpus"], host["Memory"]) == (500_000_000, 128 * MEBI)
    assert (host["CpuShares"], host["MemoryReservation"]) == (256, 64 * MEBI)


@pytest.mark.request_field(
    "volumes.name", "volumes.mountPath", "volumes.readOnly", "volumes.subPath", "volumes.host.path"
)
def test_directories_of_the_host(create: Create, engine: docker.APIClient, tmp_path: Path) -> None:
    """A part of one, read-only, and another in the flat shape; the Engine may show another source, so look inside."""
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "inner").write_text("inner")
    deep = {"name": "d", "host": {"path": str(tmp_path)}, "mountPath": "/deep", "subPath": "part", "readOnly": True}
    flat = {"type": "host", "hostPath": str(tmp_path), "mountPath": "/flat"}
    made = container(engine, create(volumes=[deep, flat]))
    mounts = {mount["Destination"]: mount["RW"] for mount in made["Mounts"]}
    assert (mounts["/deep"], mounts["/flat"]) == (False, True)
    for path in ("/deep/inner", "/flat/part/inner"):
        assert engine.exec_start(engine.exec_create(made["Id"], ["cat", path])["Id"]) == b"inner"


@pytest.mark.request_field(
    "volumes.pvc.claimName", "volumes.pvc.createIfNotExists", "volumes.pvc.deleteOnSandboxTermination"
)
@pytest.mark.request_field("volumes.pvc.storageClass", "volumes.pvc.storage", "volumes.pvc.accessModes")
def test_named_volumes(create: Create, engine: docker.APIClient, server: ServerProcess) -> None:
    """Made, mounted and gone with the sandbox; what only clusters know is said to have no meaning here."""
    name = f"fields-{uuid.uuid4().hex[:8]}"
    claim = {"claimName": name, "createIfNotExists": True, "deleteOnSandboxTermination": True}
    cluster = {"storageClass": "fast", "storage": "1Gi", "accessModes": ["ReadWriteOnce"]}
    made = create(volumes=[{"name": "v", "pvc": {**claim, **cluster}, "mountPath": "/v"}])
    assert name in [mount.get("Name") for mount in container(engine, made)["Mounts"]]
    assert "volumes[v].pvc: Docker volumes have no storageClass, storage, accessModes" in server.output()
    assert server.call("DELETE", f"/v1/sandboxes/{made['id']}")[0] == 204
    assert (engine.volumes(filters={"name": name})["Volumes"] or []) == []


@pytest.mark.request_field("volumes.pvc.createIfNotExists")
def test_a_volume_that_must_be_there(server: ServerProcess, engine: docker.APIClient) -> None:
    """Refused by name when it is not, and it is not made."""
    name = f"fields-{uuid.uuid4().hex[:8]}"
    volume = {"name": "v", "pvc": {"claimName": name, "createIfNotExists": False}, "mountPath": "/v"}
    asked = {"image": {"uri": SANDBOX_IMAGE}, "entrypoint": SLEEP, "resourceLimits": {}, "volumes": [volume]}
    status, answer = server.call("POST", "/v1/sandboxes", asked)
    assert (status, answer["code"]) == (400, "VOLUME::PVC_NOT_FOUND")
    assert (engine.volumes(filters={"name": name})["Volumes"] or []) == []


@pytest.mark.request_field("credentialProxy.enabled", "networkPolicy.defaultAction", "networkPolicy.egress.action")
@pytest.mark.request_field("networkPolicy.egress.target")
def test_policy_and_credentials(create: Create, engine: docker.APIClient) -> None:
    """The sidecar is told the policy word by word, and both sides that requests are read."""
    policy = {"defaultAction": "deny", "egress": [{"action": "allow", "target": "*.example.org"}]}
    made = create(networkPolicy=policy, credentialProxy={"enabled": True})
    sidecar = engine.inspect_container(f"sandbox-egress-{made['id']}")
    told = dict(entry.split("=", 1) for entry in sidecar["Config"]["Env"])
    assert json.loads(told["OPENSANDBOX_EGRESS_RULES"]) == policy
    assert told[TRANSPARENT] == variables(engine, made)[TRANSPARENT] == "true"
    assert container(engine, made)["HostConfig"]["NetworkMode"] == f"container:{sidecar['Id']}"


@pytest.mark.request_field("snapshotId")
def test_a_restored_file_system(create: Create, engine: docker.APIClient, server: ServerProcess) -> None:
    """What was written is there again."""
    source = create(entrypoint=["sh", "-c", "echo kept > /kept; sleep 600"])
    path = f"sandbox-{source['id']}"
    wait_until(lambda: b"/kept" in bytes(str(engine.diff(path)), "ascii"), PATIENCE, "the file")
    snapshot = server.call("POST", f"/v1/sandboxes/{source['id']}/snapshots")[1]["id"]
    place = f"/v1/snapshots/{snapshot}"
    wait_until(lambda: server.call("GET", place)[1]["status"]["state"] == "Ready", PATIENCE, "the snapshot")
    made = create(image=None, entrypoint=None, snapshotId=snapshot)
    ran = engine.exec_create(f"sandbox-{made['id']}", ["cat", "/kept"])
    assert engine.exec_start(ran["Id"]) == b"kept\n"
    server.call("DELETE", f"/v1/sandboxes/{made['id']}")
    assert server.call("DELETE", place)[0] == 204


@pytest.mark.request_field(
    "extensions",
    "secureAccess",
    "extensions.access.prefix.keep",
    "extensions.access.limit.",
    "extensions.opensandbox.extensions.",
)
def test_the_way_in(create: Create, server: ServerProcess) -> None:
    """A token is asked for, the program is sent the whole path, another method is refused, a note is kept."""
    note = {"opensandbox.extensions.note": "x"}
    made = create(
        entrypoint=["python3", "-c", ECHO % PORT],
        secureAccess=True,
        extensions={"access.prefix.keep": "true", "access.limit.methods": "GET", "ignored": "x", **note},
    )
    assert made["extensions"] == note
    path = f"/v1/sandboxes/{made['id']}/proxy/{PORT}/a"
    headers = server.call("GET", f"/v1/sandboxes/{made['id']}/endpoints/{PORT}")[1]["headers"]
    wait_until(lambda: server.call("GET", path, headers=headers)[0] == 200, PATIENCE, "an answer")
    assert server.call("GET", path, headers=headers)[1] == path
    assert server.call("GET", path)[0] == 401
    assert server.call("DELETE", path, headers=headers)[0] == 403


@pytest.mark.defect(5)
@pytest.mark.request_field("lifecycle.preStart.command", "lifecycle.preStart.timeoutSeconds", "lifecycle.periodic.name")
@pytest.mark.request_field(
    "lifecycle.periodic.schedule", "lifecycle.periodic.command", "lifecycle.periodic.timeoutSeconds"
)
@pytest.mark.request_field("templateId", "platform.os", "platform.arch", "secureRuntime")
@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"lifecycle": {"preStart": {"command": ["true"], "timeoutSeconds": 5}}}, "lifecycle"),
        ({"lifecycle": {"periodic": [{"name": "a", "schedule": "* * * * *", "command": "true"}]}}, "lifecycle"),
        ({"templateId": "tpl-1"}, "templateId"),
        ({"platform": {"os": "windows", "arch": "amd64"}}, "platform.os"),
        ({"platform": {"os": "linux", "arch": "mips"}}, "platform.arch"),
        ({"secureRuntime": True}, "secureRuntime"),
        ({"resourceRequests": {"memory": "2Gi"}, "resourceLimits": {"memory": "1Gi"}}, "resourceRequests.memory"),
        ({"resourceRequests": {"ephemeral-storage": "1Gi"}}, "resourceRequests.ephemeral-storage"),
        ({"resourceLimits": {"cpu": "0.000001"}}, "resourceLimits.cpu"),
        ({"resourceLimits": {"nvidia.com/gpu": "1"}}, "resourceLimits.gpu"),
        ({"resourceLimits": {"hugepages-2Mi": "64Mi"}}, "hugepages-2Mi"),
    ],
)
def test_what_docker_does_not_offer(
    server: ServerProcess, engine: docker.APIClient, changes: dict[str, Any], name: str
) -> None:
    """Refused by name, and nothing is made."""
    asked = {"image": {"uri": SANDBOX_IMAGE}, "entrypoint": SLEEP, "resourceLimits": {}, **changes}
    status, answer = server.call("POST", "/v1/sandboxes", asked)
    assert status == 400
    assert name in answer["message"]
    mine = {"label": [f"opensandbox.io/instance={server.instance}", "opensandbox.io/id"]}
    assert engine.containers(all=True, filters=mine) == []
