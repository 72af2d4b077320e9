"""A create that fails leaves its record for PENDING_FAILURE_TTL seconds, and nothing else."""

from __future__ import annotations

import json
import urllib.request

import docker
import pytest

from tests.conftest import StartServer
from tests.server_process import free_port

pytestmark = pytest.mark.timeout(120)
PATIENCE = 60.0
TTL = 1


def test_the_record_of_a_failed_create(start_server: StartServer, engine: docker.APIClient) -> None:
    """Failed with the error, and there is no container; then the record is gone: the stream of changes tells it all."""
    server = start_server(environment={"PENDING_FAILURE_TTL": str(TTL)})
    image = f"127.0.0.1:{free_port()}/x:1"
    asked = {"image": {"uri": image}, "entrypoint": ["true"], "resourceLimits": {}}
    told: list[tuple[str, str, str]] = []
    with urllib.request.urlopen(f"{server.url}/v1/sandboxes/events", timeout=PATIENCE) as changes:
        status, answer = server.call("POST", "/v1/sandboxes", asked)
        assert (status, answer["code"]) == (503, "DOCKER::SANDBOX_REGISTRY_UNREACHABLE")
        while (line := changes.readline()) != b"event: gone\n":
            if line.startswith(b"data: ") and b'"status"' in line:
                shown = json.loads(line.removeprefix(b"data: "))["status"]
                told.append((shown["state"], shown["reason"], shown["message"]))
    assert told[0][:2] == ("Pending", "SANDBOX_SCHEDULED")
    assert told[-1] == ("Failed", "PROVISIONING_ERROR", answer["message"])
    assert server.call("GET", "/v1/sandboxes")[1]["items"] == []
    mine = {"label": [f"opensandbox.io/instance={server.instance}", "opensandbox.io/id"]}
    assert engine.containers(all=True, filters=mine) == []
