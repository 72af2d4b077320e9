"""A create that fails leaves its record for PENDING_FAILURE_TTL seconds, and nothing else."""

from __future__ import annotations

import docker
import pytest

from tests.conftest import StartServer
from tests.server_process import free_port, wait_until

pytestmark = pytest.mark.timeout(120)
PATIENCE = 40.0
TTL = 6


def test_the_record_of_a_failed_create(start_server: StartServer, engine: docker.APIClient) -> None:
    """Failed with its reason, and there is no container; then the record is gone."""
    server = start_server(environment={"PENDING_FAILURE_TTL": str(TTL)})
    image = f"127.0.0.1:{free_port()}/x:1"
    asked = {"image": {"uri": image}, "entrypoint": ["true"], "resourceLimits": {}}
    status, answer = server.call("POST", "/v1/sandboxes", asked)
    assert (status, answer["code"]) == (503, "DOCKER::SANDBOX_REGISTRY_UNREACHABLE")
    seen = server.call("GET", "/v1/sandboxes?state=failed")[1]["items"]
    told = [(item["status"]["reason"], item["status"]["message"]) for item in seen]
    assert told == [("PROVISIONING_ERROR", answer["message"])]
    assert engine.containers(all=True, filters={"label": f"opensandbox.io/instance={server.instance}"}) == []
    wait_until(lambda: server.call("GET", "/v1/sandboxes")[1]["items"] == [], PATIENCE, "the end of the record")
