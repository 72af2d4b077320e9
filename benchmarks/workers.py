"""What a second process costs and brings: CPU per request with one and with two, and who gets how many connections.

    scripts/bench workers [--rounds 11] [--seconds 2] [--connections 64,256]

Measured in two placements: `one core` gives the processes of the proxy a core of their own and all else the others, so
that the second process costs what it costs and nothing else does; `all cores` lets everybody run everywhere, as in
production, where a second process also takes part in the struggle for the cores. Rounds are interleaved and ratios are
taken within a round. Two more figures say how the second process follows the first: the time until a worker
serves, and the time from a change of the route table until a worker has taken it in.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.processes import PROXY_CORE, Program, free_port, other_cores, raise_file_limit, running
from benchmarks.harness.results import keep, machine, ratios, shown, spread, table
from benchmarks.harness.rivals import PEERS, ROUTES, SANDBOX, answering_backend, host_header
from benchmarks.harness.wrk import Case, Sample, read_sample
from benchmarks.peers.gateway_server import ROUTING, fill
from benchmarks.peers.workers_server import Nobody
from gateway.options import GatewayOptions
from gateway.table import Removal, RouteTable, SandboxRoute
from gateway.upstream.targets import Targets
from gateway.workers.messages import Secrets, Setup
from manager.workers.supervisor import Workers

PROCESSES = (1, 2)
ESTABLISHED = "01"
CHANGES = 200
WITHIN = 1.05
"""How much more a request may cost with two processes."""
LEAST = 0.4
"""The share of the connections that each of two must have."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its cost, and how many client connections each process had in the middle of it."""

    sample: Sample
    connections: tuple[int, ...]

    @property
    def least_share(self) -> float:
        """The share of the process with the fewest connections."""
        return min(self.connections) / max(1, sum(self.connections))


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--connections", default="64,256")
    return parser.parse_args()


def every_core() -> set[int]:
    """Nothing is pinned: where there are as many workers as cores, nothing could be."""
    return os.sched_getaffinity(0)


@dataclass(frozen=True, slots=True)
class Placement:
    """Which cores the proxy runs on, and which everybody else."""

    name: str
    proxy: frozenset[int]
    others: frozenset[int]


def placements() -> list[Placement]:
    """The two ways of running on this machine."""
    every = frozenset(every_core())
    return [
        Placement("one core", frozenset({PROXY_CORE}), frozenset(other_cores())),
        Placement("all cores", every, every),
    ]


def place(program: Program, cores: frozenset[int]) -> None:
    """Moves all processes of the program to these cores."""
    for pid in program.pids():
        os.sched_setaffinity(pid, cores)


def connections_of(pid: int, port: int) -> int:
    """Established connections that the process has accepted on the port."""
    ending = f":{port:04X}"
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(ending) and fields[3] == ESTABLISHED:
            inodes.add(f"socket:[{fields[9]}]")
    held = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held += str(entry.readlink()) in inodes
    return held


def run(case: Case, port: int, host: str, program: Program, seconds: float, placement: Placement) -> Run:
    """One run of wrk, with a look at the connections in its middle."""
    place(program, placement.proxy)
    found: list[int] = []
    look = threading.Timer(seconds / 2, lambda: found.extend(connections_of(pid, port) for pid in program.pids()))
    look.start()
    command = ["wrk", "-t1", f"-c{case.connections}", f"-d{seconds:g}s", "--latency", "-H", f"Host: {host}"]
    before = program.cpu_seconds()
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{case.path}"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, placement.others),
    ).stdout
    cpu = program.cpu_seconds() - before
    look.join()
    return Run(read_sample(case, output, cpu), tuple(found))


@contextlib.contextmanager
def servers(folder: Path, backend: int) -> Iterator[tuple[Program, dict[int, tuple[Program, int]]]]:
    """The backend, and a running server for each number of processes, with its port."""
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(running(answering_backend(folder, backend), backend, cores=every_core()))
        started = {}
        for processes in PROCESSES:
            port = free_port()
            command = [sys.executable, str(PEERS / "workers_server.py"), str(port), str(ROUTES), SANDBOX]
            root = {"PYTHONPATH": str(PEERS.parent.parent)}
            context = running([*command, str(processes)], port, cores=every_core(), environment=root)
            started[processes] = stack.enter_context(context), port
        yield behind, started


Key = tuple[str, int]
"""Placement and number of connections."""


