"""The stand-in for execd by itself: what the tests of released clients rely on."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.server_process import free_port, wait_until

PROGRAM = Path(__file__).parent.parent / "images" / "execd"
PATIENCE = 20.0
TOKEN_HEADER = "X-EXECD-ACCESS-TOKEN"
NOBODY = 65534
ENDLESS = "print('begun', flush=True)\nwhile True: pass"


@dataclass(frozen=True, slots=True)
class Execd:
    """One that runs on this host."""

    port: int

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """One request; returns status and body, parsed where it is JSON."""
        status, data = self.raw(method, path, None if body is None else json.dumps(body).encode(), **headers)
        try:
            return status, json.loads(data)
        except ValueError:
            return status, data.decode()

    def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """The same with bytes."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, names, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read()

    def events(self, path: str, body: Any) -> list[dict[str, Any]]:
        """All events of a stream."""
        status, data = self.raw("POST", path, json.dumps(body).encode())
        assert status == 200, data
        return [json.loads(event) for event in data.split(b"\n\n") if event]

    def said(self, path: str, body: Any) -> list[str]:
        """The lines on standard output of what runs there, as they are."""
        return [event["text"] for event in self.events(path, body) if event["type"] == "stdout"]

    def until_said(self, path: str, body: Any, text: str) -> tuple[str, socket.socket]:
        """Begins a stream, reads until that text has come, and leaves it open; gives the id of what runs too."""
        data = json.dumps(body).encode()
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        head = f"POST {path} HTTP/1.1\r\nHost: execd\r\nContent-Length: {len(data)}\r\n\r\n"
        client.sendall(head.encode() + data)
        received = b""
        while text.encode() not in received:
            received += client.recv(4096)
        return json.loads(received[received.index(b"{") : received.index(b"}") + 1])["text"], client


@contextlib.contextmanager
def running(**environment: str) -> Iterator[Execd]:
    """One with a port of its own, until the end of the block."""
    execd = Execd(free_port())
    own = {**os.environ, "EXECD_PORT": str(execd.port), **environment}
    with subprocess.Popen([sys.executable, PROGRAM], env=own, start_new_session=True) as process:
        try:
            wait_until(lambda: answers(execd), PATIENCE, "the stand-in's start")
            yield execd
        finally:
            process.kill()


def answers(execd: Execd) -> bool:
    """Whether somebody listens."""
    with contextlib.suppress(OSError):
        execd.call("GET", "/ping")
        return True
    return False


@pytest.fixture(scope="module")
def execd() -> Iterator[Execd]:
    """One for all tests that leave nothing behind."""
    with running() as execd:
        yield execd


@pytest.fixture
def session(execd: Execd) -> str:
    """The path of a new session."""
    made = execd.call("POST", "/session", {"cwd": "/usr"})[1]
    return f"/session/{made['session_id']}"


@pytest.fixture
def context(execd: Execd) -> dict[str, str]:
    """A new context for code."""
    made: dict[str, str] = execd.call("POST", "/code/context", {"language": "python"})[1]
    return made


def test_a_session_keeps_what_its_shell_knows(execd: Execd, session: str) -> None:
    """Folder, variables and functions last from run to run; both outputs and the exit code are the run's own."""
    execd.events(f"{session}/run", {"command": "cd /tmp; name=kept; say() { echo $name; echo aside >&2; }"})
    told = execd.events(f"{session}/run", {"command": "pwd; say; false"})
    assert [event["text"] for event in told if event["type"] == "stdout"] == ["/tmp", "kept"]
    assert [event["text"] for event in told if event["type"] == "stderr"] == ["aside"]
    assert [event["error"]["evalue"] for event in told if event["type"] == "error"] == ["1"]


def test_a_run_may_choose_its_folder(execd: Execd, session: str) -> None:
    """A run that names a folder is in it."""
    assert execd.said(f"{session}/run", {"command": "pwd", "cwd": "/tmp"}) == ["/tmp"]


