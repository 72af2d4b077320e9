"""What can be asked about a sandbox, of a whole server on a real Engine: output, events, description, a summary."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.conftest import end_server
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

pytestmark = pytest.mark.timeout(120)
PATIENCE = 30.0
SCRIPT = "echo first; until [ -e /go ]; do sleep 0.05; done; echo second; sleep 600"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, images: tuple[str, str]) -> Iterator[ServerProcess]:
    """One server for all of them."""
    server = ServerProcess(tmp_path_factory.mktemp("diagnostics"), {}).start()
    yield server
    end_server(server)


@pytest.fixture
def path(server: ServerProcess) -> str:
    """Of the diagnostics of a sandbox that has written one line and waits for a file."""
    environment = {"API_TOKEN": "hush", "PLAIN": "seen"}
    asked = {"image": {"uri": SANDBOX_IMAGE}, "entrypoint": ["sh", "-c", SCRIPT], "resourceLimits": {}}
    status, made = server.call("POST", "/v1/sandboxes", {**asked, "env": environment})
    assert status == 202, made
    path = f"/v1/sandboxes/{made['id']}/diagnostics"
    wait_until(lambda: "first" in server.call("GET", f"{path}/logs")[1], PATIENCE, "the first line")
    return path


def go_on(engine: docker.APIClient, path: str) -> None:
    """Makes the file."""
    ran = engine.exec_create(f"sandbox-{Path(path).parts[3]}", ["touch", "/go"])
    engine.exec_start(ran["Id"])


def test_output_as_it_comes(server: ServerProcess, path: str, engine: docker.APIClient) -> None:
    """A follower has read what there was before the rest is even written."""
    with urllib.request.urlopen(f"{server.url}{path}/logs?follow=true", timeout=PATIENCE) as answer:
        assert answer.readline().endswith(b" first\n")
        go_on(engine, path)
        assert answer.readline().endswith(b" second\n")


def test_the_last_lines(server: ServerProcess, path: str, engine: docker.APIClient) -> None:
    """So many of them, each with its time."""
    go_on(engine, path)
    wait_until(lambda: "second" in server.call("GET", f"{path}/logs")[1], PATIENCE, "the second line")
    (line,) = server.call("GET", f"{path}/logs?tail=1")[1].splitlines()
    assert line.startswith("20")
    assert line.endswith(" second")


def test_events_and_description(server: ServerProcess, path: str) -> None:
    """What happened and what it is; secrets and the server's own notes are in none of it, the summary has it all."""
    assert server.call("POST", f"{Path(path).parent}/pause")[0] == 202
    events = server.call("GET", f"{path}/events?limit=50")[1]
    assert "Status: Paused (CONTAINER_PAUSED)" in events
    assert [word for word in ("Pending", "Running", "Paused") if f" {word}" in events] == [
        "Pending",
        "Running",
        "Paused",
    ]
    inspect = server.call("GET", f"{path}/inspect")[1]
    assert f"Image: {SANDBOX_IMAGE}" in inspect
    assert "PLAIN=seen" in inspect
    summary = server.call("GET", f"{path}/summary")[1]
    assert "first" in summary.partition("== Logs ==")[2]
    for text in (events, inspect, summary):
        assert "hush" not in text
        assert "opensandbox.io/" not in text


def test_out_of_memory_is_an_event(server: ServerProcess) -> None:
    """With the reason in the status, the words among the events, and the exit code."""
    glutton = ["python3", "-c", "x = bytearray(200 << 20)"]
    asked = {"image": {"uri": SANDBOX_IMAGE}, "entrypoint": ["sh", "-c", f"exec {glutton[0]} -c '{glutton[2]}'"]}
    made = server.call("POST", "/v1/sandboxes", {**asked, "resourceLimits": {"memory": "24Mi"}})[1]
    path = f"/v1/sandboxes/{made['id']}"
    reason = "CONTAINER_OOM_KILLED"
    wait_until(lambda: server.call("GET", path)[1]["status"]["reason"] == reason, PATIENCE, "the reason")
    events = server.call("GET", f"{path}/diagnostics/events?limit=50")[1]
    assert "OOMKilled: the sandbox ran out of memory" in events
    assert "exited with code 137" in events
