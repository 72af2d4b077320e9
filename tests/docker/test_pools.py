"""Warm pools on a real Engine: what is handed out, to whom, and what becomes of stock when anything changes."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import docker
import pytest

from manager.domain import errors
from manager.domain.sandbox import (
    EXECD_PORT,
    NamedVolume,
    NetworkPolicy,
    Platform,
    SandboxSpec,
    SandboxState,
    VolumeMount,
)
from manager.runtime.docker import pools
from manager.runtime.docker.engine.connection import Lane
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.model import Settings
from tests.docker.conftest import remove_all
from tests.docker.harness import Events, eventually, http_get, make_settings

pytestmark = pytest.mark.timeout(120)
T = TypeVar("T")
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
REF = {"poolRef": "warm"}


@pytest.fixture
def pooled(images: tuple[str, str], instance: str, tmp_path: Path) -> Callable[..., Settings]:
    """Settings with a pool of two."""

    def make(**changes: Any) -> Settings:
        pool = {"image": images[0], "size": 2, "resource_limits": {"memory": "256Mi"}, **changes}
        tables = {"docker": {"pools": {"warm": pool}}}
        return make_settings(images[1], f"{instance}-pool", tmp_path, **tables)

    return make


@pytest.fixture
async def warm(
    started: Started, pooled: Callable[..., Settings], engine: docker.APIClient, instance: str
) -> AsyncIterator[DockerRuntime]:
    """A runtime whose pool is full."""
    runtime, events = await started(pooled())
    runtime.events = events  # type: ignore[attr-defined]
    await full(runtime)
    yield runtime
    await runtime.stop()
    remove_all(engine, f"{instance}-pool")


def stock(runtime: DockerRuntime) -> list[str]:
    """Ids that wait."""
    return list(runtime._pools._stocks["warm"].free)


async def full(runtime: DockerRuntime, size: int = 2) -> list[str]:
    """Waits until the pool has its size."""
    return await eventually(lambda: stock(runtime) if len(stock(runtime)) == size else [])


def asked(runtime: DockerRuntime, spec: Spec, **changes: Any) -> SandboxSpec:
    """A request for a pooled sandbox, as the services make it."""
    fields = {"image": None, "entrypoint": (), "extensions": REF, **changes}
    return spec(id=runtime.reserve(REF) or "cold", **fields)


@pytest.mark.request_field("extensions.poolRef")
async def test_a_pooled_create_takes_what_waits(warm: DockerRuntime, spec: Spec) -> None:
    """The container has run all along, and says what its request says."""
    waiting = stock(warm)
    made = await warm.create(asked(warm, spec, metadata={"team": "x"}, secure_token="t0ken", owner="ann"), print)
    assert made.id in waiting
    assert made.status.state is SandboxState.RUNNING
    found = await warm.get(made.id)
    assert found is not None
    assert (found.metadata, found.secure_token, found.expires_at) == ({"team": "x"}, "t0ken", made.expires_at)
    assert found.owner == "ann"
    assert found.expires_at is not None
    assert (await http_get((str(found.addresses.dial_host), EXECD_PORT), "/ping"))[0] == 200


async def test_stock_is_nobodys_sandbox(warm: DockerRuntime) -> None:
    """Neither listed nor got nor deleted nor told of."""
    waiting = stock(warm)
    assert await warm.list() == ()
    assert await warm.get(waiting[0]) is None
    assert not await warm.delete(waiting[0])
    events: Events = warm.events  # type: ignore[attr-defined]
    assert len(events.all) == 1


async def test_the_pool_refills(warm: DockerRuntime, spec: Spec) -> None:
    """What was taken is replaced, and what was taken goes for good when it is deleted."""
    made = await warm.create(asked(warm, spec), print)
    assert made.id not in await full(warm)
    assert await warm.delete(made.id)
    assert made.id not in await full(warm)
    assert await warm._calls.inspect_volume(f"opensandbox-claim-{made.id}") is None


async def test_an_empty_pool_makes_one_the_slow_way(warm: DockerRuntime, spec: Spec) -> None:
    """Nobody is refused for being the third."""
    reserved = [warm.reserve(REF) for _ in range(3)]
    assert reserved[2] is None
    made = await warm.create(spec(image=None, entrypoint=(), extensions=REF), print)
    assert made.status.state is SandboxState.RUNNING


async def test_a_dead_one_is_not_handed_out(warm: DockerRuntime, spec: Spec, engine: docker.APIClient) -> None:
    """Its create makes another under the same id."""
    request = asked(warm, spec)
    await asyncio.to_thread(engine.kill, f"sandbox-{request.id}")
    made = await warm.create(request, print)
    assert (made.id, made.status.state) == (request.id, SandboxState.RUNNING)


async def test_a_killed_server_finds_stock_and_sandboxes_again(
    warm: DockerRuntime, started: Started, pooled: Callable[..., Settings], spec: Spec
) -> None:
    """Stock waits on, what was taken is still its owner's with all that was said of it."""
    made = await warm.create(asked(warm, spec, metadata={"a": "b"}), print)
    waiting = set(await full(warm))
    second, events = await started(pooled(), leftover_grace=0.0)
    assert [sandbox.metadata for sandbox in (await events.synced()).sandboxes] == [{"a": "b"}]
    assert set(await full(second)) == waiting
    assert await second.delete(made.id)


