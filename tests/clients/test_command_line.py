"""The released command line `osb`, unchanged, in every way of addressing: each of its commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.command_line import Osb
from tests.clients.modes import MODES
from tests.clients.programs_run import Programs
from tests.server_process import SANDBOX_IMAGE, wait_until

OWN_FILES = {"config": ("init", "set", "show"), "skills": ("install", "list", "show", "uninstall")}
NO_SERVER = {f"{group} {command}" for group, commands in OWN_FILES.items() for command in commands}
"""What only touches files of the user's own."""
SNAPSHOT_SECONDS = END_SECONDS = 30
TARGET, OTHER_TARGET = "192.0.2.0/24", "198.51.100.0/24"
POLICY = {
    "defaultAction": "allow",
    "egress": [{"action": "deny", "target": TARGET}, {"action": "allow", "target": "api.example.test"}],
}
"""A vault needs a rule for each of its hosts."""
SECRET = "never-shown"
VAULT = {
    "credentials": [{"name": "token", "source": {"type": "inline", "value": SECRET}}],
    "bindings": [
        {
            "name": "api",
            "match": {"schemes": ["https"], "hosts": ["api.example.test"]},
            "auth": {"type": "bearer", "credential": "token"},
        }
    ],
}
OTHER = {"name": "other", "source": {"type": "inline", "value": SECRET}}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def osb(tools: Path, programs: Programs) -> Iterator[Osb]:
    """The command line in a mode."""
    with Osb.started(tools, programs) as command_line:
        yield command_line


@pytest.fixture
def sandbox(osb: Osb) -> str:
    """The id of a sandbox that `osb` made; it says something and serves nothing."""
    speaks = ("--entrypoint", "sh", "--entrypoint", "-c", "--entrypoint", "echo spoken; exec sleep 600")
    return str(osb.json("sandbox", "create", "-i", SANDBOX_IMAGE, "-t", "10m", "-m", "by=osb", *speaks)["id"])


def test_every_command(osb: Osb, sandbox: str, tmp_path: Path) -> None:
    """Whatever `osb` offers works, or, where this server has nothing of the kind, says so."""
    for step in STEPS:
        step(osb, sandbox, tmp_path)
    assert osb.called | NO_SERVER == osb.commands()


def life(osb: Osb, sandbox: str, folder: Path) -> None:
    """Looked at, measured, renewed, put to sleep and woken."""
    assert sandbox in json.dumps(osb.json("sandbox", "list", "-m", "by=osb", "-s", "running"))
    assert "8000" in json.dumps(osb.json("sandbox", "endpoint", sandbox, "-p", "8000"))
    assert osb.json("sandbox", "health", sandbox)["healthy"] is True
    assert osb.json("sandbox", "metrics", sandbox)["cpu_count"] > 0
    before = osb.json("sandbox", "get", sandbox)["expires_at"]
    osb.text("sandbox", "renew", sandbox, "-t", "20m")
    osb.text("sandbox", "pause", sandbox)
    paused = osb.json("sandbox", "get", sandbox)
    assert (paused["status"]["state"], paused["expires_at"] > before) == ("Paused", True)
    osb.text("sandbox", "resume", sandbox)


def commands(osb: Osb, sandbox: str, folder: Path) -> None:
    """In the foreground, in the background, and in a session that keeps its folder."""
    assert osb.text("command", "run", sandbox, "--", "echo", "said").strip() == "said"
    assert osb.text("command", "run", sandbox, "--argv", "--", "echo", "$HOME").strip() == "$HOME"
    running = osb.json("command", "run", sandbox, "-d", "--", "sh", "-c", "echo begun; exec sleep 600")["execution_id"]
    wait_until(lambda: "begun" in osb.text("command", "logs", sandbox, running), END_SECONDS, "the output")
    assert osb.json("command", "status", sandbox, running)["running"] is True
    osb.text("command", "interrupt", sandbox, running)
    wait_until(lambda: not osb.json("command", "status", sandbox, running)["running"], END_SECONDS, "the end")
    session = osb.json("command", "session", "create", sandbox, "-w", "/usr")["session_id"]
    assert osb.text("command", "session", "run", sandbox, session, "--", "pwd").strip() == "/usr"
    osb.text("command", "session", "delete", sandbox, session)


def files(osb: Osb, sandbox: str, folder: Path) -> None:
    """Up, down, made, changed, found, moved and removed."""
    (folder / "up").write_text("text")
    osb.text("file", "upload", sandbox, str(folder / "up"), "/root/up")
    osb.text("file", "download", sandbox, "/root/up", str(folder / "down"))
    assert (folder / "down").read_text() == "text"
    osb.text("file", "mkdir", sandbox, "/root/d", "--mode", "0755")
    osb.text("file", "write", sandbox, "/root/d/a", "-c", "one two")
    osb.text("file", "replace", sandbox, "/root/d/a", "--old", "two", "--new", "three")
    assert osb.text("file", "cat", sandbox, "/root/d/a").strip() == "one three"
    osb.text("file", "chmod", sandbox, "/root/d/a", "--mode", "0600")
    assert "600" in json.dumps(osb.json("file", "info", sandbox, "/root/d/a"))
    osb.text("file", "mv", sandbox, "/root/d/a", "/root/d/b")
    assert "/root/d/b" in json.dumps(osb.json("file", "search", sandbox, "/root/d", "-p", "*"))
    osb.text("file", "rm", sandbox, "/root/d/b")
    osb.text("file", "rmdir", sandbox, "/root/d")
    osb.refused("file", "info", sandbox, "/root/d")


