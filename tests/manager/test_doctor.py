"""The doctor: each check tells how things stand, and what to do unless all is well."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from manager.doctor import surroundings
from manager.doctor.command import examine
from manager.doctor.configuration import check_configuration
from manager.doctor.engine import check_engine
from manager.doctor.findings import Finding, Verdict, lines, ok, warn
from manager.settings.load import load_settings
from manager.settings.model import Settings
from tests.conftest import StartServer
from tests.server_process import SANDBOX_IMAGE

NOWHERE = "unix:///nowhere/docker.sock"


def _settings(**tables: Any) -> Settings:
    runtime = {"type": "docker", "execd_image": "opensandbox-test/none:0"}
    return Settings.model_validate({"runtime": runtime, **tables})


def test_a_finding_is_told_in_columns() -> None:
    """Verdict, name and text in one line, the remedy below."""
    assert lines(ok("store", "is there")) == ["ok    store             is there"]
    assert lines(warn("store", "is full", "make room")) == [
        "warn  store             is full",
        "                        → make room",
    ]


def test_a_command_is_not_broken() -> None:
    """What is to be copied stays whole, however long."""
    command = "x" * 200

    assert any(line.endswith(command) for line in lines(warn("store", "text", f"run {command}")))


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A port somebody else listens on without ever answering."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


def _server(port: int) -> Settings:
    return _settings(server={"host": "127.0.0.1", "port": port})


def test_a_free_port_is_free(port: int) -> None:
    """Nothing listens there, and nothing does so after the check."""
    assert surroundings.check_port(_server(port)) == ok("port", f"127.0.0.1:{port} is free")
    assert surroundings.check_port(_server(port)).verdict is Verdict.OK


def test_a_port_of_somebody_else_fails(taken: socket.socket) -> None:
    """Who uses it is not our server."""
    found = surroundings.check_port(_server(taken.getsockname()[1]), answer_time=0.1)

    assert (found.verdict, found.remedy) == (Verdict.FAIL, "stop what uses the port, or set server.port")


def test_a_server_behind_the_proxy_protocol_is_not_asked(taken: socket.socket) -> None:
    """It answers proxies only, so the check cannot tell who it is."""
    server = {"host": "127.0.0.1", "port": taken.getsockname()[1], "proxy_protocol": True, "trusted_proxies": ["::1"]}

    assert surroundings.check_port(_settings(server=server)).verdict is Verdict.WARN


def test_an_address_of_another_machine_fails() -> None:
    """192.0.2.0/24 is for documentation and nobody's."""
    found = surroundings.check_port(_settings(server={"host": "192.0.2.1"}))

    assert (found.verdict, found.remedy) == (Verdict.FAIL, "set server.host to an address of this machine")


def _store(path: Path) -> Finding:
    return surroundings.check_store(_settings(store={"path": str(path)}))


def test_a_store_that_can_be_made_is_not_made(tmp_path: Path) -> None:
    """A check leaves nothing behind."""
    assert _store(tmp_path / "new" / "gateway.db").verdict is Verdict.OK
    assert list(tmp_path.iterdir()) == []


def test_a_store_below_a_file_fails(tmp_path: Path) -> None:
    """The directory that cannot be made is named."""
    (tmp_path / "file").touch()
    found = _store(tmp_path / "file" / "gateway.db")

    assert found.verdict is Verdict.FAIL
    assert f"{tmp_path / 'file'} is not writable" in found.text


def test_a_damaged_store_fails(tmp_path: Path) -> None:
    """What is no database is told together with what would be lost."""
    file = tmp_path / "gateway.db"
    file.write_bytes(b"no database" * 100)
    found = _store(file)

    assert found.verdict is Verdict.FAIL
    assert found.remedy is not None
    assert found.remedy.startswith(f"move {file} away")


def test_a_sound_store_is_well(tmp_path: Path) -> None:
    """A database that exists is read and left as it is."""
    file = tmp_path / "gateway.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE t (x)")
    connection.close()

    assert _store(file) == ok("store", f"{file} is there")


def test_a_store_that_is_held_is_well(tmp_path: Path) -> None:
    """A running server may hold its database; that is no damage."""
    file = tmp_path / "gateway.db"
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    found = surroundings.check_store(_settings(store={"path": str(file)}), lock_time=0.0)
    holder.close()

    assert found.verdict is Verdict.OK