async def test_other_settings_drain_the_pool(
    warm: DockerRuntime, started: Started, pooled: Callable[..., Settings]
) -> None:
    """What follows yesterday's template goes."""
    waiting = set(stock(warm))
    second, _ = await started(pooled(resource_limits={"memory": "128Mi"}))
    assert not set(await full(second)) & waiting
    assert await warm._calls.inspect_container(f"sandbox-{waiting.pop()}") is None


async def test_a_pool_that_is_no_longer_configured(
    warm: DockerRuntime, started: Started, images: tuple[str, str], instance: str, tmp_path: Path, spec: Spec
) -> None:
    """The stock of a killed server goes with its pool; who took one keeps it."""
    made = await warm.create(asked(warm, spec), print)
    waiting = await full(warm)
    second, events = await started(make_settings(images[1], f"{instance}-pool", tmp_path))
    assert [sandbox.id for sandbox in (await events.synced()).sandboxes] == [made.id]
    for sandbox_id in waiting:
        assert await second._calls.inspect_container(f"sandbox-{sandbox_id}") is None
    assert await second.delete(made.id)


async def test_what_is_taken_stays_taken(warm: DockerRuntime, spec: Spec) -> None:
    """Neither a look at the pool that knows nothing yet nor one at the same time hands a sandbox out again."""
    first, second = asked(warm, spec), asked(warm, spec)
    await warm.create(first, print)
    warm._cache.claims.clear()
    await asyncio.gather(warm._pools.adopt(), warm.create(second, print))
    assert {first.id, second.id} <= set(warm._cache.claims)
    assert not {first.id, second.id} & set(stock(warm))


async def test_stop_drains_the_pool(
    started: Started, pooled: Callable[..., Settings], engine: docker.APIClient
) -> None:
    """A server that ends leaves no stock behind."""
    runtime, _ = await started(pooled())
    waiting = await full(runtime)
    await runtime.stop()
    left = await asyncio.to_thread(engine.containers, all=True, filters={"name": waiting[0]})
    assert left == []


async def test_stop_leaves_nothing_of_what_is_being_made(
    started: Started, pooled: Callable[..., Settings], engine: docker.APIClient, instance: str
) -> None:
    """The Engine has been told to make it, and makes it whether or not anybody waits."""
    runtime, _ = await started(pooled(size=1))
    begun, over, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()
    call = runtime._calls.engine.call

    async def telling(work: Callable[[Any], T], lane: Lane = Lane.SHORT) -> T:
        def told(client: Any) -> T:
            loop.call_soon_threadsafe(begun.set)
            try:
                return work(client)
            finally:
                over.set()

        return await call(told if "create_container" in work.__qualname__ else work, lane)

    await full(runtime, 1)
    runtime._calls.engine.call = telling  # type: ignore[method-assign]
    assert runtime.reserve(REF) is not None
    await begun.wait()
    await runtime.stop()
    await asyncio.to_thread(over.wait)
    mine = {"label": f"opensandbox.io/instance={instance}-pool", "status": ["created", "running"]}
    reserved = 1
    assert len(await asyncio.to_thread(engine.containers, all=True, filters=mine)) == reserved
    remove_all(engine, f"{instance}-pool")


