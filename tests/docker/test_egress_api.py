"""Network policies as callers of the API see them: the whole server, a real Engine, a sidecar that really refuses."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from manager.domain.sandbox import EGRESS_PORT, EXECD_PORT
from tests.conftest import StartServer
from tests.docker.test_egress import TARGET, egress_image
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

pytestmark = pytest.mark.timeout(120)
AUTH = "OPENSANDBOX-EGRESS-AUTH"
PATIENCE = 20.0
KEY = "api-key"
GATEWAY = {
    "ingress": {"mode": "gateway"},
    "ingress.gateway": {"address": "gateway.test"},
    "ingress.gateway.route": {"mode": "header"},
}
DENY = {"defaultAction": "allow", "egress": [{"action": "deny", "target": f"{TARGET}/32"}]}
TABLES = {"direct": {}, "gateway": GATEWAY}
Serve = Callable[[str], ServerProcess]

__all__ = ["egress_image"]


@pytest.fixture
def serve(start_server: StartServer, egress_image: str) -> Serve:
    """A server with a sidecar image, in direct or gateway mode."""
    egress = {"egress": {"image": egress_image, "mode": "dns+nft"}}
    server = {"server": {"api_key": KEY}}
    return lambda mode: start_server({**TABLES[mode], **egress, **server})


def create(server: ServerProcess, **changes: Any) -> str:
    """The path of a new sandbox with the policy."""
    body = {
        "image": {"uri": SANDBOX_IMAGE},
        "entrypoint": ["sleep", "600"],
        "timeout": 600,
        "resourceLimits": {},
        "networkPolicy": DENY,
        **changes,
    }
    status, made = server.call("POST", "/v1/sandboxes", body)
    assert status == 202, made
    return f"/v1/sandboxes/{made['id']}"


def locate(server: ServerProcess, path: str, port: int) -> tuple[str, dict[str, str]]:
    """The base address of a port of the sandbox, and the headers that it asks for."""
    status, endpoint = server.call("GET", f"{path}/endpoints/{port}")
    assert status == 200, endpoint
    address = endpoint["endpoint"].replace("gateway.test", server.address)
    return f"http://{address}", endpoint.get("headers", {})


def send(url: str, headers: dict[str, str], body: Any = None) -> tuple[int, str]:
    """One request; a refusal is an answer too."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def reaches(server: ServerProcess, path: str, port: int) -> bool:
    """Whether code inside gets through to this host."""
    execd, headers = locate(server, path, EXECD_PORT)
    wait_until(lambda: _pings(execd, headers), PATIENCE, "an execd that answers")
    script = f"import socket; socket.create_connection(('{TARGET}', {port}), 2)"
    return "execution_complete" in send(f"{execd}/command", headers, {"argv": ["python3", "-c", script]})[1]


def _pings(execd: str, headers: dict[str, str]) -> bool:
    try:
        return send(f"{execd}/ping", headers)[0] == 200
    except OSError:
        return False


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of this host on which whoever gets there is accepted."""
    with socket.create_server((TARGET, 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("mode", ["direct", "gateway"])
def test_the_policy_of_a_running_sandbox_is_changed_through_the_api(serve: Serve, mode: str, listening: int) -> None:
    """GET shows it, DELETE lifts a rule, PATCH adds one, PUT replaces all: each holds for the next connection."""
    server = serve(mode)
    path = create(server)
    policy = f"{path}/networkpolicy"
    assert server.call("GET", policy)[1]["policy"] == DENY
    assert not reaches(server, path, listening)
    assert server.call("DELETE", policy, [f"{TARGET}/32"])[0] == 200
    assert reaches(server, path, listening)
    assert server.call("PATCH", policy, DENY["egress"])[0] == 200
    assert server.call("GET", policy)[1]["policy"]["egress"] == DENY["egress"]
    assert not reaches(server, path, listening)
    assert server.call("PUT", policy, {"defaultAction": "allow"})[0] == 200
    assert reaches(server, path, listening)


@pytest.mark.parametrize("mode", ["direct", "gateway"])
def test_the_endpoint_of_the_sidecar_comes_with_its_token(serve: Serve, mode: str) -> None:
    """Port 18080 with the header that opens it; without the header, or for another port, there is nothing."""
    server = serve(mode)
    path = create(server)
    execd = locate(server, path, EXECD_PORT)
    wait_until(lambda: _pings(*execd), PATIENCE, "an execd that answers")
    sidecar, headers = locate(server, path, EGRESS_PORT)
    status, told = send(f"{sidecar}/policy", headers)
    assert (status, json.loads(told)["policy"]) == (200, DENY)
    assert len(headers.pop(AUTH)) == 32
    assert send(f"{sidecar}/policy", headers)[0] == 401
    assert AUTH not in locate(server, path, EXECD_PORT)[1]


@pytest.mark.defect(13)
def test_the_token_survives_the_server_and_is_shown_to_nobody(serve: Serve) -> None:
    """A killed server still speaks to the sidecars it has started; list, get, inspect and log are silent about it."""
    server = serve("gateway")
    path = create(server)
    token = locate(server, path, EGRESS_PORT)[1][AUTH]
    server.kill()
    server.start()
    assert server.call("GET", f"{path}/networkpolicy")[1]["policy"] == DENY
    shown = [server.call("GET", place) for place in ("/v1/sandboxes", path, f"{path}/diagnostics/inspect")]
    assert {status for status, _ in shown} == {200}
    assert token not in str(shown) + server.output()


def test_a_policy_in_host_mode_is_refused(start_server: StartServer, egress_image: str) -> None:
    """400 naming the field, and nothing is made."""
    server = start_server({"egress": {"image": egress_image}, "docker": {"network_mode": "host"}})
    body = {"image": {"uri": SANDBOX_IMAGE}, "entrypoint": ["sleep", "9"], "resourceLimits": {}, "networkPolicy": DENY}
    status, answer = server.call("POST", "/v1/sandboxes", body)
    assert (status, answer["code"]) == (400, "SANDBOX::INVALID_PARAMETER")
    assert "networkPolicy" in answer["message"]
    assert server.call("GET", "/v1/sandboxes")[1]["items"] == []
