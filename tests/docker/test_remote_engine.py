"""An Engine on another machine, by ssh and by tcp with TLS: dialled on that machine's address, through published ports.

The other machine is 127.0.0.2: to the code a host like any other, and no network is needed.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from manager.domain import errors
from manager.domain.sandbox import EXECD_PORT, SandboxSpec
from manager.runtime.docker import readiness
from manager.runtime.docker.engine.connection import engine_address
from manager.runtime.docker.engine.ssh_tunnel import command
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.model import Settings
from tests.docker.harness import Events, free_port, http_get, make_settings, wait_for_port
from tests.docker.own_engine import OwnEngine
from tests.engine import engine_socket

pytestmark = pytest.mark.timeout(120)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
ELSEWHERE = "127.0.0.2"
SSHD = "/usr/sbin/sshd"


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the Engine through an sshd of our own; `ssh` finds its key and known hosts by a wrapper."""
    if not os.path.exists(SSHD) or shutil.which("ssh") is None or os.geteuid() != 0:
        pytest.skip("needs root, openssh-server and openssh-client")
    port, home = free_port(host=ELSEWHERE), tmp_path / "ssh"
    home.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True)
    shutil.copy(home / "user.pub", home / "authorized")
    host_key = (home / "host.pub").read_text()
    (home / "known").write_text(f"[{ELSEWHERE}]:{port} {host_key}")
    (home / "config").write_text(f"IdentityFile {home}/user\nUserKnownHostsFile {home}/known\nIdentitiesOnly yes\n")
    (home / "sshd").write_text(
        f"ListenAddress {ELSEWHERE}:{port}\nHostKey {home}/host\nAuthorizedKeysFile {home}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    real = shutil.which("ssh")
    (home / "bin").mkdir()
    (home / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {real} -F {home}/config "$@"\n')
    (home / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    with subprocess.Popen([SSHD, "-D", "-e", "-f", str(home / "sshd")], stderr=subprocess.DEVNULL) as server:
        wait_for_port(port, ELSEWHERE)
        yield f"ssh://{getpass.getuser()}@{ELSEWHERE}:{port}{engine_socket()}"
        server.terminate()


def settings_for(url: str, images: tuple[str, str], instance: str, home: Path) -> Settings:
    """Gateway mode on that Engine."""
    return make_settings(images[1], instance, home, docker={"host": url})


async def test_over_ssh(
    ssh: str, started: Started, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec
) -> None:
    """Create, dial and delete; the events come through the same tunnel."""
    runtime, events = await started(settings_for(ssh, images, instance, tmp_path))
    made = await runtime.create(spec(), print)
    assert made.addresses.dial_host is None
    host, port = made.addresses.published[EXECD_PORT]
    assert host == ELSEWHERE
    assert (await http_get((host, port), "/ping"))[0] == 200
    assert await runtime.delete(made.id)
    await events.gone(made.id)


async def test_a_broken_tunnel_is_built_again(
    ssh: str, started: Started, images: tuple[str, str], instance: str, tmp_path: Path
) -> None:
    """The break is told, and what follows needs nobody's help."""
    runtime, events = await started(settings_for(ssh, images, instance, tmp_path))
    before = await runtime.list()
    tunnel = runtime._engine._tunnel
    assert tunnel is not None
    assert tunnel._process is not None
    process = tunnel._process
    process.kill()
    await events.lost()
    # What is asked while it dies may still be taken by it, and is cut off with it like any call under way.
    await asyncio.to_thread(process.wait)
    assert await runtime.list() == before
    assert runtime._engine._tunnel is tunnel


async def test_no_way_in_is_a_failed_create(
    ssh: str,
    started: Started,
    images: tuple[str, str],
    instance: str,
    tmp_path: Path,
    spec: Spec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A firewall between here and there: the message names the machine, and nothing is left."""
    runtime, _ = await started(settings_for(ssh, images, instance, tmp_path))
    monkeypatch.setattr(readiness, "REACH_LIMIT", 0.0)
    asked = spec()
    with pytest.raises(errors.Failed) as raised:
        await runtime.create(asked, print)
    assert raised.value.code == "DOCKER::SANDBOX_UNREACHABLE"
    assert ELSEWHERE in raised.value.message
    assert await runtime.get(asked.id) is None


async def test_ssh_that_is_refused_says_why(images: tuple[str, str], instance: str, tmp_path: Path) -> None:
    """Nothing listens there: degraded, with what ssh said."""
    if shutil.which("ssh") is None:
        pytest.skip("needs openssh-client")
    runtime = DockerRuntime(settings_for(f"ssh://{ELSEWHERE}:{free_port()}", images, instance, tmp_path))
    with pytest.raises(errors.Unavailable, match="ssh to") as raised:
        await runtime.list()
    await runtime.stop()
    assert "refused" in raised.value.message


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[OwnEngine, str, Path]]:
    """An Engine that asks for a certificate, its address, and the folder with the client's."""
    if not OwnEngine.possible() or shutil.which("openssl") is None:
        pytest.skip("needs root, dockerd, ip and openssl")
    folder = tmp_path / "tls"
    folder.mkdir()
    certificates(folder)
    port = free_port(host=ELSEWHERE)
    engine = OwnEngine(
        tlsverify=True,
        tlscacert=str(folder / "ca.pem"),
        tlscert=str(folder / "server.pem"),
        tlskey=str(folder / "server-key.pem"),
    )
    engine.listen_too(f"tcp://{ELSEWHERE}:{port}")
    engine.start()
    engine.build_images()
    yield engine, f"tcp://{ELSEWHERE}:{port}", folder
    engine.close()


def certificates(folder: Path) -> None:
    """An authority, a server's certificate for the other machine, and a client's."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca-key.pem", "-out", "ca.pem")
    for name, purpose in (("server", f"subjectAltName=IP:{ELSEWHERE}"), ("client", "extendedKeyUsage=clientAuth")):
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}-key.pem", "-out", f"{name}.csr")
        (folder / "extensions").write_text(purpose)
        signed = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "extensions")
        openssl("x509", "-req", "-days", "2", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    shutil.copy(folder / "client.pem", folder / "cert.pem")
    shutil.copy(folder / "client-key.pem", folder / "key.pem")


async def test_over_tls(
    tls: tuple[OwnEngine, str, Path],
    started: Started,
    images: tuple[str, str],
    instance: str,
    tmp_path: Path,
    spec: Spec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The usual variables of the environment name the certificates."""
    _, url, folder = tls
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(folder))
    runtime, _ = await started(settings_for(url, images, instance, tmp_path))
    made = await runtime.create(spec(), print)
    host, port = made.addresses.published[EXECD_PORT]
    assert host == ELSEWHERE
    assert (await http_get((host, port), "/ping"))[0] == 200
    assert await runtime.delete(made.id)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("unix:///var/run/docker.sock", None),
        ("tcp://127.0.0.1:2375", None),
        ("tcp://10.0.0.9:2376", "10.0.0.9"),
        ("ssh://me@engine.example:2222", "engine.example"),
    ],
)
def test_where_an_engine_is(url: str, host: str | None) -> None:
    """Another machine only if it is one."""
    assert engine_address({"DOCKER_HOST": url}).remote_host == host


def test_the_ssh_command() -> None:
    """User, port and path of the address; a host that looks like an option is none."""
    made = command("ssh://me@engine.example:2222/run/other.sock", "/local")
    assert made[-8:] == ["-l", "me", "-p", "2222", "-L", "/local:/run/other.sock", "--", "engine.example"]
    with pytest.raises(ConnectionError):
        command("ssh://-oProxyCommand=x", "/local")
