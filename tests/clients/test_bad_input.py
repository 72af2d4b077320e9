"""What is wrong with a request is said clearly, in the envelope, and leaves nothing behind on the Engine."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from tests.clients.test_restart import GATEWAY_BY_HEADER, SETTLE_SECONDS, containers, create, request
from tests.conftest import INSTANCE_LABEL, end_server
from tests.server_process import ServerProcess, wait_until

TEN_MEGABYTES = 10_000_000
NOBODY_LISTENS = 9
MISSING_IMAGE = "opensandbox-test/there-is-none:1"
MISSING_PROGRAM = "/there/is/none"
NOT_AN_ID = ["not-an-id", "%2e%2e", "a" * 200, "x';%20DROP%20TABLE%20x;--", "%00", "%C3%BF"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, images: None) -> Iterator[ServerProcess]:
    """One server in gateway mode for the whole file."""
    running = ServerProcess(tmp_path_factory.mktemp("bad-input"), GATEWAY_BY_HEADER)
    running.start()
    yield running
    end_server(running)


def raw(server: ServerProcess, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    """One request whose path is sent as it stands."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.putrequest(method, path)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def assert_envelope(answer: Any) -> None:
    """A code and a message for people, and nothing that tells of the inside."""
    assert set(answer) >= {"code", "message"}
    assert "Traceback" not in answer["message"]


def test_image_that_does_not_exist(server: ServerProcess, engine: docker.DockerClient) -> None:
    """The answer names the image (503 where the registry cannot even be asked); no container is left."""
    status, answer = server.call("POST", "/v1/sandboxes", request(image={"uri": MISSING_IMAGE}))
    assert_envelope(answer)
    assert status in (400, 404, 500, 503)
    assert MISSING_IMAGE in answer["message"]
    # On a new Engine execd is being unpacked beside the pull; that helper ends by itself.
    wait_until(lambda: not containers(engine, f"{INSTANCE_LABEL}={server.instance}"), SETTLE_SECONDS, "an empty Engine")


def test_program_that_does_not_exist(server: ServerProcess) -> None:
    """A sandbox that dies at once is shown as ended, with a message, and can be deleted."""
    sandbox_id = create(server, entrypoint=[MISSING_PROGRAM])["id"]

    def status() -> dict[str, str]:
        return dict(server.call("GET", f"/v1/sandboxes/{sandbox_id}")[1]["status"])

    wait_until(lambda: status()["state"] in ("Terminated", "Failed"), SETTLE_SECONDS, "the end of the sandbox")
    assert status()["message"]
    assert server.call("DELETE", f"/v1/sandboxes/{sandbox_id}")[0] == 204


@pytest.mark.parametrize("sandbox_id", NOT_AN_ID)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_id_that_is_not_one(server: ServerProcess, method: str, sandbox_id: str) -> None:
    """404 (400 where the path itself is malformed), in the envelope."""
    status, answer = raw(server, method, f"/v1/sandboxes/{sandbox_id}")
    assert status in (400, 404)
    assert_envelope(answer)


@pytest.mark.parametrize("path", ["/v1/sandboxes/../sandboxes", "/../etc/passwd", "/v1/%2e%2e/%2e%2e/etc/passwd"])
def test_path_with_dots(server: ServerProcess, path: str) -> None:
    """Dots lead nowhere."""
    status, answer = raw(server, "GET", path)
    assert status in (400, 404)
    assert_envelope(answer)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"image":', b"not json"])
def test_body_that_is_not_an_object(server: ServerProcess, body: bytes) -> None:
    """400, and the message says so."""
    status, answer = raw(server, "POST", "/v1/sandboxes", body)
    assert status == 400
    assert_envelope(answer)


def test_body_of_ten_megabytes(server: ServerProcess) -> None:
    """Refused by its size, before anybody parses it."""
    body = json.dumps(request(metadata={"much": "x" * TEN_MEGABYTES})).encode()
    status, answer = server.call("POST", "/v1/sandboxes", body)
    assert status in (400, 413)
    assert_envelope(answer)


def test_port_nobody_listens_on(server: ServerProcess) -> None:
    """504 with a reason that names the port and no address inside; other ports are not affected."""
    sandbox_id = create(server)["id"]
    headers = {"OpenSandbox-Ingress-To": f"{sandbox_id}-{NOBODY_LISTENS}"}
    status, answer = server.call("GET", "/", headers=headers)
    assert status == 504
    assert_envelope(answer)
    assert "172." not in json.dumps(answer)
    server.call("DELETE", f"/v1/sandboxes/{sandbox_id}")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "80.5", "%31%2e"])
def test_port_that_is_not_one(server: ServerProcess, port: str) -> None:
    """400 or 404, and never somebody else's port."""
    sandbox_id = create(server)["id"]
    status, answer = raw(server, "GET", f"/v1/sandboxes/{sandbox_id}/endpoints/{port}")
    assert status in (400, 404)
    assert_envelope(answer)
    server.call("DELETE", f"/v1/sandboxes/{sandbox_id}")


def test_nothing_was_left(server: ServerProcess, engine: docker.DockerClient) -> None:
    """After all these refusals the Engine holds nothing of this server's; failed creates are on record only."""
    left = server.call("GET", "/v1/sandboxes")[1]["items"]
    assert {sandbox["status"]["state"] for sandbox in left} <= {"Failed"}
    assert containers(engine, f"{INSTANCE_LABEL}={server.instance}") == []
