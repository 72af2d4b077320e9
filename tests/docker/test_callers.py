"""Code in a sandbox of one server calls the API of another on the same Engine, with that one's key: refused."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import docker
import pytest

from manager.runtime.docker.callers import Callers, addresses_of_host, gateways_with_sandboxes
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.engine.connection import Engine
from tests.clients.test_inside import ASK, ask, bridge_address
from tests.clients.test_restart import create
from tests.conftest import StartServer
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

pytestmark = pytest.mark.timeout(120)
KEY = "the-key-of-the-other-server"
PATIENCE = 30.0


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    """The client that the helpers of other tests take."""
    client = docker.from_env(timeout=60)
    yield client
    client.close()


@pytest.fixture
def other(start_server: StartServer) -> ServerProcess:
    """The server that is called; nobody has a sandbox there."""
    return start_server({"server": {"api_key": KEY, "host": "0.0.0.0"}})


def called(engine: docker.DockerClient, sandbox_id: str, other: ServerProcess) -> str:
    """What a create from inside this sandbox is answered by the other server."""
    host = bridge_address(engine, sandbox_id)
    return ask(engine, sandbox_id, "POST", f"http://{host}:{other.port}/v1/sandboxes", KEY)


@pytest.mark.parametrize("inter_container", [False, True], ids=["network of ours", "bridge of the Engine"])
def test_a_sandbox_of_one_server_does_not_manage_another(
    start_server: StartServer, other: ServerProcess, engine: docker.DockerClient, inter_container: bool
) -> None:
    """Whether a label on its network tells, or only the one on its container."""
    mine = start_server({"docker": {"inter_container": inter_container}})
    inside = create(mine)["id"]
    assert called(engine, inside, other).startswith("403 ")
    other.stop()
    other.start()
    wait_until(lambda: other.call("GET", "/ready")[0] == 200, PATIENCE, "readiness")
    assert called(engine, inside, other).startswith("403 ")
    assert other.call("GET", "/v1/sandboxes")[1]["pagination"]["totalItems"] == 0


def test_a_network_that_is_made_later(
    start_server: StartServer, other: ServerProcess, engine: docker.DockerClient
) -> None:
    """It is known by its event; its addresses are free again when it has gone."""
    name = f"opensandbox-{uuid.uuid4().hex[:8]}"
    mine = start_server({"docker": {"network_name": name}})
    try:
        inside = create(mine)["id"]
        assert called(engine, inside, other).startswith("403 ")
        mine.delete_all()
    finally:
        engine.networks.get(name).remove()


def test_who_is_no_sandbox_may_call(other: ServerProcess, engine: docker.DockerClient) -> None:
    """A container of the operator's on the Engine's bridge has a key, and is answered."""
    host = engine.networks.get("bridge").attrs["IPAM"]["Config"][0].get("Gateway") or "172.17.0.1"
    command = ["-c", ASK, "GET", f"http://{host}:{other.port}/v1/sandboxes", KEY]
    labels = {"opensandbox.io/id": ""}  # what the image of a snapshot leaves on it
    told = engine.containers.run(SANDBOX_IMAGE, command, entrypoint="python3", labels=labels, remove=True)
    assert told.decode().startswith("200")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", set()),
        ("::1", set()),
        ("0.0.0.0", {"172.18.0.1"}),
        ("", {"172.18.0.1"}),
        ("192.0.2.1", {"172.18.0.1"}),
    ],
)
def test_a_gateway_stands_for_sandboxes_where_they_can_dial_us(address: str, expected: set[str]) -> None:
    """A port on loopback is for programs of the host alone."""
    container = {
        "NetworkSettings": {
            "Ports": {"8080/tcp": [{"HostIp": address, "HostPort": "8080"}], "9090/tcp": None},
            "Networks": {"a": {"Gateway": "172.18.0.1", "IPv6Gateway": ""}},
        }
    }
    assert gateways_with_sandboxes(container) == expected
    assert gateways_with_sandboxes(None) == frozenset()


async def test_addresses_that_are_not_the_sandboxes_own() -> None:
    """Of this machine where the Engine's sandboxes come as it, of a remote Engine's machine; never loopback."""
    callers = Callers(Calls(Engine({}, timeout=1, silence=1)), is_own_machine=lambda text: text != "203.0.113.9")
    callers.detours = await addresses_of_host("192.0.2.7") | await addresses_of_host("127.0.0.1")
    assert callers.detours == {"192.0.2.7"}
    assert [text in callers for text in ("192.0.2.7", "192.0.2.2", "203.0.113.9", "127.0.0.1", "::1", "unknown")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
