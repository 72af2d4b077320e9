"""One server per way of addressing, shared by the client tests of a run."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opensandbox import Sandbox, SandboxManager

from tests.clients.flavours import ASYNC, SYNC, Flavour
from tests.clients.modes import MODES, Mode
from tests.clients.names import NameServer, PortTaken
from tests.clients.programs_run import Programs, installed
from tests.conftest import IMAGE_BUILDER, end_server
from tests.server_process import SANDBOX_IMAGE, ServerProcess, free_port

CLIENTS_TIMEOUT = 90
SAID = "said by the main process"
SHARED = {
    "image": {"uri": SANDBOX_IMAGE},
    "entrypoint": ["sh", "-c", f"echo {SAID}; exec sleep infinity"],
    "env": {"FROM_CREATE": "a"},
    "timeout": 3600,
    "resourceLimits": {"cpu": "1", "memory": "512Mi"},
}
"""The sandbox of a mode that tests use which leave it as it is."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Containers are started here: the unit tests' twenty seconds are not enough."""
    for item in items:
        if item.path.parent.name == "clients" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(CLIENTS_TIMEOUT))


@pytest.fixture(scope="session")
def egress_image() -> str:
    """The stand-in for the sidecar that holds a network policy."""
    built = subprocess.run([IMAGE_BUILDER, "egress"], capture_output=True, text=True, check=True)
    return built.stdout.strip()


@pytest.fixture(scope="session")
def server_of(
    tmp_path_factory: pytest.TempPathFactory, images: None, egress_image: str
) -> Iterator[Callable[[Mode], ServerProcess]]:
    """Gives the running server of a mode, started when first asked for."""
    servers: dict[str, ServerProcess] = {}

    def running(mode: Mode) -> ServerProcess:
        if mode.name not in servers:
            port = free_port()
            folder = tmp_path_factory.mktemp(mode.name)
            tables = mode.tables(port) | {"egress": {"image": egress_image, "mode": "dns+nft"}}
            server = servers[mode.name] = ServerProcess(folder, tables, port=port)
            server.start()
        return servers[mode.name]

    yield running
    for server in servers.values():
        end_server(server)


@pytest.fixture(scope="session")
def shared_in() -> Callable[..., str]:
    """Gives the id of the running sandbox that the tests of a server share; `changes` to its request make another."""
    known: dict[tuple[str, str], str] = {}

    def shared(server: ServerProcess, **changes: Any) -> str:
        key = server.url, repr(changes)
        if key not in known or server.call("GET", f"/v1/sandboxes/{known[key]}")[0] != 200:
            status, made = server.call("POST", "/v1/sandboxes", SHARED | changes)
            assert status == 202, made
            known[key] = made["id"]
        return known[key]

    return shared


@dataclass(slots=True)
class Clients:
    """One flavour of the SDK against one server in one mode."""

    mode: Mode
    flavour: Flavour
    server: ServerProcess
    made: list[Sandbox] = field(default_factory=list)
    configs: list[Any] = field(default_factory=list)

    def config(self, **options: Any) -> Any:
        """A client configuration; what it opens is closed after the test."""
        self.configs.append(self.flavour.connection(self.server, self.mode, **options))
        return self.configs[-1]

    async def create(self, **options: Any) -> Sandbox:
        """`Sandbox.create` with the test image; the sandbox is killed after the test."""
        options = {"image": SANDBOX_IMAGE, "connection_config": self.config(), **options}
        sandbox = await self.flavour.sandbox.create(**options)
        self.made.append(sandbox)
        return sandbox

    async def connect(self, sandbox_id: str) -> Sandbox:
        """`Sandbox.connect`; closed by whoever asked for it."""
        return await self.flavour.sandbox.connect(sandbox_id, connection_config=self.config())

    async def manager(self) -> SandboxManager:
        """The SDK's manager of many sandboxes."""
        return await self.flavour.manager.create(self.config())

    async def end(self) -> None:
        """Kills what was made and closes what was opened."""
        for sandbox in self.made:
            self.server.call("DELETE", f"/v1/sandboxes/{sandbox.id}")
            await sandbox.close()
        for config in self.configs:
            if config.transport is None:
                continue
            if self.flavour is ASYNC:  # a transport that the user gives is the user's to close
                await config.transport.aclose()
            else:
                config.transport.close()


@pytest.fixture(params=list(MODES.values()), ids=str)
def mode(request: pytest.FixtureRequest) -> Mode:
    """Every way of addressing."""
    chosen: Mode = request.param
    return chosen


@pytest.fixture(params=[ASYNC, SYNC], ids=str)
async def clients(
    request: pytest.FixtureRequest, mode: Mode, server_of: Callable[[Mode], ServerProcess]
) -> AsyncIterator[Clients]:
    """The SDK in every mode and both flavours; what a test made is gone afterwards."""
    clients = Clients(mode, request.param, server_of(mode))
    yield clients
    await clients.end()
    request.node.add_report_section("teardown", f"server in {mode.name} mode", clients.server.output()[-20_000:])


@pytest.fixture
async def shared(clients: Clients, shared_in: Callable[..., str]) -> AsyncIterator[Sandbox]:
    """The SDK connected to a sandbox that was running before, for tests that change nothing others look at."""
    sandbox = await clients.connect(shared_in(clients.server))
    yield sandbox
    await sandbox.close()


@pytest.fixture
def place() -> str:
    """A folder in a shared sandbox that is one test's own; it does not exist yet."""
    return f"/root/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def tools() -> Path:
    """Where the released Python programs are."""
    return installed("tools")


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
