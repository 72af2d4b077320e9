"""The server is killed at its worst moment and started again: no sandbox is lost, none is left over."""

from __future__ import annotations

import contextlib
import http.client
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import docker
import pytest

from tests.conftest import INSTANCE_LABEL, StartServer
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

ID_LABEL = "opensandbox.io/id"
APP_PORT = 8000
SANDBOXES = 3
SETTLE_SECONDS = 20.0
HALF_MADE_SECONDS = 100.0
"""What was never started may belong to a predecessor that is still at it; the server gives that a minute."""
SOON = timedelta(seconds=2)
AT_ONCE = 6
GATEWAY = {"ingress": {"mode": "gateway"}, "ingress.gateway": {"address": "127.0.0.1:8080"}}
GATEWAY_BY_HEADER = GATEWAY | {"ingress.gateway.route": {"mode": "header"}}
SERVE = ["sh", "-c", f"cd /tmp && echo $OPENSANDBOX_ID > index.html && exec python3 -m http.server {APP_PORT}"]


def request(**more: Any) -> dict[str, Any]:
    """A create request for a sandbox that serves its own id."""
    return {
        "image": {"uri": SANDBOX_IMAGE},
        "entrypoint": SERVE,
        "timeout": 600,
        "resourceLimits": {"cpu": "100m", "memory": "64Mi"},
        **more,
    }


def create(server: ServerProcess, **more: Any) -> dict[str, Any]:
    """Creates one; returns the answer."""
    status, answer = server.call("POST", "/v1/sandboxes", request(**more))
    assert status == 202, answer
    return dict(answer)


def serves_itself(server: ServerProcess, sandbox_id: str) -> bool:
    """Whether the page served through the gateway is that sandbox's own."""
    headers = {"OpenSandbox-Ingress-To": f"{sandbox_id}-{APP_PORT}"}
    return server.call("GET", "/", headers=headers) == (200, f"{sandbox_id}\n")


def containers(engine: docker.DockerClient, label: str) -> list[Any]:
    """What the Engine has with that label, in any state."""
    return list(engine.containers.list(all=True, ignore_removed=True, filters={"label": label}))


def restart(server: ServerProcess) -> None:
    """kill -9 and start."""
    server.kill()
    server.start()


@pytest.fixture
def server(start_server: StartServer) -> ServerProcess:
    """A server in gateway mode."""
    return start_server(GATEWAY_BY_HEADER)


def test_every_sandbox_is_routed_again(server: ServerProcess) -> None:
    """After kill -9 and a start the first request finds each sandbox."""
    made = [create(server)["id"] for _ in range(SANDBOXES)]
    for sandbox_id in made:
        wait_until(lambda sandbox_id=sandbox_id: serves_itself(server, sandbox_id), SETTLE_SECONDS, "the first answer")  # type: ignore[misc]
    restart(server)
    assert [serves_itself(server, sandbox_id) for sandbox_id in made] == [True] * SANDBOXES


def test_expiry_survives(server: ServerProcess) -> None:
    """Both the expiry given at create and a renewed one are the same after kill -9."""
    first, second = create(server), create(server)
    renewed = {"expiresAt": "2099-01-02T03:04:05Z"}
    assert server.call("POST", f"/v1/sandboxes/{second['id']}/renew-expiration", renewed)[0] == 200
    told = [server.call("GET", f"/v1/sandboxes/{made['id']}")[1]["expiresAt"] for made in (first, second)]
    restart(server)
    assert [server.call("GET", f"/v1/sandboxes/{made['id']}")[1]["expiresAt"] for made in (first, second)] == told
    assert told[1].startswith("2099-01-02T03:04:05")


def test_a_repeated_create_makes_no_second_sandbox(server: ServerProcess) -> None:
    """Who does not know whether a create came through sends it again after kill -9, and hears of the first."""
    key = {"Idempotency-Key": "sent-twice"}
    asked = request()
    status, made = server.call("POST", "/v1/sandboxes", asked, headers=key)
    assert status == 202, made
    restart(server)
    status, again = server.call("POST", "/v1/sandboxes", asked, headers={**key, "Prefer": "respond-async"})
    assert (status, again["id"]) == (202, made["id"])
    assert server.call("POST", "/v1/sandboxes", request(timeout=700), headers=key)[0] == 409
    assert listed(server) == {made["id"]}


def test_what_expired_meanwhile_is_gone(server: ServerProcess, engine: docker.DockerClient) -> None:
    """A sandbox whose time ran out while nobody watched is removed at start."""
    made = create(server)["id"]
    end = datetime.now(UTC) + SOON
    renewed = server.call("POST", f"/v1/sandboxes/{made}/renew-expiration", {"expiresAt": end.isoformat()})
    assert renewed[0] == 200
    server.kill()
    assert containers(engine, f"{ID_LABEL}={made}")
    wait_until(lambda: datetime.now(UTC) > end, SETTLE_SECONDS, "the expiry")
    server.start()
    wait_until(lambda: not containers(engine, f"{ID_LABEL}={made}"), SETTLE_SECONDS, "the overdue container's removal")
    assert server.call("GET", f"/v1/sandboxes/{made}")[0] == 410


def listed(server: ServerProcess) -> set[str]:
    """The ids that the API shows."""
    return {sandbox["id"] for sandbox in server.call("GET", "/v1/sandboxes?pageSize=200")[1]["items"]}


def create_and_be_cut_off(server: ServerProcess) -> None:
    """A create whose answer never comes, because the server dies."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.call("POST", "/v1/sandboxes", request())


@pytest.mark.timeout(180)
def test_kill_amid_creates_leaves_nothing_half_made(start_server: StartServer, engine: docker.DockerClient) -> None:
    """The server dies amid creates: later each container is a running sandbox that the list shows, or gone."""
    server = start_server(GATEWAY_BY_HEADER)
    ours = f"{INSTANCE_LABEL}={server.instance}"
    threads = [threading.Thread(target=create_and_be_cut_off, args=[server]) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    wait_until(
        lambda: any(ID_LABEL in container.labels for container in containers(engine, ours)),
        SETTLE_SECONDS,
        "the first sandbox's container",
    )
    server.kill()
    for thread in threads:
        thread.join()
    server.start()

    def settled() -> bool:
        there = {container.labels.get(ID_LABEL): container.status for container in containers(engine, ours)}
        return set(there.values()) <= {"running"} and set(there) == listed(server)

    wait_until(settled, HALF_MADE_SECONDS, "agreement of list and Engine")
