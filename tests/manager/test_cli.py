"""The command line: what it starts, what it refuses, and how it says so."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from manager.cli import run_command
from manager.settings.environment import VARIABLES
from manager.settings.load import load_settings
from manager.settings.model import Settings
from manager.store.database import Database
from manager.store.migrations import MIGRATIONS
from tests.manager.logging_state import logging_as_before

COMMAND = Path(sys.executable).parent / "opensandbox-server"
RUNTIME = '[runtime]\ntype = "docker"\nexecd_image = "execd"\n'
ON_LOOPBACK = '[server]\nhost = "127.0.0.1"\n'
MINIMAL = RUNTIME + ON_LOOPBACK
STOPPED = 7


class Server:
    """Stands for what serves: remembers what it was started with."""

    def __init__(self) -> None:
        self.started: list[tuple[Settings, Path]] = []

    def run(self, settings: Settings, path: Path) -> int:
        """Returns at once, with a code of its own."""
        self.started.append((settings, path))
        return STOPPED


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of this machine reaches the tests, and they leave logging alone."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    with logging_as_before():
        yield


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "sandbox.toml"
    file.write_text(MINIMAL)
    return file


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("form", ["--config {}", "serve --config {}", "--config {} serve"])
def test_it_serves(server: Server, config: Path, form: str) -> None:
    """Serving needs no command word, and the option may stand before or after it."""
    code = run_command(form.format(config).split(), server.run)

    assert code == STOPPED
    assert [path for _, path in server.started] == [config]


def test_the_variable_names_the_file(server: Server, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SANDBOX_CONFIG_PATH is honoured when no option is given."""
    monkeypatch.setenv("SANDBOX_CONFIG_PATH", str(config))

    assert run_command([], server.run) == STOPPED


REFUSED = [
    ("port = 0\n", "server.port = 0: must be a whole number from 1 to 65535"),
    ("[otel]\nenabled = true\n", "otel.enabled = true: is not supported by this version; remove it"),
    ("[log]\nlevel = 'LOUD'\n", 'log.level = "LOUD": must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL'),
    ("[log\n", "line 6, column 5: Expected ']' at the end of a table declaration"),
    (
        "[log]\nfile_enabled = true\nfile_path = '/proc/none/server.log'\n",
        "log.file_enabled: /proc/none cannot be opened: No such file or directory",
    ),
]


@pytest.mark.parametrize(("text", "problem"), REFUSED)
def test_what_cannot_be_started_with_is_refused(
    server: Server, config: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str
) -> None:
    """Nothing is started; one line per reason on standard error; exit code 1."""
    config.write_text(MINIMAL + text)

    assert run_command(["--config", str(config)], server.run) == 1
    assert _lines(capsys) == [f"opensandbox-server: {config}: {problem}"]
    assert server.started == []


