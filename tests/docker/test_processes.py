"""A server of several processes on a real Engine: one server to everybody, whichever process a connection reaches."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

pytestmark = pytest.mark.timeout(180)
PATIENCE = 20.0
TRIES = 12
"""Connections that hardly all reach the same one of three processes."""
TABLES: dict[str, dict[str, Any]] = {
    "server": {"workers": 3, "api_key": "key"},
    "ingress": {"mode": "gateway"},
    "ingress.gateway": {"address": "gateway.test"},
    "ingress.gateway.route": {"mode": "header"},
}
COMMAND = ["python3", "-m", "http.server", "8000", "--bind", "0.0.0.0"]


def workers_of(server: ServerProcess) -> list[int]:
    """The processes that the server has started."""
    assert server.process is not None
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def create(server: ServerProcess) -> str:
    """A sandbox with a web server in it."""
    body = {
        "image": {"uri": SANDBOX_IMAGE},
        "entrypoint": COMMAND,
        "timeout": 300,
        "resourceLimits": {"cpu": "500m", "memory": "128Mi"},
    }
    status, made = server.call("POST", "/v1/sandboxes", body)
    assert status in {200, 201, 202}, made
    found: str = made["id"]
    return found


def statuses(server: ServerProcess, sandbox: str) -> set[int]:
    """What many connections of their own hear from the sandbox."""
    headers = {"OpenSandbox-Ingress-To": f"{sandbox}-8000"}
    return {server.call("GET", "/", headers=headers)[0] for _ in range(TRIES)}


def metric(server: ServerProcess, name: str) -> float:
    """One value of a scrape."""
    _, text = server.call("GET", "/metrics")
    (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return float(line.split()[1])


def all_serve(server: ServerProcess) -> bool:
    """Whether both workers do."""
    return metric(server, "opensandbox_gateway_workers") == 2


@pytest.fixture
def server(start_server: StartServer) -> ServerProcess:
    """Three processes that serve."""
    started = start_server(TABLES)
    wait_until(lambda: all_serve(started), PATIENCE, "the start of the workers")
    return started


def test_one_server(server: ServerProcess) -> None:
    """A sandbox is there for every connection once its creation is answered, and gone once its deletion is."""
    sandbox = create(server)
    assert statuses(server, sandbox) == {200}
    wait_until(lambda: traffic(server, sandbox) == TRIES, PATIENCE, "the report of all requests")
    assert server.call("DELETE", f"/v1/sandboxes/{sandbox}")[0] == 204
    assert statuses(server, sandbox) == {410}


def traffic(server: ServerProcess, sandbox: str) -> int:
    """How many requests the sandbox has had."""
    status, told = server.call("GET", f"/v1/sandboxes/{sandbox}/traffic")
    assert status == 200, told
    requests: int = told["requests"]
    return requests


def test_killed_workers_are_replaced(server: ServerProcess) -> None:
    """Both workers are killed: others serve in their place, and the sandbox is reached as before."""
    sandbox = create(server)
    before = workers_of(server)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(before) & set(workers_of(server)) and all_serve(server), PATIENCE, "the replacement")
    assert statuses(server, sandbox) == {200}
    assert metric(server, "opensandbox_gateway_worker_failures_total") == 2


def test_kill_of_the_first_process(server: ServerProcess) -> None:
    """kill -9 of the first process ends all, and the next start finds port and sandbox."""
    sandbox = create(server)
    workers = workers_of(server)
    server.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in workers), PATIENCE, "the workers' end")
    server.start()
    wait_until(lambda: all_serve(server), PATIENCE, "the start of the workers")
    assert statuses(server, sandbox) == {200}