def test_too_few_open_files_warn() -> None:
    """The limit of the process is compared with the connections of the configuration."""
    few = surroundings.check_open_files(_settings(gateway={"limits": {"max_connections": 1}}))
    many = surroundings.check_open_files(_settings(gateway={"limits": {"max_connections": 2**30}}))

    assert (few.verdict, many.verdict) == (Verdict.OK, Verdict.WARN)
    assert many.remedy is not None
    assert "max_connections" in many.remedy


def _names(**gateway: Any) -> list[Finding]:
    return list(surroundings.check_names(_settings(ingress={"mode": "gateway", "gateway": gateway})))


def test_names_of_endpoints_are_looked_up() -> None:
    """The host of an address resolves, with or without a port; what does not is a warning."""
    (known,) = _names(address="localhost:8080", route={"mode": "uri"})
    (plain,) = _names(address="localhost", route={"mode": "header"})
    (unknown,) = _names(address="gateway.invalid", route={"mode": "header"})

    assert (known.verdict, plain.verdict, unknown.verdict) == (Verdict.OK, Verdict.OK, Verdict.WARN)


def test_a_wildcard_without_dns_says_which_record_is_missing() -> None:
    """The remedy is the record."""
    (found,) = _names(address="*.sandbox.invalid")

    assert found.verdict is Verdict.WARN
    assert found.remedy is not None
    assert "*.sandbox.invalid" in found.remedy


def test_the_host_of_direct_endpoints_is_looked_up() -> None:
    """Without a gateway endpoints name a host all the same."""
    (found,) = surroundings.check_names(_settings(server={"eip": "sandboxes.invalid"}))

    assert (found.verdict, found.remedy) == (Verdict.WARN, "set docker.host_ip, or server.eip")


def test_a_key_that_others_can_read_warns(tmp_path: Path) -> None:
    """A configuration with a key is its owner's."""
    file = tmp_path / "sandbox.toml"
    file.write_text('[runtime]\ntype = "docker"\nexecd_image = "execd"\n[server]\napi_key = "k"\n')
    found = {}
    for mode in (0o644, 0o600):
        file.chmod(mode)
        found[mode] = next(item for item in check_configuration(load_settings(file, {})) if item.name == "api key")

    assert found[0o644] == warn("api key", f"others on this machine can read {file}", f"chmod 600 {file}")
    assert found[0o600] == ok("api key", "set")


async def _engine(**tables: Any) -> dict[str, Finding]:
    return {finding.name: finding async for finding in check_engine(_settings(**tables))}


async def test_an_engine_that_is_away_is_the_only_finding() -> None:
    """Nothing else is asked of it."""
    found = await _engine(docker={"host": NOWHERE})

    assert list(found) == ["engine"]
    assert found["engine"].verdict is Verdict.FAIL
    assert NOWHERE in found["engine"].text


@pytest.mark.timeout(60)
async def test_an_engine_is_described(engine: docker.DockerClient) -> None:
    """Version, and an image that is not there with the command that fetches it."""
    found = await _engine(docker={"network_mode": "bridge"})

    assert engine.version()["Version"] in found["engine"].text
    assert found["execd image"].verdict is Verdict.WARN
    assert found["execd image"].remedy is not None
    assert found["execd image"].remedy.startswith("docker pull opensandbox-test/none:0")
    assert found["network"].verdict is Verdict.OK


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("mode", "verdict"), [("host", Verdict.WARN), ("bridge", Verdict.OK), ("no-such-network", Verdict.FAIL)]
)
async def test_the_network_is_looked_at(engine: docker.DockerClient, mode: str, verdict: Verdict) -> None:
    """Host networking isolates nothing, and a network that is not there cannot be used."""
    found = await _engine(docker={"network_mode": mode})

    assert found["network"].verdict is verdict


@pytest.fixture
def neighbourly(engine: docker.DockerClient) -> Iterator[str]:
    """A network as `docker network create` makes it, on which containers reach each other."""
    network = engine.networks.create(f"opensandbox-test-{uuid.uuid4().hex[:8]}")
    yield str(network.name)
    network.remove()