def test_an_open_api_is_a_loud_warning(server: Server, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It appears once, whatever the log level is."""
    for level in ("DEBUG", "CRITICAL"):
        config.write_text(f'{MINIMAL}[log]\nlevel = "{level}"\n')
        run_command(["--config", str(config)], server.run)

        said = capsys.readouterr()
        assert [line for line in said.err.splitlines() if line.startswith("WARNING: server.api_key is empty")]
        assert (said.out + said.err).count("server.api_key is empty") == 1


PUBLIC = ["0.0.0.0", "::", "192.0.2.7", "box.example.com"]
OPEN = {
    "": "server.api_key: is empty, and others reach server.host = {}",
    'api_key = ""\n': "server.api_key: is empty, and others reach server.host = {}",
    'api_key = "your-secret-api-key"\n': "server.api_key: holds a key of the examples, which everybody knows, and ",
    '[[server.api_keys]]\nname = "a"\nkey = "your-api-key"\n': "server.api_keys: holds a key of the examples, ",
}


@pytest.mark.parametrize("host", PUBLIC)
@pytest.mark.parametrize("keys", OPEN)
def test_strangers_are_not_let_in(
    server: Server,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    keys: str,
) -> None:
    """Beyond loopback a key that is empty or public is refused in one line, unless a variable says so."""
    config.write_text(f'{RUNTIME}[server]\nhost = "{host}"\n{keys}')
    assert run_command(["--config", str(config)], server.run) == 1
    (line,) = _lines(capsys)
    assert OPEN[keys].format(host) in line
    assert server.started == []

    monkeypatch.setenv("OPENSANDBOX_INSECURE_SERVER", "yes")
    assert run_command(["--config", str(config)], server.run) == 1
    monkeypatch.setenv("OPENSANDBOX_INSECURE_SERVER", "YES")
    assert run_command(["--config", str(config)], server.run) == STOPPED


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_a_developers_own_machine_needs_no_key(server: Server, config: Path, host: str) -> None:
    """Only its own programs reach the server."""
    config.write_text(f'{RUNTIME}[server]\nhost = "{host}"\n')
    assert run_command(["--config", str(config)], server.run) == STOPPED


def test_a_key_lets_a_server_be_reached(server: Server, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file, or from the environment over that of the example."""
    config.write_text(f'{RUNTIME}[server]\napi_key = "your-secret-api-key"\n')
    monkeypatch.setenv("OPENSANDBOX_SERVER_API_KEY", "a key of my own")
    assert run_command(["--config", str(config)], server.run) == STOPPED


def test_an_empty_allow_list_is_a_warning(server: Server, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a key every directory of the Engine's host may be mounted, without one none; the log says it once."""
    for text, said in (('api_key = "k"\n', "may mount any directory"), ("", "no directory of the Engine's host")):
        config.write_text(MINIMAL + text)
        run_command(["--config", str(config)], server.run)

        out = capsys.readouterr().out
        assert out.count("storage.allowed_host_paths is empty") == 1
        assert said in out


def test_a_key_is_no_warning(server: Server, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a key nothing is said of it, least of all the key."""
    config.write_text(MINIMAL + 'api_key = "correct horse"\n[storage]\nallowed_host_paths = ["/srv"]\n')
    run_command(["--config", str(config)], server.run)

    captured = capsys.readouterr()
    assert "WARNING" not in captured.out + captured.err
    assert "correct horse" not in captured.out + captured.err


def test_warnings_are_logged(server: Server, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A typing mistake is in the log with its suggestion; the server starts."""
    config.write_text(MINIMAL + "[log]\nlevle = 1\n")

    assert run_command(["--config", str(config)], server.run) == STOPPED
    assert "log.levle is not a setting and has no effect; did you mean log.level?" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["sevre"], ["--prot", "1"], ["init-config", "--example", "k8s"]])
def test_wrong_usage_is_exit_code_2(server: Server, arguments: list[str]) -> None:
    """As everywhere on a command line."""
    with pytest.raises(SystemExit) as stopped:
        run_command(arguments, server.run)

    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["sevre"], "serve"),
        (["docter", "--deep"], "doctor"),
        (["--confg=x"], "--config"),
        (["doctor", "--deap"], "--deep"),
        (["init-config", "--example", "docker-gatway"], "docker-gateway"),
    ],
)
def test_what_was_meant_is_named(
    server: Server, capsys: pytest.CaptureFixture[str], arguments: list[str], meant: str
) -> None:
    """The nearest command, flag or choice."""
    with pytest.raises(SystemExit):
        run_command(arguments, server.run)

    assert _lines(capsys)[-1].endswith(f"did you mean {meant}?")


