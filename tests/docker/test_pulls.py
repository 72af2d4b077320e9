"""Pulls as callers of the API see them: progress, limits, each way to fail by its own name, and no secret kept."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from manager.api.errors import status_of
from manager.domain import errors
from manager.domain.sandbox import Platform, SandboxSpec, SandboxState
from manager.runtime.docker.runtime import DockerRuntime
from manager.terminal import CLEAR
from tests.conftest import StartServer
from tests.docker.harness import Events, free_port, make_settings
from tests.docker.registries import (
    AUTH,
    LOGIN,
    PASSWORD,
    USER,
    Valve,
    both_platforms,
    broken_registry,
    large_image,
    pushed,
)
from tests.server_process import ServerProcess, wait_until

pytestmark = pytest.mark.timeout(120)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]

PATIENCE = 30.0
MEGABYTES = 6
SHUT_AFTER = 3 << 20
"""Bytes: the half of it, with what a registry says besides."""
ON_THE_WAY = re.compile(rf"pulling (\S+): [1-9]\d* of {MEGABYTES} MB")
A_BAR = re.compile(re.escape(CLEAR) + rf"pulling \[#+-+\] [1-9]\d* of {MEGABYTES} MB ")
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def slow(registry: str, engine: docker.APIClient, images: tuple[str, str]) -> Iterator[tuple[Valve, str]]:
    """An image behind a slow line that is shut half-way, and the valve that opens it."""
    image, valve = large_image(engine, images[1], MEGABYTES), Valve(registry, SHUT_AFTER)
    with pushed(engine, image, registry, seen_at=valve.address) as name:
        yield valve, name
        valve.close()


@pytest.fixture
def broken() -> Iterator[str]:
    """A registry that has lost its storage."""
    with broken_registry() as address:
        yield address


def asked(image: str, **more: Any) -> dict[str, Any]:
    """A create of this image."""
    return {"image": {"uri": image, **more}, "entrypoint": ["tail", "-f", "/dev/null"], "resourceLimits": {}}


def state_of(server: ServerProcess, path: str) -> dict[str, Any]:
    """The status as GET shows it."""
    status, shown = server.call("GET", path)
    assert status == 200, shown
    return dict(shown["status"])


def test_an_asynchronous_caller_sees_how_far_the_pull_is(start_server: StartServer, slow: tuple[Valve, str]) -> None:
    """Pending with bytes in the message, which move on; then it runs. The log says the same."""
    valve, image = slow
    server = start_server()
    status, made = server.call("POST", "/v1/sandboxes", asked(image, auth=LOGIN), headers=ASYNC)
    assert (status, made["status"]["state"]) == (202, "Pending")
    path = f"/v1/sandboxes/{made['id']}"
    wait_until(lambda: ON_THE_WAY.fullmatch(state_of(server, path)["message"]) is not None, PATIENCE, "progress")
    assert state_of(server, path)["state"] == "Pending"
    assert ON_THE_WAY.search(server.output())
    valve.open()
    wait_until(lambda: state_of(server, path)["state"] == "Running", PATIENCE, "the sandbox")
    assert f"pulled {image}" in server.output()


def test_a_terminal_shows_a_bar(
    start_server: StartServer, slow: tuple[Valve, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody watches the server itself; it is one line that is drawn again, and goes when the pull is done."""
    valve, image = slow
    monkeypatch.setenv("TERM", "xterm")
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    screen = Screen(master)
    server = start_server(terminal=terminal)
    os.close(terminal)
    _, made = server.call("POST", "/v1/sandboxes", asked(image, auth=LOGIN), headers=ASYNC)
    wait_until(lambda: A_BAR.search(screen.text) is not None, PATIENCE, "a bar")
    assert ON_THE_WAY.search(screen.text) is None
    valve.open()
    wait_until(lambda: f"pulled {image}\r\n" in screen.text, PATIENCE, "the end of the pull")
    assert server.call("DELETE", f"/v1/sandboxes/{made['id']}")[0] == 204


class Screen:
    """What a terminal has shown so far."""

    def __init__(self, master: int) -> None:
        self.text = ""
        self._master = master
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self.text += data.decode(errors="replace")
        except OSError:
            os.close(self._master)  # the last program has left the terminal


@pytest.mark.request_field(
    "image.auth.username", "image.auth.password", "image.imageAuthUsername", "image.imageAuthPassword"
)
@pytest.mark.parametrize(
    "spelling",
    [
        {"auth": LOGIN},
        {"imageAuthUsername": USER, "imageAuthPassword": PASSWORD},
        {"image_auth_username": USER, "image_auth_password": PASSWORD},
    ],
)
def test_credentials_in_every_spelling_open_the_registry_and_are_kept_nowhere(
    start_server: StartServer, private: str, engine: docker.APIClient, spelling: dict[str, Any]
) -> None:
    """Neither in the log, which tells everything here, nor in the store, nor on the container."""
    server = start_server({"log": {"level": "DEBUG"}})
    status, made = server.call("POST", "/v1/sandboxes", asked(private, **spelling))
    assert status == 202, made
    shown = str(engine.inspect_container(f"sandbox-{made['id']}"))
    assert server.call("DELETE", f"/v1/sandboxes/{made['id']}")[0] == 204
    server.stop()
    written = [path.read_bytes() for path in server.log.parent.iterdir() if path.is_file()]
    for secret in (PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode().rstrip("=")):
        assert secret not in shown
        assert not [text for text in written if secret.encode() in text]


