"""The official SDK, as released, against our server on a real Engine, in every way of addressing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from opensandbox import Sandbox
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.execd import RunCommandOpts

from tests.clients.conftest import Clients
from tests.clients.modes import WILDCARD_DOMAIN

EXECD_PORT = 44772
RENEWED = timedelta(hours=2)
TOLERANCE = timedelta(seconds=30)


async def test_create_waits_until_execd_answers(clients: Clients) -> None:
    """`Sandbox.create` comes back with a sandbox whose execd answers through the mode's address."""
    sandbox = await clients.create()
    info = await sandbox.get_info()
    assert info.status.state == "Running"
    assert await sandbox.is_healthy()


async def test_endpoint_has_the_form_of_the_mode(clients: Clients) -> None:
    """The endpoint is what the documentation prints for the mode."""
    sandbox = await clients.create()
    endpoint = await sandbox.get_endpoint(EXECD_PORT)
    label, address = f"{sandbox.id}-{EXECD_PORT}", clients.server.address
    port = clients.server.port
    expected = {
        "server-proxy": (f"{address}/v1/sandboxes/{sandbox.id}/proxy/{EXECD_PORT}", {}),
        "header": (address, {"OpenSandbox-Ingress-To": label}),
        "wildcard": (f"{label}.{WILDCARD_DOMAIN}:{port}", {}),
        "uri": (f"{address}/{sandbox.id}/{EXECD_PORT}", {}),
    }
    if clients.mode.name == "direct":
        host, _, published = endpoint.endpoint.partition(":")
        assert (host, published.isdecimal(), endpoint.headers) == ("127.0.0.1", True, {})
    else:
        assert (endpoint.endpoint, endpoint.headers) == expected[clients.mode.name]


async def test_command_streams_its_output(clients: Clients) -> None:
    """A command's lines, its error stream and its exit code arrive through the mode's address."""
    sandbox = await clients.create()
    done = await sandbox.commands.run("echo one; echo two; echo three >&2; exit 3")
    assert [line.text.strip() for line in done.logs.stdout] == ["one", "two"]
    assert [line.text.strip() for line in done.logs.stderr] == ["three"]
    assert done.exit_code == 3


async def test_command_gets_environment_and_folder(clients: Clients) -> None:
    """Options of a command reach execd."""
    sandbox = await clients.create(env={"FROM_CREATE": "a"})
    options = RunCommandOpts(working_directory="/tmp", envs={"FROM_COMMAND": "b"})
    done = await sandbox.commands.run("pwd; echo $FROM_CREATE$FROM_COMMAND", opts=options)
    assert [line.text.strip() for line in done.logs.stdout] == ["/tmp", "ab"]


async def test_renew_moves_the_expiry(clients: Clients) -> None:
    """The renewed expiry is what get tells from then on."""
    sandbox = await clients.create(timeout=timedelta(minutes=5))
    renewed = await sandbox.renew(RENEWED)
    assert abs(renewed.expires_at - (datetime.now(UTC) + RENEWED)) < TOLERANCE
    assert (await sandbox.get_info()).expires_at == renewed.expires_at


async def test_connect_finds_a_running_sandbox(clients: Clients) -> None:
    """`Sandbox.connect` attaches to what another client made."""
    made = await clients.create()
    other = await Sandbox.connect(made.id, connection_config=clients.config())
    done = await other.commands.run("echo found")
    assert done.text.strip() == "found"
    await other.close()


async def test_kill_ends_it_for_every_client(clients: Clients) -> None:
    """After kill the sandbox is unknown: 404 on get, and its execd does not answer."""
    sandbox = await clients.create()
    await sandbox.kill()
    with pytest.raises(SandboxApiException) as refused:
        await sandbox.get_info()
    assert refused.value.status_code == 404
    assert not await sandbox.is_healthy()
