"""Released programs around the SDK, unchanged: the command line, the MCP server, the npm package, older SDKs.

Each is installed from its registry by a hash-pinned lock into an environment of its own and run as a process. Wildcard
mode is left to the SDK tests: these programs offer no place to resolve its names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright._impl._driver import compute_driver_executable

from tests.clients.modes import MODES, Mode
from tests.server_process import SANDBOX_IMAGE, ServerProcess

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = Path(__file__).parent / "programs"
RUN_SECONDS = 60
NODE_MAJOR = 20
OLD_SDKS = ["0.1.0", "0.1.5", "0.1.10", "0.1.16", "1.1.0"]
ALL_STEPS = ["create", "info", "endpoint", "ping", "command", "files", "metrics", "renew", "pause", "resume", "kill"]
REACHED = [MODES[name] for name in ("direct", "server-proxy", "header", "uri")]

pytestmark = pytest.mark.timeout(300)


def installed(name: str) -> Path:
    """The `bin` of the environment that scripts/lock/NAME.txt describes."""
    subprocess.run([ROOT / "scripts/install", name], check=True, capture_output=True)
    return ROOT / ".venvs" / name / "bin"


def run(*command: str | Path, **environment: str) -> str:
    """Runs a program to its end; returns its output. A failure shows what it wrote."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tools() -> Path:
    """Where the released Python programs are."""
    return installed("tools")


@pytest.fixture(params=REACHED, ids=str)
def mode(request: pytest.FixtureRequest) -> Mode:
    """Every way of addressing that the programs can use."""
    chosen: Mode = request.param
    return chosen


@pytest.fixture
def server(mode: Mode, server_of: Callable[[Mode], ServerProcess]) -> Iterator[ServerProcess]:
    """The running server of the mode, without sandboxes afterwards."""
    running = server_of(mode)
    yield running
    running.delete_all()


@pytest.fixture
def osb(tools: Path, server: ServerProcess, mode: Mode) -> Callable[..., Any]:
    """Calls the command line; its JSON output is parsed."""

    def call(*arguments: str, parse: bool = True) -> Any:
        proxy = "--use-server-proxy" if mode.use_server_proxy else "--no-use-server-proxy"
        output = run(
            tools / "osb", "--domain", server.address, "--api-key", server.api_key, proxy, "--no-color", *arguments,
            HOME=str(server.config.parent),
        )  # fmt: skip
        return json.loads(output) if parse else output

    return call


def test_command_line(osb: Callable[..., Any], tmp_path: Path) -> None:
    """Create, run, files, lists, renew, pause, resume, diagnostics, kill."""
    sandbox_id = osb("sandbox", "create", "-i", SANDBOX_IMAGE, "-t", "10m", "-m", "by=osb", "-o", "json")["id"]
    assert osb("command", "run", sandbox_id, "-o", "raw", "--", "echo", "said", parse=False).strip() == "said"
    (tmp_path / "up").write_text("text")
    osb("file", "upload", sandbox_id, str(tmp_path / "up"), "/root/up", parse=False)
    osb("file", "download", sandbox_id, "/root/up", str(tmp_path / "down"), parse=False)
    assert (tmp_path / "down").read_text() == "text"
    listed = osb("sandbox", "list", "-m", "by=osb", "-s", "running", "-o", "json")
    assert sandbox_id in json.dumps(listed)
    osb("sandbox", "renew", sandbox_id, "-t", "20m", parse=False)
    osb("sandbox", "pause", sandbox_id, parse=False)
    assert osb("sandbox", "get", sandbox_id, "-o", "json")["status"]["state"] == "Paused"
    osb("sandbox", "resume", sandbox_id, parse=False)
    assert sandbox_id in osb("devops", "inspect", sandbox_id, parse=False)
    assert osb("devops", "summary", sandbox_id, parse=False)
    osb("sandbox", "kill", sandbox_id, parse=False)
    assert sandbox_id not in json.dumps(osb("sandbox", "list", "-m", "by=osb", "-o", "json"))


def test_mcp_server(tools: Path, server: ServerProcess, mode: Mode) -> None:
    """An agent's tool calls create a sandbox, work in it and kill it."""
    proxy = ["--use-server-proxy"] if mode.use_server_proxy else []
    arguments = ["--domain", server.address, "--api-key", server.api_key, *proxy]
    output = run(
        tools / "python", PROGRAMS / "drive_mcp.py", SANDBOX_IMAGE, tools / "opensandbox-mcp", *arguments,
        HOME=str(server.config.parent),
    )  # fmt: skip
    said = json.loads(output)
    assert "said" in json.dumps(said["command"])
    assert "text" in json.dumps(said["file"])
    assert said["id"] in json.dumps(said["list"])
    assert server.call("GET", f"/v1/sandboxes/{said['id']}")[0] == 404


def test_code_interpreter_gets_ready(tools: Path, server: ServerProcess, mode: Mode) -> None:
    """The interpreter finds its endpoint and sees that its runtime listens; running code needs the real image."""
    arguments = [server.address, server.api_key, SANDBOX_IMAGE, str(mode.use_server_proxy).lower()]
    said = json.loads(run(tools / "python", PROGRAMS / "drive_interpreter.py", *arguments))
    assert said["healthy"] is True


def new_enough(node: str) -> bool:
    """Whether this Node.js is one the package runs on."""
    shown = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return shown.startswith("v") and int(shown[1:].split(".")[0]) >= NODE_MAJOR


@pytest.fixture(scope="module")
def node() -> str:
    """The system's Node.js, or, where that is too old, the one that comes with the browser tests' driver."""
    for candidate in (shutil.which("node"), str(compute_driver_executable()[0])):
        if candidate is not None and new_enough(candidate):
            return candidate
    pytest.skip(f"Node.js {NODE_MAJOR} is not installed")


@pytest.fixture(scope="module")
def package(node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the npm package and the program that drives it."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(PROGRAMS / "node", folder, dirs_exist_ok=True)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)
    return folder


def test_npm_package(node: str, package: Path, server: ServerProcess, mode: Mode) -> None:
    """The JavaScript SDK's core calls."""
    proxy = str(mode.use_server_proxy).lower()
    said = json.loads(run(node, package / "drive.mjs", server.address, server.api_key, SANDBOX_IMAGE, proxy))
    assert (said["state"], said["paused"], said["resumed"]) == ("Running", "Paused", "Running")
    assert (said["stdout"], said["stderr"], said["file"]) == (["said"], ["wrong"], "text ünïcode")
    assert said["endpoint"]


@pytest.mark.parametrize("mode", [MODES["direct"], MODES["uri"]], ids=str, indirect=True)
@pytest.mark.parametrize("release", OLD_SDKS)
def test_older_sdk(release: str, server: ServerProcess) -> None:
    """The core calls of an older release; docs/compatibility.md tells the same in a table."""
    python = installed(f"sdk-{release}") / "python"
    steps = json.loads(run(python, PROGRAMS / "drive_sdk.py", server.address, server.api_key, SANDBOX_IMAGE))
    assert steps == dict.fromkeys(ALL_STEPS, "ok")
