"""A server that kills itself: runs one action and sends itself SIGKILL before the n-th change it makes on the Engine.

Run as a program with one JSON argument. Prints `done` when the action ended before that many changes were made.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from manager.domain.sandbox import NamedVolume, NetworkPolicy, SandboxSpec, VolumeMount
from manager.runtime.base import RuntimeEvent, Synced
from manager.runtime.docker.engine import Engine, Lane
from manager.runtime.docker.runtime import DockerRuntime
from manager.settings.model import Settings

CHANGES = (Lane.CHANGE, Lane.SLOW)


def spec(order: dict[str, Any]) -> SandboxSpec:
    """A sandbox with everything that can be left behind: a sidecar, their volume, and a volume of its own."""
    now = datetime.now(UTC)
    volume = VolumeMount("data", "/data", NamedVolume(order["volume"], delete_on_termination=True))
    return SandboxSpec(
        id=order["id"],
        created_at=now,
        expires_at=now + timedelta(minutes=10),
        image=order["image"],
        entrypoint=("sleep", "600"),
        volumes=(volume,),
        network_policy=NetworkPolicy("allow"),
    )


def arm(engine: Engine, survived: int) -> None:
    """From now on the engine makes `survived` changes and dies before the next one."""
    call, made = engine.call, [0]

    async def deadly(work: Any, lane: Lane = Lane.SHORT) -> Any:
        if lane in CHANGES:
            if made[0] == survived:
                os.kill(os.getpid(), signal.SIGKILL)
            made[0] += 1
        return await call(work, lane)

    engine.call = deadly  # type: ignore[method-assign]


async def main(order: dict[str, Any]) -> None:
    """Starts, makes ready what the action needs, and runs it with the fuse lit."""
    runtime = DockerRuntime(Settings.model_validate(order["settings"]))
    synced = asyncio.Event()

    def told(event: RuntimeEvent) -> None:
        if isinstance(event, Synced):
            synced.set()

    await runtime.start(told)
    await synced.wait()
    await runtime._execd.kit(None)
    if order["action"] != "create":
        await runtime.create(spec(order), print)
    arm(runtime._engine, order["survived"])
    if order["action"] == "create":
        await runtime.create(spec(order), print)
    elif order["action"] == "delete":
        await runtime.delete(order["id"])
    else:
        await runtime.snapshot(order["id"], order["id"])
    sys.stdout.write("done\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
