"""The rest of the life cycle by the official SDK: pause, snapshots, lists, and the SDK's own pools."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from opensandbox import PoolCreationSpec, SandboxManager, SandboxPoolAsync
from opensandbox.exceptions import SandboxApiException
from opensandbox.models.sandboxes import SandboxFilter, SnapshotFilter
from opensandbox.models.templates import CreateTemplateRequest, TemplateFilter
from opensandbox.transport import RetryPolicy

from tests.clients.conftest import Clients
from tests.clients.modes import MODES
from tests.server_process import SANDBOX_IMAGE

SNAPSHOT_SECONDS = 30
PATIENCE = timedelta(seconds=4)
POOL_SECONDS = 30
POLL_SECONDS = 0.02
HEADER_MODE = pytest.mark.parametrize("mode", [MODES["header"]], ids=str, indirect=True)
"""For calls that never go where a mode would matter."""


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


async def idle(pool: SandboxPoolAsync, number: int) -> set[str]:
    """The ids of the pool's idle sandboxes once there are that many."""
    async with asyncio.timeout(POOL_SECONDS):
        while (await pool.snapshot()).idle_count != number:  # noqa: ASYNC110 - a pool announces nothing
            await asyncio.sleep(POLL_SECONDS)
    return {entry.sandbox_id for entry in await pool.snapshot_idle_entries()}


async def test_client_side_pool(clients: Clients) -> None:
    """The SDK's own pool keeps sandboxes ready, hands one of them out, grows, and gives all back."""
    mark = {"test": uuid.uuid4().hex}
    pool = clients.flavour.pool(
        pool_name="tests",
        max_idle=1,
        connection_config=clients.config(),
        creation_spec=PoolCreationSpec(image=SANDBOX_IMAGE, metadata=mark),
    )
    await pool.start()
    try:
        ready = await idle(pool, 1)
        sandbox = await pool.acquire()
        assert {sandbox.id} == ready
        assert (await sandbox.commands.run("echo pooled")).text.strip() == "pooled"
        await sandbox.destroy()
        await pool.resize(2)
        await idle(pool, 2)
    finally:
        await pool.resize(0)
        await pool.release_all_idle_parallel()
        await pool.shutdown()
        await pool.release_all_idle()
    async with await clients.manager() as manager:
        assert (await manager.list_sandbox_infos(SandboxFilter(metadata=mark))).sandbox_infos == []


@HEADER_MODE
async def test_the_manager_does_the_same(clients: Clients) -> None:
    """Whatever a sandbox does for itself, the manager of many does by its id."""
    sandbox_id = (await clients.create()).id
    async with await clients.manager() as manager:
        renewed = await manager.renew_sandbox(sandbox_id, timedelta(hours=3))
        assert (await manager.get_sandbox_info(sandbox_id)).expires_at == renewed.expires_at
        assert (await manager.patch_sandbox_metadata(sandbox_id, {"new": "1"})).metadata == {"new": "1"}
        assert (await manager.get_diagnostic_logs(sandbox_id, "container")).sandbox_id == sandbox_id
        assert (await manager.get_diagnostic_events(sandbox_id, "runtime")).sandbox_id == sandbox_id
        await manager.pause_sandbox(sandbox_id)
        assert (await manager.get_sandbox_info(sandbox_id)).status.state == "Paused"
        await manager.resume_sandbox(sandbox_id)
        await until_ready(manager, (await manager.create_snapshot(sandbox_id)).id)
        [snapshot] = (await manager.list_snapshots(SnapshotFilter(sandbox_id=sandbox_id))).snapshot_infos
        await manager.delete_snapshot(snapshot.id)
        await manager.kill_sandbox(sandbox_id)
        with pytest.raises(SandboxApiException):
            await manager.get_sandbox_info(sandbox_id)


@HEADER_MODE
async def test_templates_are_refused(clients: Clients) -> None:
    """This server has none, as the released one has none on Docker, and the client says so."""
    template = CreateTemplateRequest(image=SANDBOX_IMAGE, publish="s3://bucket/publish")
    async with await clients.manager() as manager:
        refusals: list[Callable[[], Awaitable[object]]] = [
            lambda: manager.create_template(template),
            lambda: manager.list_templates(TemplateFilter()),
            lambda: manager.get_template("tpl_1"),
            lambda: manager.delete_template("tpl_1"),
            lambda: clients.flavour.sandbox.create_from_template(
                "tpl_1", timeout=timedelta(minutes=5), connection_config=clients.config()
            ),
        ]
        statuses = []
        for refused in refusals:
            with pytest.raises(SandboxApiException) as told:
                await refused()
            statuses.append(told.value.status_code)
    assert statuses == [501, 501, 501, 501, 400]
