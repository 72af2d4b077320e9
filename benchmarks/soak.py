"""Mixed traffic against the gateway for a while: no wrong byte, and memory and descriptors stay flat.

    scripts/bench soak [--minutes 20] [--keep NAME]

GETs, uploads, echoes, early answers, truncated answers, event streams, WebSockets, aborts, slow readers, pipelines,
idle connections and sandboxes that go while they are used, all at once, on 127.0.0.1. Content is known by its seed and
compared by hash on both sides. The exit code tells whether everything held.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import uvloop

from benchmarks.harness.processes import Program, await_port, free_port, raise_file_limit, stop
from benchmarks.harness.results import keep, machine, table
from benchmarks.peers import soak_backend
from benchmarks.peers.soak_clients import KINDS, Traffic, fill, repeat

GATEWAY = Path(__file__).parent / "peers" / "soak_gateway.py"
ROUTES = 100
SAMPLE_SECONDS = 5.0
WARM_UP = 0.4
"""The part of the run that memory may take to fill its pools and caches."""
MAX_GROWTH = 0.05
"""Most that memory may grow, between the first and the last quarter after the warm-up."""
QUIET_SECONDS = 25.0
"""After that the gateway has closed its idle connections on both sides."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The gateway at one moment."""

    seconds: float
    rss_mib: float
    descriptors: int
    cpu_seconds: float


class Watch:
    """Looks at the gateway from time to time."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._started = time.monotonic()
        self.samples: list[Sample] = []

    def look(self) -> Sample:
        """Takes a sample."""
        sample = Sample(
            round(time.monotonic() - self._started, 1),
            round(self._program.rss_bytes() / (1 << 20), 2),
            len(list(Path(f"/proc/{self._program.pid}/fd").iterdir())),
            round(self._program.cpu_seconds(), 2),
        )
        self.samples.append(sample)
        return sample

    async def run(self) -> None:
        """Takes samples until it is cancelled."""
        while True:
            self.look()
            await asyncio.sleep(SAMPLE_SECONDS)

    def growth(self) -> float:
        """How much the memory grew after the warm-up: median of the last quarter over that of the first, minus one."""
        warm = self.samples[int(len(self.samples) * WARM_UP) :]
        quarter = max(1, len(warm) // 4)
        first, last = (statistics.median(one.rss_mib for one in part) for part in (warm[:quarter], warm[-quarter:]))
        return last / first - 1

    def slope(self) -> float:
        """MiB an hour, by the least squares, after the warm-up."""
        warm = self.samples[int(len(self.samples) * WARM_UP) :]
        if len(warm) < 2:
            return 0.0
        return statistics.linear_regression([s.seconds for s in warm], [s.rss_mib for s in warm]).slope * 3600


def launch(port: int, backend: int) -> subprocess.Popen[bytes]:
    """Starts the gateway in its process; returns once it listens."""
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, str(GATEWAY), str(port), str(backend), str(ROUTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        await_port(process, port, complaints)
        return process


@contextlib.asynccontextmanager
async def gateway(port: int, backend: int) -> AsyncIterator[tuple[Program, Callable[[str], Awaitable[None]]]]:
    """The gateway in its process, and how its routes are changed."""
    process = await asyncio.to_thread(launch, port, backend)
    loop, answers, turn = asyncio.get_running_loop(), asyncio.StreamReader(), asyncio.Lock()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(answers), process.stdout)
    commands, _ = await loop.connect_write_pipe(asyncio.Protocol, process.stdin)

    async def control(command: str) -> None:
        async with turn:
            commands.write(command.encode() + b"\n")
            await answers.readline()

    try:
        yield Program(process.pid), control
    finally:
        await asyncio.to_thread(stop, process)


async def soak(minutes: float) -> dict[str, Any]:
    """Runs everything for so long; returns the record."""
    port, backend = free_port(), free_port()
    runner = await soak_backend.start(backend)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
    async with (
        gateway(port, backend) as (program, control),
        aiohttp.ClientSession(connector=connector, read_bufsize=1 << 18) as session,
    ):
        watch = Watch(program)
        idle = watch.look()
        traffic = Traffic(port, session, control)
        await fill(traffic)
        filled = watch.look()
        ended = asyncio.Event()
        watching = asyncio.create_task(watch.run())
        loops = [
            asyncio.create_task(repeat(kind, traffic, ended)) for kind, count in KINDS.items() for _ in range(count)
        ]
        await asyncio.wait(loops, timeout=minutes * 60, return_when=asyncio.FIRST_EXCEPTION)
        ended.set()
        watching.cancel()
        await asyncio.gather(*loops)
        await session.close()
        await asyncio.sleep(QUIET_SECONDS)
        quiet = watch.look()
    await runner.cleanup()
    return record(minutes, traffic, watch, Moments(idle, filled, quiet))


class Moments(NamedTuple):
    """The gateway before anything, with its bounded memories full, and after everything."""

    idle: Sample
    filled: Sample
    quiet: Sample


def record(minutes: float, traffic: Traffic, watch: Watch, moments: Moments) -> dict[str, Any]:
    """What was seen, and whether it held."""
    growth = watch.growth()
    idle, filled, quiet = moments
    verdict = {
        "no wrong bytes": not traffic.wrong,
        "no unexpected errors": not traffic.errors,
        "memory flat": growth <= MAX_GROWTH,
        "descriptors back": quiet.descriptors <= idle.descriptors,
    }
    busiest = max(watch.samples, key=lambda sample: sample.descriptors)
    return {
        "minutes": minutes,
        "verdict": verdict,
        "exchanges": dict(sorted(traffic.done.items())),
        "mib_checked": round(traffic.bytes_checked / (1 << 20)),
        "wrong": traffic.wrong[:50],
        "errors": dict(traffic.errors.most_common(50)),
        "rss_growth_after_warm_up": round(growth, 4),
        "rss_slope_mib_per_hour": round(watch.slope(), 2),
        "rss_mib": {
            "idle": idle.rss_mib,
            "filled": filled.rss_mib,
            "most": max(s.rss_mib for s in watch.samples),
            "quiet": quiet.rss_mib,
        },
        "descriptors": {"idle": idle.descriptors, "most": busiest.descriptors, "quiet": quiet.descriptors},
        "cpu_seconds": quiet.cpu_seconds,
        "samples": [[s.seconds, s.rss_mib, s.descriptors] for s in watch.samples[:: max(1, len(watch.samples) // 60)]],
        "machine": machine(),
    }


def show(result: dict[str, Any]) -> None:
    """The summary for people."""
    print(table(["traffic", "times"], [[kind, str(count)] for kind, count in result["exchanges"].items()]))
    for name in (
        "minutes",
        "mib_checked",
        "rss_mib",
        "rss_growth_after_warm_up",
        "rss_slope_mib_per_hour",
        "descriptors",
    ):
        print(f"{name.replace('_', ' ')}: {result[name]}")
    for problem in (*result["wrong"], *(f"{count} × {what}" for what, count in result["errors"].items())):
        print("PROBLEM", problem)
    for what, held in result["verdict"].items():
        print(f"{'ok  ' if held else 'FAIL'} {what}")


def main() -> None:
    """Soaks, shows and keeps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--keep", default="soak", help="name of the file under results/; empty for none")
    options = parser.parse_args()
    raise_file_limit()
    result = uvloop.run(soak(options.minutes))
    show(result)
    if options.keep:
        print(keep(options.keep, result))
    sys.exit(0 if all(result["verdict"].values()) else 1)


if __name__ == "__main__":
    main()
