"""The rest of the life cycle by the official SDK: pause, snapshots, lists, metadata, tokens and signed addresses."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import httpx
import pytest
from opensandbox import Sandbox, SandboxManager
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.sandboxes import NetworkPolicy, SandboxEndpoint, SandboxFilter, SnapshotFilter
from opensandbox.transport import RetryPolicy

from tests.clients.conftest import Clients
from tests.clients.modes import MODES, LocalNames
from tests.server_process import SANDBOX_IMAGE

EXECD_PORT = 44772
TOKEN_HEADER = "OpenSandbox-Secure-Access"
ACCESS_SECONDS = 300
SNAPSHOT_SECONDS = 30
PATIENCE = timedelta(seconds=2)
GATEWAY_MODES = [mode for mode in MODES.values() if mode.route]
DIRECT_MODES = [mode for mode in MODES.values() if not mode.route]


async def ping(endpoint: SandboxEndpoint, **headers: str) -> int:
    """One plain request to execd at that address; returns the status."""
    async with httpx.AsyncClient(transport=LocalNames()) as client:
        answer = await client.get(f"http://{endpoint.endpoint}/ping", headers={**endpoint.headers, **headers})
        return answer.status_code


async def test_pause_and_resume(clients: Clients) -> None:
    """A paused sandbox does not answer and says why; resumed, it goes on where it was."""
    # In direct mode nobody stands between the client and the frozen port: only its own patience ends the wait.
    impatient = clients.config(request_timeout=PATIENCE, retry_policy=RetryPolicy.disabled())
    sandbox = await clients.create(connection_config=impatient)
    await sandbox.files.write_file("/root/kept", "before")
    await sandbox.pause()
    assert (await sandbox.get_info()).status.state == "Paused"
    assert not await sandbox.is_healthy()
    resumed = await Sandbox.resume(sandbox.id, connection_config=clients.config())
    assert (await resumed.get_info()).status.state == "Running"
    assert await resumed.files.read_file("/root/kept") == "before"
    await resumed.close()


async def test_pause_of_a_paused_one_is_a_conflict(clients: Clients) -> None:
    """409 with the state in words."""
    sandbox = await clients.create()
    await sandbox.pause()
    with pytest.raises(SandboxApiException) as refused:
        await sandbox.pause()
    assert refused.value.status_code == 409


async def test_list_filters_by_state_and_metadata(clients: Clients) -> None:
    """States are ORed, metadata ANDed, pages counted."""
    mark = {"example.com/team": "a.b-c_d", "test": clients.mode.name}
    made = {(await clients.create(metadata=mark)).id for _ in range(2)}
    await clients.create(metadata={"test": clients.mode.name})
    async with await SandboxManager.create(clients.config()) as manager:
        found = await manager.list_sandbox_infos(SandboxFilter(states=["Running", "Paused"], metadata=mark))
        assert {info.id for info in found.sandbox_infos} == made
        page = await manager.list_sandbox_infos(SandboxFilter(metadata=mark, page=2, page_size=1))
        assert (len(page.sandbox_infos), page.pagination.total_items) == (1, 2)
        assert (await manager.list_sandbox_infos(SandboxFilter(states=["Failed"], metadata=mark))).sandbox_infos == []


async def test_metadata_is_patched(clients: Clients) -> None:
    """A value is set, another one removed, the rest stays."""
    sandbox = await clients.create(metadata={"keep": "1", "drop": "2"})
    await sandbox.patch_metadata({"drop": None, "new": "3"})
    assert (await sandbox.get_info()).metadata == {"keep": "1", "new": "3"}


async def test_snapshot_and_restore(clients: Clients) -> None:
    """A sandbox made from a snapshot has the files of the one it was taken from."""
    sandbox = await clients.create()
    await sandbox.files.write_file("/root/kept", "in the snapshot")
    snapshot = await sandbox.create_snapshot("kept")
    async with await SandboxManager.create(clients.config()) as manager:
        await until_ready(manager, snapshot.id)
        listed = await manager.list_snapshots(SnapshotFilter(sandbox_id=sandbox.id))
        assert [found.id for found in listed.snapshot_infos] == [snapshot.id]
        restored = await clients.create(image=None, snapshot_id=snapshot.id)
        assert await restored.files.read_file("/root/kept") == "in the snapshot"
        await restored.kill()
        await manager.delete_snapshot(snapshot.id)
        with pytest.raises(SandboxApiException):
            await manager.get_snapshot(snapshot.id)


async def until_ready(manager: SandboxManager, snapshot_id: str) -> None:
    """Waits for the end of the commit."""
    async with asyncio.timeout(SNAPSHOT_SECONDS):
        while (await manager.get_snapshot(snapshot_id)).status.state != "Ready":
            pass


@pytest.mark.parametrize("clients", GATEWAY_MODES, ids=str, indirect=True)
async def test_secure_access_needs_the_token(clients: Clients) -> None:
    """With the endpoint's own headers execd answers; without, or with another token, it is 401."""
    sandbox = await clients.create(secure_access=True)
    endpoint = await sandbox.get_endpoint(EXECD_PORT)
    assert endpoint.headers[TOKEN_HEADER]
    assert await ping(endpoint) == 200
    assert await ping(endpoint, **{TOKEN_HEADER: "another"}) == 401
    del endpoint.headers[TOKEN_HEADER]
    assert await ping(endpoint) == 401


@pytest.mark.parametrize("clients", GATEWAY_MODES, ids=str, indirect=True)
async def test_signed_endpoint_opens_a_secured_sandbox(clients: Clients) -> None:
    """A signed address needs no token until it expires, and cannot be altered."""
    sandbox = await clients.create(secure_access=True)
    signed = await sandbox.get_signed_endpoint(EXECD_PORT, int(time.time()) + ACCESS_SECONDS)
    assert await ping(signed) == 200
    plain = await sandbox.get_endpoint(EXECD_PORT)
    assert signed.endpoint != plain.endpoint or signed.headers != plain.headers


@pytest.mark.parametrize("clients", DIRECT_MODES, ids=str, indirect=True)
async def test_secure_access_is_refused_where_it_means_nothing(clients: Clients) -> None:
    """In direct mode the ports are open to everybody who reaches the host: 400 rather than a false promise."""
    with pytest.raises(SandboxApiException) as refused:
        await Sandbox.create(SANDBOX_IMAGE, secure_access=True, connection_config=clients.config())
    assert refused.value.status_code == 400


async def test_network_policy_without_a_sidecar_is_refused(clients: Clients) -> None:
    """No egress image is configured: 400 that says so, and no sandbox."""
    with pytest.raises(SandboxApiException) as refused:
        await clients.create(network_policy=NetworkPolicy(defaultAction="deny"))
    assert refused.value.status_code == 400
    assert "egress" in str(refused.value)


async def test_diagnostics(clients: Clients) -> None:
    """Logs and events of the sandbox in the form the SDK reads."""
    sandbox = await clients.create(entrypoint=["sh", "-c", "echo said by the main process; sleep 600"])
    logs = await sandbox.get_diagnostic_logs("container")
    assert "said by the main process" in (logs.content or "")