@pytest.mark.timeout(60)
async def test_a_name_of_several_networks_is_told(engine: docker.DockerClient) -> None:
    """No container starts on any of them; newer Engines make no second one."""
    name = f"opensandbox-test-{uuid.uuid4().hex[:8]}"
    with contextlib.suppress(docker.errors.APIError):
        for _ in range(2):
            engine.networks.create(name, check_duplicate=False)
    made = engine.networks.list(names=[name])
    found = await _engine(docker={"network_mode": name})
    for network in made:
        network.remove()
    assert (found["network"].verdict is Verdict.FAIL) == (len(made) > 1)
    assert len(made) == 1 or "docker network rm" in str(found["network"].remedy)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("key", ["network_mode", "network_name"])
async def test_a_network_on_which_sandboxes_reach_each_other_is_told(neighbourly: str, key: str) -> None:
    """With the command that makes a better one; who wants it so hears nothing."""
    mode = {"network_mode": "bridge", key: neighbourly}
    found = await _engine(docker=mode)
    meant = await _engine(docker={**mode, "inter_container": True})

    assert (found["network"].verdict, meant["network"].verdict) == (Verdict.WARN, Verdict.OK)
    assert "reach each other" in found["network"].text
    assert "enable_icc=false" in str(found["network"].remedy)


@pytest.mark.timeout(60)
def test_sandboxes_of_other_servers_are_told(start_server: StartServer) -> None:
    """A server that has moved finds the name under which it left them."""
    server = start_server()
    body = {"image": {"uri": SANDBOX_IMAGE}, "entrypoint": ["sleep", "600"], "resourceLimits": {}}
    assert server.call("POST", "/v1/sandboxes", body)[0] == 202
    mine = asyncio.run(_engine(docker={"instance": server.instance}))["instance"]
    other = asyncio.run(_engine(docker={"instance": "another"}))["instance"]

    assert mine.text.startswith(f"{server.instance}, with 1 of the sandboxes")
    assert other.text.startswith("another, with 0 of the sandboxes")
    assert f"{server.instance} (1)" in other.text


@pytest.mark.timeout(60)
async def test_a_secure_runtime_has_to_be_registered(engine: docker.DockerClient) -> None:
    """A runtime the Engine does not know fails, naming those it knows."""
    found = await _engine(secure_runtime={"type": "kata", "oci_runtime_name": "no-such-runtime"})

    assert found["secure runtime"].verdict is Verdict.FAIL
    assert "runc" in found["secure runtime"].text


@pytest.mark.timeout(60)
async def test_the_other_spelling_of_a_secure_runtime_is_looked_up_too(engine: docker.DockerClient) -> None:
    """docker_runtime puts every sandbox into it, so an Engine without it can make none."""
    found = await _engine(secure_runtime={"type": "gvisor", "docker_runtime": "no-such-runtime"})

    assert found["secure runtime"].verdict is Verdict.FAIL
    assert "no-such-runtime" in found["secure runtime"].text


@pytest.mark.timeout(60)
async def test_an_apparmor_profile_needs_apparmor(engine: docker.DockerClient) -> None:
    """An Engine without it would drop the profile in silence."""
    found = await _engine(docker={"apparmor_profile": "docker-default"})
    has_it = "name=apparmor" in engine.info()["SecurityOptions"]

    assert found["apparmor"].verdict is (Verdict.OK if has_it else Verdict.FAIL)
    assert "docker.apparmor_profile" in found["apparmor"].text
    assert "apparmor" not in await _engine()


@pytest.mark.timeout(60)
async def test_a_seccomp_profile_is_read(engine: docker.DockerClient, tmp_path: Path) -> None:
    """What the server would not start with is told by name."""
    profile = tmp_path / "seccomp.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    good = await _engine(docker={"seccomp_profile": str(profile)})
    profile.write_text("{")
    bad = await _engine(docker={"seccomp_profile": str(profile)})

    assert (good["seccomp"].verdict, bad["seccomp"].verdict) == (Verdict.OK, Verdict.FAIL)
    assert str(profile) in bad["seccomp"].text


@pytest.mark.timeout(60)
async def test_what_isolation_opens_is_told(engine: docker.DockerClient) -> None:
    """Where root of a sandbox is root of the host that is a warning; where nobody is allowed it, nothing."""
    assert "isolation" not in await _engine()
    found = (await _engine(docker={"allow_isolation": True}))["isolation"]
    kinds = engine.info()["SecurityOptions"]
    assert found.verdict is (Verdict.OK if {"name=userns", "name=rootless"} & set(kinds) else Verdict.WARN)


