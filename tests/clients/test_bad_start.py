"""Starts that cannot go well: each says in one line what to do, and none hangs."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests.clients.test_restart import create, request
from tests.conftest import StartServer
from tests.engine import engine_socket
from tests.server_process import SERVER, ServerProcess, wait_until

REFUSAL_SECONDS = 60
RECOVERY_SECONDS = 40.0

BROKEN = {
    "malformed TOML": ("[server\nport = 1", "line 1"),
    "no runtime type": ('[runtime]\nexecd_image = "x"', "runtime.type"),
    "no execd image": ('[runtime]\ntype = "docker"', "runtime.execd_image"),
    "another runtime": ('[runtime]\ntype = "podman"\nexecd_image = "x"', "podman"),
    "a port that is none": ('[server]\nport = 70000\n[runtime]\ntype = "docker"\nexecd_image = "x"', "server.port"),
    "no such level": ('[log]\nlevel = "LOUD"\n[runtime]\ntype = "docker"\nexecd_image = "x"', "LOUD"),
    "no such mode": ('[ingress]\nmode = "magic"\n[runtime]\ntype = "docker"\nexecd_image = "x"', "magic"),
}


def run(config: Path) -> tuple[int, str]:
    """Runs the server until it ends by itself; returns exit code and what it wrote."""
    done = subprocess.run(
        [SERVER, "--config", config], capture_output=True, text=True, timeout=REFUSAL_SECONDS, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("text", "named"), BROKEN.values(), ids=list(BROKEN))
def test_broken_configuration(tmp_path: Path, text: str, named: str) -> None:
    """Exit 1; what was written names the file and the mistake, without a traceback."""
    config = tmp_path / "sandbox.toml"
    config.write_text(text)
    code, output = run(config)
    assert code == 1
    assert named in output
    assert str(config) in output
    assert "Traceback" not in output


def test_missing_file(tmp_path: Path) -> None:
    """Exit 1; the message tells how to make one."""
    code, output = run(tmp_path / "none.toml")
    assert code == 1
    assert "init-config" in output


def test_port_in_use(tmp_path: Path) -> None:
    """Exit 1; the message names the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = ServerProcess(tmp_path, {}, port=taken.getsockname()[1])
        code, output = run(server.config)
    assert code == 1
    assert str(server.port) in output
    assert "Traceback" not in output


def test_engine_that_is_down_and_comes_back(start_server: StartServer, tmp_path: Path) -> None:
    """The server starts degraded, says why, answers creates 503, and recovers by itself."""
    engine = tmp_path / "engine.sock"
    server = start_server(environment={"DOCKER_HOST": f"unix://{engine}"}, ready=False)
    assert server.call("GET", "/ready")[0] == 503
    health = server.call("GET", "/health")
    assert (health[0], health[1]["status"]) == (200, "degraded")
    status, answer = server.call("POST", "/v1/sandboxes", request())
    assert (status, set(answer) >= {"code", "message"}) == (503, True)
    engine.symlink_to(engine_socket())
    wait_until(lambda: server.call("GET", "/ready")[0] == 200, RECOVERY_SECONDS, "the recovery")
    assert server.call("GET", "/health")[1] == {"status": "healthy"}
    create(server)