async def test_another_image_under_the_same_name_drains_the_pool(
    started: Started,
    pooled: Callable[..., Settings],
    images: tuple[str, str],
    engine: docker.APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Noticed while the server runs: what waits is of yesterday's image."""
    monkeypatch.setattr(pools, "LOOK_EVERY", 0.1)
    repository = f"opensandbox-test/pool-{uuid.uuid4().hex[:8]}"
    engine.tag(images[0], repository, "1")
    runtime, _ = await started(pooled(image=f"{repository}:1"))
    old = set(await full(runtime))
    source = engine.create_container(images[0], "true")["Id"]
    engine.commit(source, repository=repository, tag="1", changes=["LABEL changed=yes"])
    engine.remove_container(source)
    await eventually(lambda: len(new := set(stock(runtime)) - old) == 2 and new)
    assert not old & set(stock(runtime))
    for sandbox_id in old:
        assert await runtime._calls.inspect_container(f"sandbox-{sandbox_id}") is None
    await runtime.stop()
    engine.remove_image(f"{repository}:1", force=True)


async def test_a_pool_has_its_own_network_volumes_entrypoint_and_limits(
    started: Started, pooled: Callable[..., Settings], spec: Spec, tmp_path: Path, engine: docker.APIClient
) -> None:
    """As its containers have run with them all along."""
    (tmp_path / "note").write_text("")
    keys = {"network_mode": "none", "volumes": [f"{tmp_path}/note:/note:ro"], "entrypoint": ["sleep", "601"]}
    runtime, _ = await started(pooled(size=1, **keys))
    await full(runtime, 1)
    made = await runtime.create(asked(runtime, spec, resource_limits={"memory": "0.25Gi"}), print)
    shown = engine.inspect_container(f"sandbox-{made.id}")
    assert (shown["HostConfig"]["NetworkMode"], shown["HostConfig"]["Binds"]) == ("none", keys["volumes"])
    assert (shown["Config"]["Cmd"], shown["HostConfig"]["Memory"]) == (keys["entrypoint"], 256 * 1024**2)
    assert await runtime.delete(made.id)


@pytest.mark.request_field("extensions.poolRef")
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image": "other:1"}, "image.uri"),
        ({"entrypoint": ("sleep", "1")}, "entrypoint"),
        ({"resource_limits": {"memory": "1Gi"}}, "resourceLimits"),
        ({"resource_limits": {"memory": "256Mi", "cpu": "1"}}, "resourceLimits"),
        ({"resource_requests": {"memory": "64Mi"}}, "resourceRequests"),
        ({"env": {"A": "b"}}, "env"),
        ({"env": {"A": None}}, "env"),
        ({"volumes": (VolumeMount("v", "/v", NamedVolume("v")),)}, "volumes"),
        ({"snapshot_id": "s"}, "snapshotId"),
        ({"platform": Platform("linux", "amd64")}, "platform"),
        ({"extensions": {**REF, "bootstrap.execd.isolation": "enable"}}, "extensions"),
        ({"network_policy": NetworkPolicy()}, "networkPolicy"),
        ({"secure_runtime": True}, "secureRuntime"),
        ({"extensions": {"poolRef": "none"}}, "poolRef"),
    ],
)
def test_what_differs_from_the_pool_is_refused_by_name(
    pooled: Callable[..., Settings], spec: Spec, changes: dict[str, Any], field: str
) -> None:
    """A pooled container cannot become another one."""
    fields = {"image": None, "entrypoint": (), "extensions": REF, **changes}
    with pytest.raises(errors.Invalid, match=field):
        DockerRuntime(pooled()).check(spec(**fields))