def test_a_shell_that_ends_is_followed_by_another(execd: Execd, session: str) -> None:
    """`exit` is a run's exit code; the next run begins where the session began, and knows nothing of before."""
    told = execd.events(f"{session}/run", {"command": "cd /tmp; name=lost; exit 7"})
    assert told[-1]["error"]["evalue"] == "7"
    assert execd.said(f"{session}/run", {"command": 'pwd; echo "-$name-"'}) == ["/usr", "--"]


def test_a_run_that_takes_too_long_is_ended(execd: Execd, session: str) -> None:
    """The timeout is in milliseconds; the session goes on with a new shell."""
    told = execd.events(f"{session}/run", {"command": "sleep 600", "timeout": 50})
    assert told[-1]["type"] == "error"
    assert execd.said(f"{session}/run", {"command": "echo on"}) == ["on"]


def test_runs_of_a_session_wait_for_each_other(execd: Execd, session: str) -> None:
    """Two at once run one after the other, never into each other."""
    script = {"command": "echo in; sleep 0.1; echo out"}
    said: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: said.append(execd.said(f"{session}/run", script)), daemon=True) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [["in", "out"], ["in", "out"]]


def test_a_deleted_session_is_gone(execd: Execd, session: str) -> None:
    """404 for whoever still knows its id; a session in no folder is refused."""
    assert execd.call("DELETE", session)[0] == 200
    assert execd.call("POST", f"{session}/run", {"command": "true"})[0] == 404
    assert execd.call("POST", "/session", {"cwd": "/no/such/folder"})[0] == 400


def test_code_has_output_result_and_count(execd: Execd, context: dict[str, str]) -> None:
    """The value of a last expression is the result; names last; the count goes up."""
    first = execd.events("/code", {"code": "print('said'); x = 20\nx + 1", "context": context})
    assert [event["type"] for event in first] == ["init", "stdout", "result", "execution_count", "execution_complete"]
    second = execd.events("/code", {"code": "x * 2", "context": context})
    assert [event["results"]["text"] for event in second if event["type"] == "result"] == ["40"]
    assert [event["execution_count"] for event in first + second if "execution_count" in event] == [1, 2]


def test_contexts_are_apart(execd: Execd, context: dict[str, str]) -> None:
    """A name of one is unknown in another, and an error is no end of the context."""
    execd.events("/code", {"code": "mine = 1", "context": context})
    other = execd.call("POST", "/code/context", {"language": "python"})[1]
    told = execd.events("/code", {"code": "mine", "context": other})
    assert [event["error"]["ename"] for event in told if event["type"] == "error"] == ["NameError"]
    assert execd.events("/code", {"code": "1", "context": other})[-1]["type"] == "execution_complete"


def test_code_is_interrupted(execd: Execd, context: dict[str, str]) -> None:
    """An interrupt ends the code that runs, and the context goes on."""
    began, client = execd.until_said("/code", {"code": ENDLESS, "context": context}, "begun")
    assert began == context["id"]
    assert execd.call("DELETE", f"/code?id={began}")[0] == 200
    with client, client.makefile("rb") as rest:
        assert b"KeyboardInterrupt" in next(line for line in rest if b"ename" in line)
    assert execd.said("/code", {"code": "print('on')", "context": context}) == ["on\n"]


def test_code_ends_when_its_client_leaves(execd: Execd, context: dict[str, str]) -> None:
    """Nobody listens any more, so endless code does not hold up the next."""
    endless = "print('begun', flush=True)\nwhile True: print('more', flush=True)"
    execd.until_said("/code", {"code": endless, "context": context}, "begun")[1].close()
    assert execd.said("/code", {"code": "print('on')", "context": context}) == ["on\n"]


def test_contexts_are_listed_and_deleted(execd: Execd, context: dict[str, str]) -> None:
    """One that is deleted is on no list and runs no code; languages it has not are refused."""
    assert context in execd.call("GET", "/code/contexts?language=python")[1]
    assert execd.call("DELETE", f"/code/contexts/{context['id']}")[0] == 200
    assert context not in execd.call("GET", "/code/contexts?language=python")[1]
    assert execd.call("POST", "/code", {"code": "1", "context": context})[0] == 404
    assert execd.call("POST", "/code/context", {"language": "java"})[0] == 400


