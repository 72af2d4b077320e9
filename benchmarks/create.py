"""Creating sandboxes against the bare Engine: the same container, the same image, the same machine, in one run.

    benchmarks/create.py [--rounds N] [--list N]

Each round makes one container by `create` and `start` on the bare Engine and one sandbox by our runtime, in turn, and
deletes both; then the same with eight at once. Reports medians with quartiles and the ratio ours : bare. Also: list of
many, and the time a new server takes to adopt them. Writes benchmarks/results/create.json. Leaves nothing behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from manager.domain.sandbox import SandboxSpec  # noqa: E402
from manager.runtime.base import RuntimeEvent, Synced  # noqa: E402
from manager.runtime.docker.runtime import DockerRuntime  # noqa: E402
from manager.runtime.docker.spec import Extras, Wiring, container_body  # noqa: E402
from manager.settings.model import Settings  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "create.json"
AT_ONCE = 8
Timed = Callable[[], Awaitable[float]]


def settings(execd: str, instance: str, home: str, mode: str, **docker: Any) -> Settings:
    """Gateway mode publishes nothing, direct mode two ports on loopback."""
    gateway = {"address": "127.0.0.1:8080", "route": {"mode": "header"}}
    return Settings.model_validate(
        {
            "runtime": {"type": "docker", "execd_image": execd},
            "docker": {"network_mode": "bridge", "instance": instance, "publish_host": "127.0.0.1", **docker},
            "ingress": {"mode": mode, "gateway": gateway if mode == "gateway" else {}},
            "store": {"path": f"{home}/gateway.db"},
        }
    )


async def started(configured: Settings) -> tuple[DockerRuntime, float]:
    """A runtime in step with the Engine, and the seconds until it was."""
    runtime, synced = DockerRuntime(configured), asyncio.Event()

    def told(event: RuntimeEvent) -> None:
        if isinstance(event, Synced):
            synced.set()

    began = time.perf_counter()
    await runtime.start(told)
    await synced.wait()
    return runtime, time.perf_counter() - began


def spec(image: str) -> SandboxSpec:
    """A sandbox that does nothing."""
    now = datetime.now(UTC)
    return SandboxSpec(
        id=str(uuid.uuid4()),
        created_at=now,
        expires_at=now + timedelta(hours=1),
        image=image,
        entrypoint=("tail", "-f", "/dev/null"),
        resource_limits={"cpu": "1", "memory": "512Mi"},
    )


class Contest:
    """Bare Engine and our runtime, making the same container."""

    def __init__(self, runtime: DockerRuntime, image: str) -> None:
        self.runtime = runtime
        self.image = image

    async def ours(self) -> tuple[float, float]:
        """Seconds for one create and one delete."""
        asked = spec(self.image)
        began = time.perf_counter()
        await self.runtime.create(asked, lambda line: None)
        made = time.perf_counter()
        await self.runtime.delete(asked.id)
        return made - began, time.perf_counter() - made

    async def bare(self) -> tuple[float, float]:
        """The same container by create and start alone, and its removal."""
        calls, tools, asked = self.runtime._calls, self.runtime._tools, spec(self.image)
        choice, kit = await tools.networks.choose(tools.profile.network_mode), await tools.execd.kit(None)
        host = tools.profile.publish_on
        ports = (44772, 8080) if host else ()
        async with tools.ports.held(host or "", ports) as publish:
            extras = Extras(image=self.image, wiring=Wiring(choice.mode, publish), execd_volume=kit.volume)
            body = container_body(asked, tools.profile, extras)
            name = f"bare-{asked.id}"
            began = time.perf_counter()
            await calls.start(await calls.create_container(name, body))
            made = time.perf_counter()
        await calls.remove_container(name)
        return made - began, time.perf_counter() - made

    async def rounds(self, count: int, at_once: int) -> dict[str, Any]:
        """Both in turn, `at_once` of each at a time."""
        taken: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
        for number in range(count):
            order = ("bare", "ours") if number % 2 else ("ours", "bare")
            for who in order:
                make = self.bare if who == "bare" else self.ours
                taken[who] += await asyncio.gather(*(make() for _ in range(at_once)))
        result: dict[str, Any] = {
            step: {who: summary([pair[part] for pair in taken[who]]) for who in taken}
            for part, step in enumerate(("create", "delete"))
        }
        for step in result.values():
            step["ratio"] = round(step["ours"]["median_ms"] / step["bare"]["median_ms"], 3)
        return result


def summary(seconds: list[float]) -> dict[str, float]:
    """Median and quartiles in milliseconds."""
    low, middle, high = statistics.quantiles([1000 * value for value in seconds], n=4)
    return {"median_ms": round(middle, 1), "q1_ms": round(low, 1), "q3_ms": round(high, 1), "n": len(seconds)}


async def many(runtime: DockerRuntime, configured: Settings, image: str, count: int) -> dict[str, float]:
    """A list of many sandboxes, and how long another life of the server takes to know them all."""
    asked = [spec(image) for _ in range(count)]
    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*(runtime.create(one, lambda line: None) for one in asked[start : start + AT_ONCE]))
    await runtime.list()
    began = time.perf_counter()
    found = await runtime.list()
    listed = time.perf_counter() - began
    second, adopted = await started(configured)
    await second.stop()
    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*(runtime.delete(one.id) for one in asked[start : start + AT_ONCE]))
    return {"sandboxes": len(found), "list_ms": round(1000 * listed, 1), "adopt_ms": round(1000 * adopted, 1)}


def show(title: str, result: dict[str, Any]) -> None:
    """One table."""
    print(f"\n{title}\n{'':8} {'bare ms':>22} {'ours ms':>22} {'ratio':>7}")
    for step, values in result.items():
        cells = [f"{v['median_ms']:8.1f} ({v['q1_ms']:.0f}–{v['q3_ms']:.0f})" for v in (values["bare"], values["ours"])]
        print(f"{step:8} {cells[0]:>22} {cells[1]:>22} {values['ratio']:>7.2f}")


def build_images() -> list[str]:
    """Names of the sandbox image and the execd image."""
    built = subprocess.run([ROOT / "tests" / "images" / "build"], capture_output=True, text=True, check=True)
    return built.stdout.split()


async def pooled(execd: str, image: str, home: str, count: int) -> dict[str, Any]:
    """Creates from a warm pool that is full each time."""
    pools = {"warm": {"image": image, "size": 2, "resource_limits": {"cpu": "1", "memory": "512Mi"}}}
    runtime, _ = await started(settings(execd, f"bench-{uuid.uuid4().hex[:8]}", home, "gateway", pools=pools))
    taken: list[float] = []
    while len(taken) < count:
        name = runtime.reserve({"poolRef": "warm"})
        if name is None:
            await asyncio.sleep(0.05)
            continue
        asked = replace(spec(image), id=name, extensions={"poolRef": "warm"})
        await asyncio.sleep(1)  # the refill that the reservation started is not ours to measure
        began = time.perf_counter()
        await runtime.create(asked, lambda line: None)
        taken.append(time.perf_counter() - began)
        await runtime.delete(asked.id)
    await runtime.stop()
    return {"pooled create": summary(taken)}


async def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--list", type=int, default=200, dest="many")
    options = parser.parse_args()
    built = await asyncio.to_thread(build_images)
    image, execd = built
    report: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "rounds": options.rounds}
    with tempfile.TemporaryDirectory() as home:
        for mode in ("gateway", "direct"):
            configured = settings(execd, f"bench-{uuid.uuid4().hex[:8]}", home, mode)
            runtime, _ = await started(configured)
            contest = Contest(runtime, image)
            await contest.rounds(2, 1)
            for at_once in (1, AT_ONCE):
                count = options.rounds if at_once == 1 else max(3, options.rounds // AT_ONCE)
                result = report[f"{mode}, {at_once} at once"] = await contest.rounds(count, at_once)
                show(f"{mode} mode, {at_once} at once", result)
            if mode == "gateway" and options.many:
                report["many"] = await many(runtime, configured, image, options.many)
                print(f"\nmany: {report['many']}")
            await runtime.stop()
        report["pool"] = await pooled(execd, image, home, max(4, options.rounds // 2))
        print(f"\npool: {report['pool']}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