def test_an_empty_allow_list_is_told(tmp_path: Path) -> None:
    """A sandbox may then mount whatever it likes of the Engine's host; with a list there is nothing to say."""
    file = tmp_path / "sandbox.toml"
    told = {}
    for keys in ("", '[storage]\nallowed_host_paths = ["/srv"]\n'):
        file.write_text(f'[runtime]\ntype = "docker"\nexecd_image = "execd"\n{keys}')
        findings = check_configuration(load_settings(file, {}))
        told[keys] = [item.verdict for item in findings if "storage.allowed_host_paths" in item.text]

    assert list(told.values()) == [[Verdict.WARN], []]


GATEWAY = {
    "ingress": {"mode": "gateway"},
    "ingress.gateway": {"address": "*.sandbox.test"},
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("tables", [{}, GATEWAY], ids=["direct", "gateway"])
def test_a_running_server_is_driven(
    start_server: StartServer, capsys: pytest.CaptureFixture[str], tables: dict[str, dict[str, Any]]
) -> None:
    """A sandbox is made, reached in both ways and deleted; what a client sets is shown, without the key."""
    server = start_server({**tables, "server": {"api_key": "k-3141", "eip": "127.0.0.1"}})

    code = examine(str(server.config), deep_image=SANDBOX_IMAGE)

    out = capsys.readouterr().out
    assert code == 0, out
    for step in ("create", "through server", "endpoint", "delete"):
        assert f"ok    {step:16}" in out
    assert "ConnectionConfig(" in out
    assert "k-3141" not in out
    assert server.call("GET", "/v1/sandboxes")[1]["items"] == []


@pytest.mark.timeout(60)
def test_a_server_that_is_not_running_fails(
    tmp_path: Path, port: int, engine: docker.DockerClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code tells, and the remedy is the command that starts it."""
    file = tmp_path / "sandbox.toml"
    runtime = '[runtime]\ntype = "docker"\nexecd_image = "execd"\n'
    file.write_text(f'{runtime}[server]\nhost = "127.0.0.1"\nport = {port}\n')

    assert examine(str(file), deep_image=SANDBOX_IMAGE) == 1
    assert "start it: opensandbox-server" in capsys.readouterr().out


def test_another_runtime_asks_no_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What this version refuses is a failure; the Engine is not what that runtime needs."""
    file = tmp_path / "sandbox.toml"
    file.write_text('[runtime]\ntype = "kubernetes"\nexecd_image = "execd"\n')

    assert examine(str(file)) == 1
    out = capsys.readouterr().out
    assert 'fail  configuration     runtime.type = "kubernetes": is not supported by this version' in out
    assert "engine" not in out


def test_a_configuration_that_does_not_load_is_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its problems are the findings."""
    assert examine(str(tmp_path / "none.toml")) == 1
    assert capsys.readouterr().out.endswith("\nchecked: 1, failed: 1, warnings: 0\n")


@pytest.mark.timeout(60)
def test_findings_are_a_document_for_programs(
    tmp_path: Path, port: int, engine: docker.DockerClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same as for people; with --strict a warning fails too."""
    file = tmp_path / "sandbox.toml"
    runtime = '[runtime]\ntype = "docker"\nexecd_image = "opensandbox-test/none:0"\n'
    store = f'[store]\npath = "{tmp_path / "gateway.db"}"\n'
    file.write_text(f'{runtime}[server]\nhost = "127.0.0.1"\nport = {port}\n{store}')

    assert [examine(str(file), as_json=True), examine(str(file), strict=True)] == [0, 1]
    document, _, text = capsys.readouterr().out.partition("\n}\n")
    told = json.loads(document + "}")
    assert (told["failed"], told["warnings"] > 0, told["checked"]) == (0, True, len(told["findings"]))
    for item in told["findings"]:
        assert f"{item['verdict']:4}  {item['check']:16}" in text


def test_a_broken_configuration_is_a_document_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program need not parse the text of an error."""
    assert examine(str(tmp_path / "none.toml"), as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["failed"], told["findings"][0]["check"]) == (1, "configuration")
