"""Released programs around the SDK, unchanged: the MCP server, the interpreter, the npm package,
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

from tests.clients import older
from tests.clients.modes import MODES, Mode
from tests.clients.names import NameServer
from tests.clients.programs_run import PROGRAMS, Programs, installed
from tests.server_process import SANDBOX_IMAGE, ServerProcess, free_port

NODE_MAJOR = 20
RESULTS = json.loads(older.RESULTS.read_text())
NODE_SAYS = {
    "stdout": ["said"],
    "stderr": ["wrong"],
    "streamed": ["ready", "done"],
    "running": True,
    "session": ["/usr"],
    "file": "text ünïcode",
    "large": True,
    "found": ["/root/a.txt"],
    "state": "Running",
    "connected": ["found"],
    "renewed": True,
    "paused": "Paused",
    "resumed": "Running",
    "kept": "text ünïcode",
    "restored": "text ünïcode",
}
CODE_RUNS = [
    {"stdout": "said\n", "result": ["21"], "error": None, "count": 1},
    {"stdout": "", "result": ["40"], "error": None, "count": 2},
    {"stdout": "", "result": [], "error": "ZeroDivisionError", "count": 3},
]

pytestmark = pytest.mark.timeout(300)


def mcp(tools: Path, programs: Programs, transport: str) -> Any:
    """What an agent was told that used every tool over that transport."""
    server = programs.server
    proxy = ["--use-server-proxy"] if programs.mode.use_server_proxy else []
    arguments = ["--domain", server.address, "--api-key", server.api_key, *proxy]
    drive = tools / "python", PROGRAMS / "drive_mcp.py", transport, SANDBOX_IMAGE
    return json.loads(programs.run(*drive, tools / "opensandbox-mcp", *arguments))


def worked(said: Any, server: ServerProcess) -> None:
    """Every tool did what it says."""
    assert said["called"] == said["tools"]
    assert said["state"] == "Running"
    assert "said" in json.dumps(said["command"])
    assert "/root/d/b" in json.dumps(said["found"])
    assert "one three" in json.dumps(said["file"])
    assert said["id"] in json.dumps(said["list"])
    assert said["metrics"]["cpu_count"] > 0
    assert said["health"]["healthy"] is True
    assert server.call("GET", f"/v1/sandboxes/{said['id']}")[0] == 404


def test_mcp_server(tools: Path, programs: Programs) -> None:
    """An agent's tool calls create a sandbox, work in it and kill it, over standard input and output."""
    worked(mcp(tools, programs, "stdio"), programs.server)


@pytest.mark.parametrize("mode", [MODES["header"]], ids=str, indirect=True)
def test_mcp_server_over_http(tools: Path, programs: Programs) -> None:
    """The same over HTTP; how the agent reaches the MCP server has nothing to do with how that reaches sandboxes."""
    worked(mcp(tools, programs, f"http:{free_port()}"), programs.server)


def test_code_interpreter(tools: Path, programs: Programs) -> None:
    """Contexts keep their names apart, results and errors arrive, code is interrupted, in both flavours."""
    server = programs.server
    drive = tools / "python", PROGRAMS / "drive_interpreter.py"
    said = json.loads(programs.run(*drive, server.address, server.api_key, SANDBOX_IMAGE, programs.proxy))
    both = {"runs": CODE_RUNS, "listed": True, "found": True, "interrupted": "KeyboardInterrupt"}
    assert said["async"] == both | {"healthy": True, "without context": unknown(1), "deleted": 404}
    assert said["sync"] == both | {"without context": unknown(2), "deleted": []}


def unknown(count: int) -> dict[str, Any]:
    """What code is told that uses a name of another context; code without one shares one."""
    return {"stdout": "", "result": [], "error": "NameError", "count": count}


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
    """The JavaScript SDK: commands, streams, files, the life cycle, lists and snapshots."""
    server = programs.server
    output = programs.run(node, package / "drive.mjs", server.address, server.api_key, SANDBOX_IMAGE, programs.proxy)
    said = json.loads(output)
    sandbox_id, endpoint = said.pop("id"), said.pop("endpoint")
    assert endpoint
    assert said.pop("processors") > 0
    assert said.pop("patched").items() >= {"by": "node", "new": "1"}.items()
    assert said == NODE_SAYS | {"listed": [sandbox_id]}


@pytest.mark.parametrize("release", older.locked())
def test_older_sdk(release: str, name_server: NameServer, server_of: Callable[[Mode], ServerProcess]) -> None:
    """An older release does what the table in docs/compatibility.md says, in both flavours and every mode."""
    python = installed(f"sdk-{release}") / "python"
    assert older.drive(python, name_server, server_of) == RESULTS[release]


def test_the_table_of_older_releases_is_what_they_did() -> None:
    """The page says what the runs said, and knows every release that is driven here."""
    page = older.PAGE.read_text()
    assert older.page_with(RESULTS, page) == page
    assert set(older.locked()) < set(RESULTS)
