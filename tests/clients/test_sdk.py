"""The official SDK, as released, in both flavours, against our server on a real Engine, in every way of addressing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from opensandbox import Sandbox
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.execd import RunCommandOpts
from opensandbox.transport import RetryPolicy

from tests.clients.conftest import SAID, Clients
from tests.clients.modes import WILDCARD_DOMAIN

EXECD_PORT = 44772
RENEWED = timedelta(hours=2)
TOLERANCE = timedelta(seconds=30)
PATIENCE = timedelta(seconds=4)
POLL = timedelta(milliseconds=50)


async def test_from_create_to_destroy(clients: Clients) -> None:
    """Create comes back with a sandbox whose execd answers; destroyed, it is unknown, and nothing answers."""
    impatient = clients.config(request_timeout=PATIENCE, retry_policy=RetryPolicy.disabled())
    sandbox = await clients.create(env={"FROM_CREATE": "a"})
    assert (await sandbox.get_info()).status.state == "Running"
    assert (await sandbox.commands.run("echo $FROM_CREATE")).text.strip() == "a"
    other = await clients.flavour.sandbox.connect(sandbox.id, connection_config=impatient)
    await other.check_ready(PATIENCE, POLL)
    await sandbox.destroy()
    with pytest.raises(SandboxApiException) as refused:
        await other.get_info()
    assert refused.value.status_code == 404
    assert not await other.is_healthy()
    await other.close()


async def test_endpoint_has_the_form_of_the_mode(clients: Clients, shared: Sandbox) -> None:
    """The endpoint is what the documentation prints for the mode."""
    endpoint = await shared.get_endpoint(EXECD_PORT)
    label, address = f"{shared.id}-{EXECD_PORT}", clients.server.address
    port = clients.server.port
    expected = {
        "server-proxy": (f"{address}/v1/sandboxes/{shared.id}/proxy/{EXECD_PORT}", {}),
        "header": (address, {"OpenSandbox-Ingress-To": label}),
        "wildcard": (f"{label}.{WILDCARD_DOMAIN}:{port}", {}),
        "uri": (f"{address}/{shared.id}/{EXECD_PORT}", {}),
    }
    if clients.mode.name == "direct":
        host, _, published = endpoint.endpoint.partition(":")
        assert (host, published.isdecimal(), endpoint.headers) == ("127.0.0.1", True, {})
    else:
        assert (endpoint.endpoint, endpoint.headers) == expected[clients.mode.name]


async def test_command_streams_its_output(shared: Sandbox) -> None:
    """A command's lines, its error stream and its exit code arrive through the mode's address."""
    done = await shared.commands.run("echo one; echo two; echo three >&2; exit 3")
    assert [line.text.strip() for line in done.logs.stdout] == ["one", "two"]
    assert [line.text.strip() for line in done.logs.stderr] == ["three"]
    assert done.exit_code == 3


async def test_command_gets_environment_and_folder(shared: Sandbox) -> None:
    """Options of a command reach execd."""
    options = RunCommandOpts(working_directory="/tmp", envs={"FROM_COMMAND": "b"})
    done = await shared.commands.run("pwd; echo $FROM_CREATE$FROM_COMMAND", opts=options)
    assert [line.text.strip() for line in done.logs.stdout] == ["/tmp", "ab"]


async def test_renew_moves_the_expiry(shared: Sandbox) -> None:
    """The renewed expiry is what get tells from then on."""
    renewed = await shared.renew(RENEWED)
    assert abs(renewed.expires_at - (datetime.now(UTC) + RENEWED)) < TOLERANCE
    assert (await shared.get_info()).expires_at == renewed.expires_at


async def test_metadata_is_patched(shared: Sandbox, place: str) -> None:
    """A value is set, another one removed, the rest stays."""
    keep, drop = (f"{place.rpartition('/')[2]}.{word}" for word in ("keep", "drop"))
    before = (await shared.patch_metadata({keep: "1", drop: "2"})).metadata or {}
    assert before.items() >= {keep: "1", drop: "2"}.items()
    await shared.patch_metadata({drop: None, keep: "3"})
    assert (await shared.get_info()).metadata == {**{k: v for k, v in before.items() if k != drop}, keep: "3"}


async def test_metrics(shared: Sandbox) -> None:
    """The sandbox tells its processors and memory."""
    metrics = await shared.get_metrics()
    assert metrics.cpu_count > 0
    assert metrics.memory_total_in_mib > 0


async def test_diagnostics(shared: Sandbox) -> None:
    """Logs and events of the sandbox in the form the SDK reads."""
    logs = await shared.get_diagnostic_logs("container")
    assert SAID in (logs.content or "")
    events = await shared.get_diagnostic_events("runtime")
    assert "Running" in (events.content or "")
