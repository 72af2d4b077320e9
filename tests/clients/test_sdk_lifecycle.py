"""The rest of the life cycle by the official SDK: pause, snapshots, lists, and the SDK's own pools."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

import pytest
from opensandbox import PoolCreationSpec, SandboxManager
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.sandboxes import SandboxFilter, SnapshotFilter
from opensandbox.transport import RetryPolicy

from tests.clients.conftest import Clients
from tests.server_process import SANDBOX_IMAGE

SNAPSHOT_SECONDS = 30
PATIENCE = timedelta(seconds=2)
IDLE = 1


async def test_pause_and_resume(clients: Clients) -> None:
    """A paused sandbox does not answer and refuses to be paused again; resumed, it goes on where it was."""
    # In direct mode nobody stands between the client and the frozen port: only its own patience ends the wait.
    impatient = clients.config(request_timeout=PATIENCE, retry_policy=RetryPolicy.disabled())
    sandbox = await clients.create()
    await sandbox.files.write_file("/root/kept", "before")
    waiting = await clients.flavour.sandbox.connect(sandbox.id, connection_config=impatient)
    await sandbox.pause()
    assert (await sandbox.get_info()).status.state == "Paused"
    assert not await waiting.is_healthy()
    await waiting.close()
    with pytest.raises(SandboxApiException) as refused:
        await sandbox.pause()
    assert refused.value.status_code == 409
    resumed = await clients.flavour.sandbox.resume(sandbox.id, connection_config=clients.config())
    assert (await resumed.get_info()).status.state == "Running"
    assert await resumed.files.read_file("/root/kept") == "before"
    await resumed.close()


async def test_list_filters_by_state_and_metadata(clients: Clients) -> None:
    """States are ORed, metadata ANDed, pages counted."""
    both = {"test": uuid.uuid4().hex}
    one = {"example.com/team": "a.b-c_d", **both}
    first, second = [await clients.create(metadata=metadata) for metadata in (one, both)]
    async with await clients.manager() as manager:
        found = await manager.list_sandbox_infos(SandboxFilter(states=["Running", "Paused"], metadata=one))
        assert [info.id for info in found.sandbox_infos] == [first.id]
        page = await manager.list_sandbox_infos(SandboxFilter(metadata=both, page=2, page_size=1))
        assert (len(page.sandbox_infos), page.pagination.total_items) == (1, 2)
        await second.pause()
        running = await manager.list_sandbox_infos(SandboxFilter(states=["Running"], metadata=both))
        assert [info.id for info in running.sandbox_infos] == [first.id]


async def test_snapshot_and_restore(clients: Clients) -> None:
    """A sandbox made from a snapshot has the files of the one it was taken from."""
    sandbox = await clients.create()
    await sandbox.files.write_file("/root/kept", "in the snapshot")
    snapshot = await sandbox.create_snapshot("kept")
    async with await clients.manager() as manager:
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


async def test_client_side_pool(clients: Clients) -> None:
    """The SDK's own pool keeps idle sandboxes ready, hands one out and gives all back."""
    pool = clients.flavour.pool(
        pool_name="tests",
        max_idle=IDLE,
        connection_config=clients.config(),
        creation_spec=PoolCreationSpec(image=SANDBOX_IMAGE),
    )
    await pool.start()
    try:
        sandbox = await pool.acquire()
        assert (await sandbox.commands.run("echo pooled")).text.strip() == "pooled"
        await sandbox.kill()
        await sandbox.close()
        await pool.release_all_idle()
    finally:
        await pool.shutdown()
