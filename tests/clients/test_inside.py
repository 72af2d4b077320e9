"""Code inside a sandbox must not manage sandboxes: tried from inside, with and without a key."""

from __future__ import annotations

import json
from typing import Any

import docker
import pytest

from tests.clients.modes import API_KEY
from tests.clients.test_restart import ID_LABEL, containers, create
from tests.conftest import StartServer
from tests.server_process import SANDBOX_IMAGE, ServerProcess

CREATE = json.dumps({"image": {"uri": SANDBOX_IMAGE}, "timeout": 600, "entrypoint": ["sleep", "600"]})
ASK = f"""
import sys, urllib.request, urllib.error
method, url, key = sys.argv[1:]
body = {CREATE!r}.encode() if method == "POST" else None
headers = {{"Content-Type": "application/json", "OPEN-SANDBOX-API-KEY": key}}
try:
    print(urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=10).status)
except urllib.error.HTTPError as refused:
    print(refused.code, refused.read().decode())
"""
PATHS = ["/v1/sandboxes", "/sandboxes", "/v1/sandboxes/", "//v1/sandboxes", "/v1/../v1/sandboxes"]


def ask(engine: docker.DockerClient, sandbox_id: str, method: str, url: str, key: str = "") -> str:
    """Runs one request inside the sandbox; returns status and body."""
    [container] = containers(engine, f"{ID_LABEL}={sandbox_id}")
    done = container.exec_run(["python3", "-c", ASK, method, url, key])
    assert done.exit_code == 0, done.output
    return str(done.output.decode())


def bridge_address(engine: docker.DockerClient, sandbox_id: str) -> str:
    """The host as the sandbox sees it: the gateway of its network."""
    [container] = containers(engine, f"{ID_LABEL}={sandbox_id}")
    networks: dict[str, Any] = container.attrs["NetworkSettings"]["Networks"]
    return str(next(iter(networks.values()))["Gateway"])


@pytest.fixture(params=["", API_KEY], ids=["open server", "server with a key"])
def server(request: pytest.FixtureRequest, start_server: StartServer) -> ServerProcess:
    """A server that listens where sandboxes can reach it."""
    return start_server({"server": {"api_key": request.param, "host": "0.0.0.0"}})


def test_create_from_inside_is_refused(server: ServerProcess, engine: docker.DockerClient) -> None:
    """403 whatever the key and however the path is spelled, and no sandbox appears."""
    inside = create(server)["id"]
    host = bridge_address(engine, inside)
    answers = [ask(engine, inside, "POST", f"http://{host}:{server.port}{path}", server.api_key) for path in PATHS]
    assert [answer[:3] for answer in answers if not answer.startswith(("403", "404", "400"))] == []
    assert answers[0].startswith("403")
    assert server.call("GET", "/v1/sandboxes")[1]["pagination"]["totalItems"] == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_reading_and_deleting_from_inside_are_refused(
    server: ServerProcess, engine: docker.DockerClient, method: str
) -> None:
    """A sandbox can neither look at itself through the API nor delete itself or a neighbour."""
    inside = create(server)["id"]
    url = f"http://{bridge_address(engine, inside)}:{server.port}/v1/sandboxes/{inside}"
    assert ask(engine, inside, method, url, server.api_key).startswith("403")
    assert server.call("GET", f"/v1/sandboxes/{inside}")[0] == 200