def snapshots(osb: Osb, sandbox: str, folder: Path) -> None:
    """Taken, waited for, listed, begun from, deleted."""
    snapshot = osb.json("snapshot", "create", sandbox, "--name", "kept")["id"]
    ready = lambda: osb.json("snapshot", "get", snapshot)["status"]["state"] == "Ready"  # noqa: E731
    wait_until(ready, SNAPSHOT_SECONDS, "the snapshot")
    assert snapshot in json.dumps(osb.json("snapshot", "list", "--sandbox-id", sandbox))
    restored = osb.json("sandbox", "create", "--snapshot-id", snapshot, "-t", "10m")["id"]
    assert osb.text("file", "cat", restored, "/root/up").strip() == "text"
    osb.text("sandbox", "kill", restored)
    osb.text("snapshot", "delete", snapshot)


def diagnostics(osb: Osb, sandbox: str, folder: Path) -> None:
    """What the sandbox said and what happened to it, by the old commands and the new."""
    for group, how in (("diagnostics", ("--scope", "container")), ("devops", ())):
        assert "spoken" in osb.text(group, "logs", sandbox, *how)
        assert osb.text(group, "events", sandbox, *(("--scope", "runtime") if how else ()))
    assert sandbox in osb.text("devops", "inspect", sandbox)
    assert sandbox in osb.text("devops", "summary", sandbox)


def policies(osb: Osb, sandbox: str, folder: Path) -> None:
    """A network policy from a file and its change; a vault whose secrets come back in no answer."""
    policy, vault, change = (folder / name for name in ("policy", "vault", "change"))
    policy.write_text(json.dumps(POLICY))
    vault.write_text(json.dumps(VAULT))
    change.write_text(json.dumps({"expectedRevision": 1, "credentials": {"add": [OTHER]}}))
    guarded = ("--network-policy-file", str(policy), "--credential-proxy")
    held = osb.json("sandbox", "create", "-i", SANDBOX_IMAGE, "-t", "10m", *guarded)["id"]
    osb.text("egress", "patch", held, "--rule", f"allow={OTHER_TARGET}")
    rules = json.dumps(osb.json("egress", "get", held))
    assert TARGET in rules
    assert OTHER_TARGET in rules
    shown = [
        osb.text("credential-vault", "create", held, "--file", str(vault), "-o", "json"),
        osb.text("credential-vault", "patch", held, "--file", str(change), "-o", "json"),
        osb.text("credential-vault", "get", held, "-o", "json"),
        osb.text("credential-vault", "credential", "list", held, "-o", "json"),
        osb.text("credential-vault", "credential", "get", held, "other", "-o", "json"),
        osb.text("credential-vault", "binding", "list", held, "-o", "json"),
        osb.text("credential-vault", "binding", "get", held, "api", "-o", "json"),
    ]
    assert ["token" in shown[0], "other" in shown[2], "api.example.test" in shown[6]] == [True] * 3
    assert SECRET not in "".join(shown)
    osb.text("credential-vault", "delete", held)
    osb.refused("credential-vault", "get", held)
    osb.text("sandbox", "kill", held)


def templates(osb: Osb, sandbox: str, folder: Path) -> None:
    """This server has none, as the released one has none on Docker, and says so."""
    request = ("-i", SANDBOX_IMAGE, "-p", "s3://bucket/key", "--resource", "cpu=1", "--resource", "memory=512Mi")
    for arguments in (("create", *request), ("get", "tpl_1"), ("list",), ("delete", "tpl_1")):
        assert "API_NOT_SUPPORTED" in osb.refused("template", *arguments)


def end(osb: Osb, sandbox: str, folder: Path) -> None:
    """Killed, it is on no list."""
    osb.text("sandbox", "kill", sandbox)
    assert sandbox not in json.dumps(osb.json("sandbox", "list", "-m", "by=osb"))


STEPS: list[Callable[[Osb, str, Path], None]] = [
    life, commands, files, snapshots, diagnostics, policies, templates, end
]  # fmt: skip


@pytest.mark.parametrize("mode", [MODES["direct"]], ids=str, indirect=True)
def test_the_program_itself(tools: Path, programs: Programs) -> None:
    """Started as users start it, it reads its settings from the environment's home and lists what there is."""
    server = programs.server
    folder = server.config.parent / ".opensandbox"
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(f'[connection]\ndomain = "{server.address}"\napi_key = "{server.api_key}"\n')
    listed = json.loads(programs.run(tools / "osb", "--no-color", "sandbox", "list", "-o", "json"))
    assert "items" in json.dumps(listed) or listed == []
