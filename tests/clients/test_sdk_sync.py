"""The synchronous SDK, and the pools of sandboxes that the SDK keeps on the client's side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from opensandbox import InMemoryAsyncPoolStateStore, SandboxPoolAsync, SandboxSync
from opensandbox.models.filesystem import WriteEntry
from opensandbox.pool_types import PoolCreationSpec

from tests.clients.conftest import Clients
from tests.clients.modes import MODES, Mode, connection_sync
from tests.server_process import SANDBOX_IMAGE, ServerProcess

IDLE = 2


@pytest.fixture(params=list(MODES.values()), ids=str)
def sandbox(request: pytest.FixtureRequest, server_of: Callable[[Mode], ServerProcess]) -> Iterator[SandboxSync]:
    """A sandbox by the synchronous SDK, in every mode."""
    mode: Mode = request.param
    config = connection_sync(server_of(mode), mode)
    made = SandboxSync.create(SANDBOX_IMAGE, connection_config=config)
    yield made
    made.kill()
    made.close()
    if config.transport is not None:
        config.transport.close()


def test_core_calls(sandbox: SandboxSync) -> None:
    """State, command, files, metrics, renewal, pause and resume."""
    assert sandbox.get_info().status.state == "Running"
    assert sandbox.commands.run("echo said").text.strip() == "said"
    sandbox.files.write_files([WriteEntry(path="/root/a.txt", data="text")])
    assert sandbox.files.read_file("/root/a.txt") == "text"
    assert sandbox.get_metrics().cpu_count > 0
    assert sandbox.renew(timedelta(hours=1)).expires_at == sandbox.get_info().expires_at
    sandbox.pause()
    assert sandbox.get_info().status.state == "Paused"


async def test_client_side_pool(clients: Clients) -> None:
    """The SDK's own pool keeps idle sandboxes ready, hands one out and gives all back."""
    pool = SandboxPoolAsync(
        pool_name="tests",
        max_idle=IDLE,
        state_store=InMemoryAsyncPoolStateStore(),
        connection_config=clients.config(),
        creation_spec=PoolCreationSpec(image=SANDBOX_IMAGE),
    )
    async with pool:
        sandbox = await pool.acquire()
        assert (await sandbox.commands.run("echo pooled")).text.strip() == "pooled"
        await sandbox.kill()
        await pool.release_all_idle()