def test_nothing_is_meant_by_what_is_like_nothing(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """A suggestion that helps nobody is not made."""
    with pytest.raises(SystemExit):
        run_command(["xyzzy"], server.run)

    assert "did you mean" not in capsys.readouterr().err


def test_help_teaches(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Examples and every environment variable are part of it."""
    with pytest.raises(SystemExit) as stopped:
        run_command(["--help"], server.run)

    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "init-config ~/.sandbox.toml --example docker" in text
    assert all(variable.name in text for variable in VARIABLES)


def test_init_config_writes_what_loads(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path is told, and the file is one the server starts with."""
    file = tmp_path / "new" / "sandbox.toml"

    assert run_command(["init-config", str(file), "--example", "docker"], server.run) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"Wrote example configuration (docker) to {file}",
        f"Review it, then start with: opensandbox-server --config {file}",
    ]
    assert load_settings(file, {}).settings.docker.network_mode == "bridge"


def test_init_config_keeps_a_file_unless_forced(
    server: Server, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says how to overwrite it."""
    assert run_command(["init-config", str(config)], server.run) == 1
    assert _lines(capsys) == [f"opensandbox-server: {config}: is there already; use --force to overwrite it"]
    assert config.read_text() == MINIMAL
    assert run_command(["init-config", str(config), "--force"], server.run) == 0
    assert "Everything that can be set" in config.read_text()


def test_init_config_says_why_it_cannot_write(server: Server, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path below a file is no place for another one."""
    target = config / "below.toml"

    assert run_command(["init-config", str(target)], server.run) == 1
    assert _lines(capsys) == [f"opensandbox-server: {target}: cannot be written: Not a directory"]


def _execute(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=15, check=False)


def test_the_installed_command_tells_its_version() -> None:
    """`opensandbox-server` is on the path of whoever installed the distribution."""
    done = _execute("--version")

    assert (done.returncode, done.stdout) == (0, "opensandbox-server 0.1.0\n")


def test_a_port_in_use_is_one_line(config: Path) -> None:
    """No trace, the port, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config.write_text(MINIMAL + f'port = {port}\napi_key = "k"\n')
        done = _execute("--config", str(config))

    assert done.returncode == 1
    assert f"127.0.0.1:{port}: Address already in use; stop what uses the port" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_an_address_of_another_machine_is_one_line(config: Path) -> None:
    """What to do is said by the key that is wrong, which is not the port."""
    config.write_text(RUNTIME + '[server]\nhost = "192.0.2.1"\napi_key = "k"\n')
    done = _execute("--config", str(config))

    assert done.returncode == 1
    assert "192.0.2.1:8080: Cannot assign requested address; set server.host to an address of this" in done.stdout


SECRETS = (
    'api_key = "hidden-1"\n[[server.api_keys]]\nname = "ann"\nkey = "hidden-2"\n'
    '[docker.sandbox_env]\nTOKEN = "hidden-3"\n'
    '[docker.registries."reg:5000"]\nusername = "shown"\npassword = "hidden-4"\n[egress.env]\nA = "hidden-5"\n'
    '[events.webhook]\nurl = "https://x.test"\nsecret = "hidden-6"\n'
)


def test_the_configuration_in_force_is_shown(
    server: Server, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, environment and defaults, as TOML; secrets by name only."""
    config.write_text(MINIMAL + SECRETS)
    monkeypatch.setenv("PENDING_FAILURE_TTL", "77")
    assert run_command(["config", "show", "--config", str(config)], server.run) == 0
    out = capsys.readouterr().out
    told = tomllib.loads(out)
    assert "hidden-" not in out
    assert told["server"]["api_key"] == told["server"]["api_keys"][0]["key"] == "(hidden)"
    assert (told["server"]["api_keys"][0]["name"], told["docker"]["sandbox_env"]) == ("ann", {"TOKEN": "(hidden)"})
    assert told["docker"]["registries"]["reg:5000"] == {"username": "shown", "password": "(hidden)"}
    assert (told["runtime"]["pending_failure_ttl_seconds"], told["docker"]["pids_limit"]) == (77.0, 4096)


def test_a_configuration_is_checked(server: Server, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a start would, without one."""
    assert run_command(["--config", str(config), "config", "check"], server.run) == 0
    assert capsys.readouterr().out.endswith(f"{config}: a server starts with it\n")
    config.write_text(RUNTIME)
    assert run_command(["config", "check", "--config", str(config)], server.run) == 1
    assert "server.api_key: is empty" in capsys.readouterr().err
    config.write_text("[server]\nprot = 1\n")
    assert run_command(["config", "--config", str(config), "check"], server.run) == 1
    assert server.started == []


def test_the_configuration_has_a_schema(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Every table is in it; it needs no configuration."""
    assert run_command(["config", "schema"], server.run) == 0
    assert set(json.loads(capsys.readouterr().out)["properties"]) == set(Settings.model_fields)


def test_the_store_is_copied_and_put_back(
    server: Server, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each step says what it did, or why not, with the exit code."""
    path, copy = tmp_path / "state" / "gateway.db", tmp_path / "copy.db"
    config.write_text(f'{MINIMAL}[store]\npath = "{path}"\n')

    def store(*words: str) -> int:
        return run_command(["store", *words, "--config", str(config)], server.run)

    assert [store("check"), store("backup", str(copy))] == [1, 1]
    assert capsys.readouterr().err == f"opensandbox-server: {path}: there is no such file\n" * 2
    database = Database(path)
    assert [store("check"), store("backup", str(copy)), store("backup", str(copy))] == [0, 0, 1]
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"{path}: sound, schema {len(MIGRATIONS)}", f"copied {path} to {copy}"]
    assert said.err == f"opensandbox-server: {copy}: is there already; choose another name\n"
    assert store("restore", str(copy)) == 1
    assert "is in use by another server" in capsys.readouterr().err
    asyncio.run(database.close())
    assert store("restore", str(copy)) == 0
    assert capsys.readouterr().out == f"restored {path} from {copy}; the former one is {path}.replaced-1\n"