def test_a_command_ends_when_its_client_leaves(execd: Execd) -> None:
    """What nobody listens to any more is killed at its next word."""
    endless = "echo begun; while :; do echo more; done"
    command, client = execd.until_said("/command", {"command": endless}, "begun")
    assert execd.call("GET", f"/command/status/{command}")[1]["running"]
    client.close()
    wait_until(lambda: not execd.call("GET", f"/command/status/{command}")[1]["running"], PATIENCE, "the end")


def test_a_background_command_is_followed_by_its_log(execd: Execd) -> None:
    """It has a status, a log with a cursor, and an exit code at the end."""
    [begun, *_] = execd.events("/command", {"command": "echo one; echo two; exit 3", "background": True})
    status = f"/command/status/{begun['text']}"
    wait_until(lambda: not execd.call("GET", status)[1]["running"], PATIENCE, "the end")
    assert execd.call("GET", status)[1]["exit_code"] == 3
    assert execd.call("GET", f"/command/{begun['text']}/logs?cursor=1") == (200, "two\n")


def test_an_isolated_session_is_a_shell_in_its_workspace(execd: Execd, tmp_path: Path) -> None:
    """It is made, listed, run in, in the background too, and deleted; the stand-in isolates nothing, and says so."""
    path = "/v1/isolated/session"
    status, made = execd.call("POST", path, {"workspace": {"path": str(tmp_path)}})
    one = f"{path}/{made['session_id']}"
    assert (status, execd.said(f"{one}/run", {"code": "pwd; echo $X", "envs": {"X": "it's"}})) == (
        201,
        [str(tmp_path), "it's"],
    )
    status, run = execd.call("POST", f"{one}/run", {"code": "echo one; exit 3", "background": True})
    wait_until(lambda: not execd.call("GET", f"{one}/runs/{run['run_id']}")[1]["running"], PATIENCE, "the end")
    assert (status, execd.call("GET", f"{one}/runs/{run['run_id']}")[1]["exit_code"]) == (202, 3)
    assert execd.call("GET", f"{one}/runs/{run['run_id']}/logs?cursor=2") == (200, "e\n")
    assert execd.call("GET", "/v1/isolated/capabilities")[1]["isolator"] == "none"
    assert made["session_id"] in json.dumps(execd.call("GET", "/v1/isolated/sessions")[1])
    assert execd.call("DELETE", one)[0] == 200
    assert execd.call("GET", one)[0] == 404


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as others")
def test_files_as_another_user(execd: Execd, tmp_path: Path) -> None:
    """What root may read another may not; the next request is root's again."""
    secret = tmp_path / "secret"
    secret.write_text("kept")
    secret.chmod(0o600)
    asked = "files/download?" + urllib.parse.urlencode({"path": secret})
    assert execd.call("GET", f"/v1/filesystem/{NOBODY}/{NOBODY}/{asked}")[0] == 403
    assert execd.call("GET", f"/{asked}") == (200, "kept")


def test_a_range_of_a_file(execd: Execd, tmp_path: Path) -> None:
    """By bytes as HTTP says it, and by lines."""
    file = tmp_path / "file"
    file.write_text("first\nsecond\nthird\n")
    query = urllib.parse.urlencode({"path": file})
    assert execd.call("GET", f"/files/download?{query}", Range="bytes=6-11") == (206, "second")
    assert execd.call("GET", f"/files/download?{query}&offset=2&limit=1") == (200, "second")


def test_a_token_is_asked_for_where_one_is_set() -> None:
    """Every path, also the relay to other ports."""
    with running(EXECD_ACCESS_TOKEN="right") as execd:
        assert [execd.call("GET", path)[0] for path in ("/ping", "/proxy/8000/")] == [401, 401]
        assert execd.raw("GET", "/ping", X_EXECD_ACCESS_TOKEN="right")[0] == 200