def test_every_way_to_fail_has_its_status_and_code(
    start_server: StartServer, private: str, registry: str, broken: str, engine: docker.APIClient
) -> None:
    """Refused, unauthorised, not found, hanging, broken, no name at all; afterwards there is no container."""
    silent = Valve(registry, 0)
    server = start_server({"docker": {"pull_timeout": 2.0, "network_mode": "bridge"}})
    cases = [
        (asked(private), 403, "DOCKER::SANDBOX_IMAGE_PULL_UNAUTHORIZED"),
        (asked(private, auth={**LOGIN, "password": "wr0ng-one"}), 403, "DOCKER::SANDBOX_IMAGE_PULL_UNAUTHORIZED"),
        (asked(f"{registry}/team/none:1", auth=LOGIN), 404, "DOCKER::SANDBOX_IMAGE_NOT_FOUND"),
        (asked(f"127.0.0.1:{free_port()}/x:1"), 503, "DOCKER::SANDBOX_REGISTRY_UNREACHABLE"),
        (asked(f"{silent.address}/x:1"), 504, "DOCKER::SANDBOX_IMAGE_PULL_TIMEOUT"),
        (asked(f"{broken}/x:1"), 500, "DOCKER::SANDBOX_IMAGE_PULL_FAILED"),
        (asked("Upper/Case:1"), 400, "DOCKER::INVALID_IMAGE"),
    ]
    for body, status, code in cases:
        answered, answer = server.call("POST", "/v1/sandboxes", body)
        assert (answered, answer["code"]) == (status, code), answer
        assert body["image"]["uri"] in answer["message"]
        assert "wr0ng-one" not in answer["message"]
    silent.close()
    mine = {"label": [f"opensandbox.io/instance={server.instance}", "opensandbox.io/id"]}
    assert engine.containers(all=True, filters=mine) == []
    assert server.call("GET", "/v1/sandboxes?state=failed")[1]["pagination"]["totalItems"] == len(cases) - 1


async def test_a_pull_that_takes_too_long_goes_on_for_the_next_one(
    started: Started,
    images: tuple[str, str],
    instance: str,
    tmp_path: Path,
    spec: Spec,
    slow: tuple[Valve, str],
) -> None:
    """docker.pull_limit bounds the wait of a caller; whoever comes again finds the pull further on."""
    valve, image = slow
    runtime, _ = await started(make_settings(images[1], instance, tmp_path, docker={"pull_limit": 0.5}))
    with pytest.raises(errors.TimedOut, match="it goes on") as raised:
        await runtime.create(spec(image=image, image_auth=AUTH), print)
    assert (status_of(raised.value), raised.value.code) == (504, "DOCKER::SANDBOX_IMAGE_PULL_TIMEOUT")
    valve.open()
    pulls = [pull.task for pull in runtime._tools.images._pulls.values()]
    assert len(pulls) == 1
    await asyncio.wait(pulls)
    made = await runtime.create(spec(image=image), print)
    assert made.status.state is SandboxState.RUNNING
    await runtime.delete(made.id)


async def test_a_hanging_registry_keeps_nobody_else_waiting(
    runtime: DockerRuntime, spec: Spec, slow: tuple[Valve, str]
) -> None:
    """Other creates go on, and whoever joins the pull is told how far it is."""
    valve, image = slow
    first: list[str] = []
    second: list[str] = []
    creates = [
        asyncio.ensure_future(runtime.create(spec(image=image, image_auth=AUTH), told.append))
        for told in (first, second)
    ]
    made = await runtime.create(spec(), print)
    assert made.status.state is SandboxState.RUNNING
    valve.open()
    both = await asyncio.gather(*creates)
    assert {sandbox.status.state for sandbox in both} == {SandboxState.RUNNING}
    assert any(image in line for line in first)
    assert any(image in line for line in second)


@pytest.mark.request_field("platform.os", "platform.arch")
async def test_the_platform_that_is_asked_for(
    runtime: DockerRuntime, engine: docker.APIClient, images: tuple[str, str], registry: str, spec: Spec
) -> None:
    """One name, two platforms: each is pulled when it is asked for, and the Engine's own when nothing is said."""
    native = await runtime._tools.images._native()
    other = Platform("linux", "arm64" if native.arch == "amd64" else "amd64")
    with both_platforms(engine, images[1], registry, other) as name:
        ensure = runtime._tools.images.ensure
        for wanted in (other, native, other, None):
            image = await ensure(name, platform=wanted, auth=AUTH, progress=lambda line: None)
            assert image["Architecture"] == (wanted or native).arch
        made = await runtime.create(spec(image=name, image_auth=AUTH, platform=native), print)
        assert (made.status.state, made.platform) == (SandboxState.RUNNING, native)
        await runtime.delete(made.id)
