"""Pulls from a real registry with passwords: from the request, the configuration, and the user's `docker login`."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from manager.domain import errors
from manager.domain.sandbox import Platform, RegistryAuth, SandboxSpec, SandboxState
from manager.runtime.docker.images import Layers, pull_error, registry_of
from manager.runtime.docker.runtime import DockerRuntime
from tests.docker.harness import Events, make_settings
from tests.docker.registries import AUTH, PASSWORD, USER

pytestmark = pytest.mark.timeout(60)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]


async def pulls(runtime: DockerRuntime, spec: SandboxSpec) -> bool:
    """Whether a sandbox of this spec comes up."""
    made = await runtime.create(spec, print)
    return made.status.state is SandboxState.RUNNING


async def test_credentials_of_the_request(
    runtime: DockerRuntime, spec: Spec, private: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They open the registry, and are neither logged nor kept."""
    caplog.set_level(logging.DEBUG)
    asked = spec(image=private, image_auth=AUTH)
    assert await pulls(runtime, asked)
    kept = str(await runtime.inspect(asked.id)) + repr(asked) + caplog.text
    assert PASSWORD not in kept
    assert base64.b64encode(PASSWORD.encode()).decode().rstrip("=") not in kept


@pytest.mark.parametrize("auth", [None, RegistryAuth(USER, "wrong")])
async def test_wrong_or_no_credentials(
    runtime: DockerRuntime, spec: Spec, private: str, auth: RegistryAuth | None
) -> None:
    """A refusal of the registry has a code of its own, and is not taken for a missing key of ours."""
    with pytest.raises(errors.Forbidden) as raised:
        await runtime.create(spec(image=private, image_auth=auth), print)
    assert raised.value.code == "DOCKER::SANDBOX_IMAGE_PULL_UNAUTHORIZED"
    assert "wrong" not in raised.value.message


async def test_an_image_the_registry_does_not_have(runtime: DockerRuntime, spec: Spec, registry: str) -> None:
    """With the right credentials it is simply not there."""
    with pytest.raises(errors.NotFound) as raised:
        await runtime.create(spec(image=f"{registry}/team/none:1", image_auth=AUTH), print)
    assert raised.value.code == "DOCKER::SANDBOX_IMAGE_NOT_FOUND"


async def test_credentials_of_the_configuration(
    started: Started, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec, private: str, registry: str
) -> None:
    """`[docker.registries."host"]` serves requests that bring none."""
    known = {"registries": {registry: {"username": USER, "password": PASSWORD}}}
    runtime, _ = await started(make_settings(images[1], instance, tmp_path, docker=known))
    asked = spec(image=private)
    assert await pulls(runtime, asked)
    await runtime.delete(asked.id)


async def test_credentials_of_the_user(
    runtime: DockerRuntime,
    spec: Spec,
    private: str,
    registry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What `docker login` saved is used, also when it was saved after the server started."""
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry: {"auth": token}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert await pulls(runtime, spec(image=private))


HELPER = """#!/bin/sh
# Keeps nothing: whoever asks for the test's registry is told, and all others are not known.
read -r server
[ "$1" = get ] && [ "$server" = {registry} ] || {{ echo "credentials not found in native keychain"; exit 1; }}
echo '{{"ServerURL": "{registry}", "Username": "{user}", "Secret": "{password}"}}'
"""


@pytest.mark.parametrize("form", ["credHelpers", "credsStore"])
async def test_credentials_of_a_helper_of_the_users(
    runtime: DockerRuntime,
    spec: Spec,
    private: str,
    registry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    """A program that keeps passwords for `docker`, for one registry or for all."""
    program = tmp_path / "docker-credential-tests"
    program.write_text(HELPER.format(registry=registry, user=USER, password=PASSWORD))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    names = {"credHelpers": {registry: "tests"}, "credsStore": "tests"}
    (tmp_path / "config.json").write_text(json.dumps({form: names[form]}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    asked = spec(image=private)
    assert await pulls(runtime, asked)
    await runtime.delete(asked.id)


async def test_one_pull_for_many_creates(runtime: DockerRuntime, spec: Spec, private: str) -> None:
    """Creates that need the same image at once share one pull."""
    images = runtime._tools.images
    pull, count = images._calls.engine.call, []

    async def counting(work: object, *lane: object) -> object:
        count.append(str(lane))
        return await pull(work, *lane)  # type: ignore[arg-type]

    images._calls.engine.call = counting  # type: ignore[method-assign, assignment]
    await asyncio.gather(
        *(images.ensure(private, platform=None, auth=AUTH, progress=lambda line: None) for _ in range(5))
    )
    assert sum("SLOW" in lane for lane in count) == 1


async def test_another_platform_than_asked_for(runtime: DockerRuntime, private: str) -> None:
    """The image exists, but not for that platform."""
    with pytest.raises(errors.NotFound):
        await runtime._tools.images.ensure(private, platform=Platform("linux", "arm64"), auth=AUTH, progress=print)


def test_progress_adds_up_layers() -> None:
    """What is told counts every layer whose size is known."""
    layers = Layers()
    assert str(layers) == "waiting for the registry"
    megabyte = 1024 * 1024
    layers.take({"status": "Downloading", "id": "a", "progressDetail": {"current": megabyte, "total": 4 * megabyte}})
    layers.take({"status": "Downloading", "id": "b", "progressDetail": {"current": 0, "total": 2 * megabyte}})
    layers.take({"status": "Download complete", "id": "b", "progressDetail": {}})
    assert str(layers) == "3 of 6 MB"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("unauthorized: authentication required", errors.Forbidden),
        ("pull access denied for x, repository does not exist", errors.Forbidden),
        ("manifest for x:1 not found: manifest unknown", errors.NotFound),
        ("dial tcp 127.0.0.1:1: connect: connection refused", errors.Unavailable),
        ("dial tcp: lookup reg.example on 1.1.1.1:53: no such host", errors.Unavailable),
        ("net/http: request canceled (Client.Timeout exceeded while awaiting headers)", errors.TimedOut),
        ("write /var/lib/docker/tmp/x: no space left on device", errors.Failed),
        ("something else", errors.Failed),
    ],
)
def test_what_the_engine_says_of_a_registry(text: str, kind: type[errors.ManagerError]) -> None:
    """Each kind of failure is told apart from its text, which is all there is."""
    assert type(pull_error("x", errors.Failed("", text))) is kind


def test_addresses_of_the_engines_network_are_not_told() -> None:
    """Neither its resolver nor what a name leads to; what the caller has named is the caller's."""
    text = "dial tcp: lookup h.test on 10.9.8.7:53: read udp 10.1.2.3:4711->10.9.8.7:53: timeout; dial 127.0.0.1:5000"
    told = pull_error("127.0.0.1:5000/x", errors.Failed("", text)).message
    assert "10." not in told
    assert "dial 127.0.0.1:5000" in told


@pytest.mark.parametrize(
    ("image", "host"),
    [("python:3.11", "docker.io"), ("team/x", "docker.io"), ("localhost/x", "localhost"), ("h:5000/a/b", "h:5000")],
)
def test_the_registry_of_a_reference(image: str, host: str) -> None:
    """A first segment is a host only if it looks like one."""
    assert registry_of(image) == host