def run_all(options: argparse.Namespace) -> dict[Key, dict[int, list[Run]]]:
    """Every round: runs by placement and connections, then by number of processes."""
    cases = [Case(f"{count} connections", connections=count) for count in map(int, options.connections.split(","))]
    runs: dict[Key, dict[int, list[Run]]] = {
        (placement.name, case.connections): {count: [] for count in PROCESSES}
        for placement in placements()
        for case in cases
    }
    with tempfile.TemporaryDirectory(prefix="bench-workers-") as name:
        folder, backend = Path(name), free_port()
        folder.chmod(0o755)
        with servers(folder, backend) as (behind, started):
            host = host_header(backend)
            for program, port in started.values():
                run(cases[0], port, host, program, 1.0, placements()[0])
            for number in range(options.rounds):
                order = list(started) if number % 2 == 0 else list(reversed(started))
                for placement in placements():
                    place(behind, placement.others)
                    for case in cases:
                        for count in order:
                            program, port = started[count]
                            found = run(case, port, host, program, options.seconds, placement)
                            runs[placement.name, case.connections][count].append(found)
                print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
    return runs


def summarise(key: Key, count: int, by_count: dict[int, list[Run]]) -> dict[str, Any]:
    """One row."""
    placement, connections = key
    mine = by_count[count]
    cpu = [one.sample.cpu_us for one in mine]
    return {
        "placement": placement,
        "connections": connections,
        "processes": count,
        "cpu_us": spread(cpu),
        "cpu_ratio": ratios(cpu, [one.sample.cpu_us for one in by_count[1]]),
        "rps": spread([one.sample.rps for one in mine]),
        "p99_ms": spread([one.sample.p99_ms for one in mine]),
        "least_share": spread([one.least_share for one in mine]),
        "errors": sum(one.sample.errors for one in mine),
    }


async def following() -> dict[str, Any]:
    """How long a worker takes to serve, and to take in one change, with the whole table behind it."""
    routes = RouteTable()
    fill(routes, ROUTES, SANDBOX)
    workers = Workers(1, routes, Nobody())
    setup = Setup((("127.0.0.1", free_port()),), 100, None, GatewayOptions(routing=ROUTING), None, 1.0, 30, 2)
    began = time.perf_counter()
    taken_in = []
    async with workers.running(setup, Secrets({}, frozenset()), asyncio.Protocol):
        while not workers.live:  # noqa: ASYNC110 - starting is told to nobody
            await asyncio.sleep(0.001)
        await workers.live[0].serving.wait()
        serving = time.perf_counter() - began
        for number in range(CHANGES):
            started = time.perf_counter()
            if number % 2:
                routes.remove("changing", Removal.DELETED)
            else:
                routes.put(SandboxRoute("changing", str(number), Targets("127.0.0.1")))
            await workers.live[0].caught_up()
            taken_in.append((time.perf_counter() - started) * 1000)
    return {"routes": ROUTES, "serves_after_seconds": round(serving, 3), "change_taken_in_ms": spread(taken_in)}


def show(rows: list[dict[str, Any]], follow: dict[str, Any]) -> None:
    """Prints the tables."""
    header = [
        "placement",
        "connections",
        "processes",
        "CPU µs/request",
        "× one",
        "rps",
        "p99 ms",
        "least share",
        "errors",
    ]
    lines = [
        [
            row["placement"],
            str(row["connections"]),
            str(row["processes"]),
            shown(row["cpu_us"]),
            shown(row["cpu_ratio"], 2),
            f"{row['rps']['median']:.0f}",
            shown(row["p99_ms"]),
            shown(row["least_share"], 2),
            str(row["errors"]),
        ]
        for row in rows
    ]
    print(table(header, lines))
    print(f"\na worker with {follow['routes']} routes serves after {follow['serves_after_seconds']} s,")
    print(f"and has taken in a change after {shown(follow['change_taken_in_ms'], 2)} ms")


def main() -> None:
    """Measures, prints and keeps."""
    options = arguments()
    raise_file_limit()
    before = machine()
    runs = run_all(options)
    follow = asyncio.run(following())
    rows = [summarise(key, count, by) for key, by in runs.items() for count in by]
    show(rows, follow)
    record = {
        "machine": before,
        "targets": {"cpu_ratio_at_most": WITHIN, "least_share": LEAST},
        "options": {"rounds": options.rounds, "seconds": options.seconds},
        "rows": rows,
        "following": follow,
        "runs": {
            f"{placement}, {connections}": {str(count): [asdict(one) for one in taken] for count, taken in by.items()}
            for (placement, connections), by in runs.items()
        },
    }
    print(f"\nkept in {keep('workers', record).relative_to(Path.cwd())}")
    sys.exit(any(row["errors"] for row in rows))


if __name__ == "__main__":
    main()
