"""Fixtures every part of the tests may use, and the rule that nothing is skipped in CI."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import docker
import hypothesis
import pytest
from docker.errors import DockerException

from tests.distribution import Sharing, turn
from tests.server_process import ServerProcess, free_port

# How long one example takes says more about the machine than about the code.
hypothesis.settings.register_profile("tests", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("tests")

IMAGE_BUILDER = Path(__file__).parent / "images" / "build"
INSTANCE_LABEL = "opensandbox.io/instance"
IN_CI = os.environ.get("CI") == "true"

StartServer = Callable[..., ServerProcess]


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI a skip is a failure: a part that cannot run there is a fault of the machine or of us."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each of several workers puts first what takes long; a run without workers keeps the order of the files."""
    if hasattr(config, "workerinput"):
        items.sort(key=turn)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Sharing:
    """Files stay whole."""
    return Sharing(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture
def port() -> int:
    """A TCP port nobody listens on."""
    return free_port()


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """A client of the Engine that answers; without one the test is skipped, loudly."""
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except (DockerException, OSError) as exc:
        pytest.skip(f"no Docker Engine answers (scripts/engine starts one): {exc}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def images(engine: docker.DockerClient) -> None:
    """The sandbox and execd images of the tests are on the Engine."""
    subprocess.run([IMAGE_BUILDER], check=True, capture_output=True)


@pytest.fixture
def start_server(tmp_path: Path, images: None, request: pytest.FixtureRequest) -> Iterator[StartServer]:
    """Starts `opensandbox-server` with the given TOML tables; afterwards its sandboxes and itself are gone.

    A failed test shows what its servers wrote.
    """
    servers: list[ServerProcess] = []

    def start(tables: dict[str, dict[str, Any]] | None = None, **start_options: Any) -> ServerProcess:
        folder = tmp_path / f"server-{len(servers)}"
        folder.mkdir()
        server = ServerProcess(folder, tables or {})
        servers.append(server)
        return server.start(**start_options)

    yield start
    for server in servers:
        end_server(server)
        request.node.add_report_section("teardown", f"server :{server.port}", server.output())


def end_server(server: ServerProcess) -> None:
    """Deletes the server's sandboxes (starting it again where a test ended it) and stops it."""
    if server.process is None:
        return
    try:
        if not server.running:
            server.start()
        server.delete_all()
        server.stop()
    finally:
        remove_containers(server.instance)


def remove_containers(instance: str) -> None:
    """Takes from the Engine what a server that does not work any more has left there."""
    client = docker.from_env()
    for container in client.containers.list(all=True, filters={"label": f"{INSTANCE_LABEL}={instance}"}):
        container.remove(force=True)
    client.close()
