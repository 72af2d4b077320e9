"""A server that kills itself: does one thing and sends itself SIGKILL before the n-th change it makes from then on, on
the Engine or in its store.

Run as a program with one JSON argument. Prints the id of what it makes, and `done` when the thing was done before that
many changes were made.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gateway.table import RouteTable
from manager.domain.request import CreateRequest
from manager.domain.sandbox import NamedVolume, NetworkPolicy, VolumeMount
from manager.domain.snapshot import SnapshotState
from manager.runtime.docker.engine.connection import Lane
from manager.runtime.docker.runtime import DockerRuntime
from manager.services.idempotency import KeyUse
from manager.services.wiring import Services, build_services
from manager.settings.model import Settings
from manager.store.store import Store

CHANGES = (Lane.CHANGE, Lane.SLOW)
KEY = KeyUse("", "once", "digest")
Order = dict[str, Any]


@asynccontextmanager
async def life(settings: Settings, *, grace: float = 60.0) -> Any:
    """A whole server without its listeners, in step with the Engine."""
    runtime = DockerRuntime(settings, leftover_grace=grace)
    services = build_services(settings, runtime, Store(Path(settings.store.path)), RouteTable())
    await services.start()
    try:
        await until(lambda: services.inventory.in_sync)
        await runtime._execd.kit(None)
        yield services
    finally:
        await services.stop()


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits for what nothing announces."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


def say(word: str) -> None:
    """One line for whoever started this."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def whole(order: Order) -> CreateRequest:
    """A sandbox with everything that can be left behind: a sidecar, their volume, and a volume of its own."""
    volume = VolumeMount("data", "/data", NamedVolume(order["volume"], delete_on_termination=True))
    return CreateRequest(
        image=order["image"],
        entrypoint=("sleep", "600"),
        timeout=600,
        volumes=(volume,),
        network_policy=NetworkPolicy("allow"),
    )


def plain(order: Order, **changes: Any) -> CreateRequest:
    """A sandbox by itself."""
    return CreateRequest(**{"image": order["image"], "entrypoint": ("sleep", "600"), "timeout": 600, **changes})


async def make(services: Services, request: CreateRequest) -> str:
    """A create of which the caller knows id and key from the beginning."""
    pending = await services.creation.begin(request, KEY, "somebody", durable=True)
    say(pending.id)
    work = services.creation._work.get(pending.id)
    if work is not None:
        await work
    return pending.id


async def snapshot_of(services: Services, sandbox_id: str) -> str:
    """A snapshot that is ready."""
    made = await services.snapshots.create(sandbox_id, "kept")
    await until(lambda: services.snapshots.get(made.id).state is not SnapshotState.CREATING)
    return made.id


async def nothing(services: Services, order: Order) -> str:
    """There is nothing to make ready."""
    return ""


async def a_whole_one(services: Services, order: Order) -> str:
    """A sandbox to delete."""
    return (await services.creation.create(whole(order))).id


async def a_plain_one(services: Services, order: Order) -> str:
    """A sandbox to keep."""
    return (await services.creation.create(plain(order))).id


async def a_snapshot(services: Services, order: Order) -> str:
    """A snapshot of a sandbox that goes on."""
    return await snapshot_of(services, await a_plain_one(services, order))


async def stock(services: Services, order: Order) -> str:
    """A container that waits in its pool."""
    pools = services.runtime._pools  # type: ignore[attr-defined]
    await until(lambda: pools._stocks["warm"].free)
    return ""


async def restored(services: Services, order: Order, snapshot_id: str) -> str:
    """A sandbox from the snapshot."""
    return await make(services, plain(order, image=None, snapshot_id=snapshot_id))


async def pooled(services: Services, order: Order, _: str) -> str:
    """A sandbox from the pool."""
    return await make(services, plain(order, image=None, entrypoint=(), extensions={"poolRef": "warm"}))


Ready = Callable[[Services, Order], Awaitable[str]]
Act = Callable[[Services, Order, str], Awaitable[object]]
ACTIONS: dict[str, tuple[Ready, Act]] = {
    "create": (nothing, lambda services, order, _: make(services, whole(order))),
    "delete": (a_whole_one, lambda services, order, ready: services.sandboxes.delete(ready)),
    "snapshot": (a_plain_one, lambda services, order, ready: snapshot_of(services, ready)),
    "delete snapshot": (a_snapshot, lambda services, order, ready: services.snapshots.delete(ready)),
    "restore": (a_snapshot, restored),
    "pooled create": (stock, pooled),
}


def arm(services: Services, survived: int) -> None:
    """From now on `survived` changes are made, and the process dies before the next one."""
    engine, database = services.runtime._engine, services.records.database  # type: ignore[attr-defined]
    call, run, made = engine.call, database.run, [0]
    # Events are written behind, at a time of their own: no step of the action, and not the same each time.
    services.records.events._database = SimpleNamespace(run=run)  # type: ignore[attr-defined]

    def one_more() -> None:
        if made[0] == survived:
            os.kill(os.getpid(), signal.SIGKILL)
        made[0] += 1

    async def deadly_call(work: Any, lane: Lane = Lane.SHORT) -> Any:
        if lane in CHANGES:
            one_more()
        return await call(work, lane)

    async def deadly_run(job: Any) -> Any:
        one_more()
        return await run(job)

    engine.call = deadly_call
    database.run = deadly_run


async def main(order: Order) -> None:
    """Makes ready what the action needs, and does it with the fuse lit."""
    ready, act = ACTIONS[order["action"]]
    async with life(Settings.model_validate(order["settings"])) as services:
        prepared = await ready(services, order)
        arm(services, order["survived"])
        await act(services, order, prepared)
        say("done")
        os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
