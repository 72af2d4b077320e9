"""One server per way of addressing, shared by the client tests of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opensandbox import Sandbox
from opensandbox.config import ConnectionConfig

from tests.clients.modes import MODES, Mode, connection
from tests.clients.names import NameServer, PortTaken
from tests.clients.programs_run import Programs
from tests.conftest import end_server
from tests.server_process import SANDBOX_IMAGE, ServerProcess, free_port

CLIENTS_TIMEOUT = 90


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Containers are started here: the unit tests' twenty seconds are not enough."""
    for item in items:
        if item.path.parent.name == "clients" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(CLIENTS_TIMEOUT))


@pytest.fixture(scope="session")
def server_of(tmp_path_factory: pytest.TempPathFactory, images: None) -> Iterator[Callable[[Mode], ServerProcess]]:
    """Gives the running server of a mode, started when first asked for."""
    servers: dict[str, ServerProcess] = {}

    def running(mode: Mode) -> ServerProcess:
        if mode.name not in servers:
            port = free_port()
            folder = tmp_path_factory.mktemp(mode.name)
            server = servers[mode.name] = ServerProcess(folder, mode.tables(port), port=port)
            server.start()
        return servers[mode.name]

    yield running
    for server in servers.values():
        end_server(server)


@dataclass(slots=True)
class Clients:
    """The async SDK against one server in one mode."""

    mode: Mode
    server: ServerProcess
    made: list[Sandbox] = field(default_factory=list)
    configs: list[ConnectionConfig] = field(default_factory=list)

    def config(self, **options: Any) -> ConnectionConfig:
        """A client configuration; what it opens is closed after the test."""
        self.configs.append(connection(self.server, self.mode, **options))
        return self.configs[-1]

    async def create(self, **options: Any) -> Sandbox:
        """`Sandbox.create` with the test image; the sandbox is killed after the test."""
        options = {"image": SANDBOX_IMAGE, "connection_config": self.config(), **options}
        sandbox = await Sandbox.create(**options)
        self.made.append(sandbox)
        return sandbox


@pytest.fixture(params=list(MODES.values()), ids=list(MODES))
async def clients(request: pytest.FixtureRequest, server_of: Callable[[Mode], ServerProcess]) -> AsyncIterator[Clients]:
    """The SDK in every mode; what a test made is gone afterwards."""
    mode: Mode = request.param
    clients = Clients(mode, server_of(mode))
    yield clients
    for sandbox in clients.made:
        clients.server.call("DELETE", f"/v1/sandboxes/{sandbox.id}")
        await sandbox.close()
    for config in clients.configs:
        if config.transport is not None:  # one that the user gives is the user's to close
            await config.transport.aclose()
    request.node.add_report_section("teardown", f"server in {mode.name} mode", clients.server.output()[-20_000:])


@pytest.fixture(params=list(MODES.values()), ids=str)
def mode(request: pytest.FixtureRequest) -> Mode:
    """Every way of addressing."""
    chosen: Mode = request.param
    return chosen


@pytest.fixture(scope="session")
def name_server() -> Iterator[NameServer]:
    """A name server that knows the wildcard domain."""
    try:
        with NameServer.listening() as server:
            yield server
    except (PermissionError, PortTaken) as failure:
        pytest.skip(f"a name server of our own needs port 53, which only root may have: {failure}")


@pytest.fixture
def programs(
    request: pytest.FixtureRequest, mode: Mode, server_of: Callable[[Mode], ServerProcess]
) -> Iterator[Programs]:
    """Runs released programs against the server of a mode, which has no sandboxes afterwards."""
    names: NameServer | None = request.getfixturevalue("name_server") if mode.route == "wildcard" else None
    running = Programs(mode, server_of(mode), names)
    yield running
    running.server.delete_all()
