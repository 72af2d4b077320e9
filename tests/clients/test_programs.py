"""Released programs around the SDK, unchanged: the command line, the MCP server, the interpreter, the npm package,
older SDKs.

Each is installed from its registry by a hash-pinned lock into an environment of its own and run as a process.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright._impl._driver import compute_driver_executable

from tests.clients.modes import MODES
from tests.clients.programs_run import PROGRAMS, Programs, installed
from tests.server_process import SANDBOX_IMAGE

NODE_MAJOR = 20
OLD_SDKS = ["0.1.0", "0.1.5", "0.1.10", "0.1.16", "1.1.0"]
ALL_STEPS = ["create", "info", "endpoint", "ping", "command", "files", "metrics", "renew", "pause", "resume", "kill"]
CODE_RUNS = [
    {"stdout": "said\n", "result": ["21"], "error": None, "count": 1},
    {"stdout": "", "result": ["40"], "error": None, "count": 2},
    {"stdout": "", "result": [], "error": "ZeroDivisionError", "count": 3},
]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def tools() -> Path:
    """Where the released Python programs are."""
    return installed("tools")


@pytest.fixture
def osb(tools: Path, programs: Programs) -> Callable[..., Any]:
    """Calls the command line; its JSON output is parsed."""

    def call(*arguments: str, parse: bool = True) -> Any:
        proxy = "--use-server-proxy" if programs.mode.use_server_proxy else "--no-use-server-proxy"
        server = programs.server
        output = programs.run(
            tools / "osb", "--domain", server.address, "--api-key", server.api_key, proxy, "--no-color", *arguments
        )
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
    assert osb("sandbox", "metrics", sandbox_id, "-o", "json")["cpu_count"] > 0
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


def test_mcp_server(tools: Path, programs: Programs) -> None:
    """An agent's tool calls create a sandbox, work in it and kill it."""
    server = programs.server
    proxy = ["--use-server-proxy"] if programs.mode.use_server_proxy else []
    arguments = ["--domain", server.address, "--api-key", server.api_key, *proxy]
    drive = tools / "python", PROGRAMS / "drive_mcp.py"
    said = json.loads(programs.run(*drive, SANDBOX_IMAGE, tools / "opensandbox-mcp", *arguments))
    assert "said" in json.dumps(said["command"])
    assert "text" in json.dumps(said["file"])
    assert said["id"] in json.dumps(said["list"])
    assert server.call("GET", f"/v1/sandboxes/{said['id']}")[0] == 404


def test_code_interpreter(tools: Path, programs: Programs) -> None:
    """Contexts keep their names apart, results and errors arrive, code is interrupted, in both flavours."""
    server = programs.server
    drive = tools / "python", PROGRAMS / "drive_interpreter.py"
    said = json.loads(programs.run(*drive, server.address, server.api_key, SANDBOX_IMAGE, programs.proxy))
    assert said["async"] == {
        "healthy": True,
        "runs": CODE_RUNS,
        "without context": {"stdout": "", "result": [], "error": "NameError", "count": 1},
        "listed": True,
        "interrupted": "KeyboardInterrupt",
        "deleted": 404,
    }
    assert said["sync"] == {"runs": CODE_RUNS, "listed": True, "deleted": []}


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


def test_npm_package(node: str, package: Path, programs: Programs) -> None:
    """The JavaScript SDK's core calls."""
    server = programs.server
    output = programs.run(node, package / "drive.mjs", server.address, server.api_key, SANDBOX_IMAGE, programs.proxy)
    said = json.loads(output)
    assert (said["state"], said["paused"], said["resumed"]) == ("Running", "Paused", "Running")
    assert (said["stdout"], said["stderr"], said["file"]) == (["said"], ["wrong"], "text ünïcode")
    assert said["endpoint"]


@pytest.mark.parametrize("mode", [MODES["direct"], MODES["uri"], MODES["wildcard"]], ids=str, indirect=True)
@pytest.mark.parametrize("release", OLD_SDKS)
def test_older_sdk(release: str, programs: Programs) -> None:
    """The core calls of an older release; docs/compatibility.md tells the same in a table."""
    python = installed(f"sdk-{release}") / "python"
    server = programs.server
    steps = json.loads(programs.run(python, PROGRAMS / "drive_sdk.py", server.address, server.api_key, SANDBOX_IMAGE))
    assert steps == dict.fromkeys(ALL_STEPS, "ok")
