"""An Engine that is down, comes back, loses its stream or hangs: said clearly, and survived."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from manager.domain import errors
from manager.domain.sandbox import SandboxSpec
from manager.runtime.base import Synced
from manager.runtime.docker import events as events_module
from manager.runtime.docker.engine import connection as engine_module
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.model import Settings
from tests.docker.harness import EngineProxy, Events, make_settings
from tests.server_process import ServerProcess, wait_until

pytestmark = pytest.mark.timeout(60)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[EngineProxy]:
    """A way to the Engine that can be broken."""
    proxy = EngineProxy(tmp_path)
    await proxy.start()
    yield proxy
    proxy.hanging = False
    await proxy.stop()


@pytest.fixture
def through(images: tuple[str, str], instance: str, tmp_path: Path, proxy: EngineProxy) -> Settings:
    """Settings that lead through the proxy."""
    return make_settings(images[1], instance, tmp_path, docker={"host": proxy.url})


async def test_down_at_start_is_degraded_and_refuses_with_the_reason(
    through: Settings, proxy: EngineProxy, spec: Spec
) -> None:
    """Nothing answers: the runtime starts, says so, and a create is Unavailable with what to do."""
    await proxy.stop()
    runtime = DockerRuntime(through)
    await runtime.start(lambda event: None)
    try:
        assert runtime.degraded() is not None
        with pytest.raises(errors.Unavailable) as raised:
            await runtime.create(spec(), print)
    finally:
        await runtime.stop()
    assert raised.value.code == "DOCKER::ENGINE_UNAVAILABLE"
    assert "DOCKER_HOST" in raised.value.message


async def test_down_at_start_is_one_warning(proxy: EngineProxy, tmp_path: Path) -> None:
    """However often it is tried meanwhile; and one line when the Engine answers."""
    await proxy.stop()
    server = ServerProcess(tmp_path, {"docker": {"host": proxy.url}})
    await asyncio.to_thread(server.start, ready=False)
    try:
        await asyncio.to_thread(wait_until, lambda: "out of step" in server.output(), 20, "the warning")
        await proxy.start()
        await asyncio.to_thread(wait_until, lambda: server.call("GET", "/ready")[0] == 200, 30, "the recovery")
        said = [line for line in server.output().splitlines() if "with the runtime" in line]
    finally:
        await asyncio.to_thread(server.stop)
    assert [("WARNING" in line, "trying again until it answers" in line) for line in said] == [
        (True, True),
        (False,) * 2,
    ]
    assert "in step with the runtime" in said[1]


async def test_down_at_start_recovers_when_the_engine_comes(through: Settings, proxy: EngineProxy) -> None:
    """The first picture is delivered whenever it first stands."""
    await proxy.stop()
    runtime, events = DockerRuntime(through), Events()
    await runtime.start(events.take)
    await proxy.start()
    await events.synced()
    try:
        assert runtime.degraded() is None
    finally:
        await runtime.stop()


async def test_a_cut_stream_is_listed_again(
    through: Settings, proxy: EngineProxy, started: Started, spec: Spec
) -> None:
    """What happened while the stream was down is in the next picture."""
    runtime, events = await started(through)
    made = await runtime.create(spec(), print)
    proxy.cut()
    await events.lost()

    def again(event: Any) -> bool:
        return isinstance(event, Synced) and any(sandbox.id == made.id for sandbox in event.sandboxes)

    assert await events.until(again)
    assert runtime.degraded() is None
    await runtime.delete(made.id)


async def test_a_hanging_engine_is_noticed(
    through: Settings, proxy: EngineProxy, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Engine that closes nothing and answers nothing is found out by the missing sign of life."""
    monkeypatch.setattr(events_module, "PING_EVERY", 0.1)
    monkeypatch.setattr(engine_module, "HEALTH_TIMEOUT", 0.5)
    runtime, events = await started(through)
    proxy.hanging = True
    await events.lost()
    assert runtime.degraded() is not None
    proxy.hanging = False  # or the end of the runtime waits for what is under way


@pytest.mark.parametrize(("threads", "sizes"), [(1, {2}), (4, {4}), (200, {16, 32, 64})])
def test_threads_for_blocking_work(settings: Settings, threads: int, sizes: set[int]) -> None:
    """server.thread_pool_size bounds each kind of work; the sign of life has its one thread in any case."""
    server = settings.server.model_copy(update={"thread_pool_size": threads})
    workers = DockerRuntime(settings.model_copy(update={"server": server}))._engine._workers.values()
    assert {lane.size for lane in workers} == {1} | sizes


@pytest.mark.defect(11)
async def test_hanging_pulls_leave_short_calls_free(
    started: Started, settings: Settings, images: tuple[str, str]
) -> None:
    """Twenty pulls wait for a registry that never answers; an inspect does not wait for them."""
    runtime, _ = await started(settings)
    silent = socket.create_server(("127.0.0.1", 0), backlog=64)
    port = silent.getsockname()[1]
    pulls = [
        asyncio.ensure_future(runtime._calls.pull(f"127.0.0.1:{port}/hang/{n}:1", None, None, lambda record: None))
        for n in range(20)
    ]
    try:
        await asyncio.sleep(0)
        assert await runtime._calls.inspect_image(images[0]) is not None
        assert not any(pull.done() for pull in pulls)
    finally:
        silent.close()
        for pull in pulls:
            pull.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)
