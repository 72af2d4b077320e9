"""How long a quiet client waits while somebody else sends what is meant to hold everybody up.

    scripts/bench neighbours [--rounds 3] [--seconds 5] [--inputs 'Refresh,empty lines'] [--tree NAME=PATH …]

Each hostile input meets a fresh gateway, beside a client that asks for `GET /health` again and again: the table tells
its longest wait. Then small requests beside four bulk streams at full speed: p50, p99 and what the streams move.
`--tree` may be given more than once: each names a checkout whose gateway is measured, in turn, for a table of before
and after. An input is given `--limit` seconds, then its connection is closed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import trees
from benchmarks.harness.hostile import INPUTS, Target
from benchmarks.harness.processes import PROXY_CORE, Program, free_port, other_cores, raise_file_limit, running
from benchmarks.harness.results import keep, machine, ratios, shown, spread, table

PEERS = Path(__file__).parent / "peers"
SANDBOX = "abc"
STREAMS = 4
AHEAD_SECONDS = 0.2
"""The quiet client works alone for so long before and after the input."""
FIRST = -10 if os.geteuid() == 0 else 0
"""Niceness of what answers the quiet client: its core is full of bulk, and only the gateway's delay is to be seen."""
BULK = {"beside four downloads": "down", "beside four uploads": "up"}
Sample = dict[str, float]


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of bulk traffic")
    parser.add_argument("--limit", type=float, default=60, help="seconds an input may take")
    parser.add_argument("--inputs", default="", help="only those with one of these parts in their name")
    parser.add_argument("--tree", action="append", default=[], metavar="NAME=PATH", help="a checkout to measure")
    parser.add_argument("--no-keep", action="store_true", help="do not write benchmarks/results/neighbours.json")
    return parser.parse_args()


@contextlib.contextmanager
def gateway(tree: Path, port: int, prefaced: int) -> Iterator[Program]:
    """The gateway of a tree, on the proxy's core."""
    program = "neighbours_server.py" if (tree / "gateway" / "addressing").is_dir() else "neighbours_flat_server.py"
    command = [sys.executable, str(PEERS / program), str(port), str(prefaced), SANDBOX]
    with running(command, port, cores={PROXY_CORE}, environment=trees.of(tree)) as served:
        yield served


@contextlib.contextmanager
def client(module: str, *words: str) -> Iterator[Callable[[], Sample]]:
    """A load generator at work; calling the result ends it and returns what it counted."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.peers.{module}", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, other_cores()),
    )

    def end() -> Sample:
        said = process.communicate()[0]
        if process.returncode:
            raise RuntimeError(f"{module} failed: {said}")
        counted: Sample = json.loads(said)
        return counted

    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{module} did not get ready")
        yield end
    finally:
        process.kill()
        process.communicate()


def disturbed(name: str, tree: Path, backend: int, options: argparse.Namespace) -> Sample:
    """What the quiet client saw of one input."""
    port, prefaced = free_port(), free_port()
    with (
        gateway(tree, port, prefaced) as program,
        client("quiet_client", str(port), "gateway.example", "/health") as end,
    ):
        time.sleep(AHEAD_SECONDS)
        cpu, began = program.cpu_seconds(), time.monotonic()
        host, path = f"{SANDBOX}-{backend}.sandboxes.example".encode(), f"/{SANDBOX}/{backend}".encode()
        INPUTS[name](Target(port, prefaced, host, path, ends=began + options.limit))
        took = time.monotonic() - began
        time.sleep(AHEAD_SECONDS)
        counted = end()
        return {**counted, "input_seconds": took, "cpu_seconds": program.cpu_seconds() - cpu}


def beside_bulk(way: str, tree: Path, backend: int, quiet: int, options: argparse.Namespace) -> Sample:
    """Small requests to one program beside bulk streams of another."""
    port, prefaced = free_port(), free_port()
    host, quiet_host = (f"{SANDBOX}-{number}.sandboxes.example" for number in (backend, quiet))
    with (
        gateway(tree, port, prefaced),
        client("bulk_client", str(port), host, str(STREAMS), way) as end_bulk,
        client("quiet_client", str(port), quiet_host, "/") as end_quiet,
    ):
        time.sleep(options.seconds)
        return {**end_quiet(), **end_bulk()}


def run_all(options: argparse.Namespace, found: Mapping[str, Path]) -> dict[str, dict[str, list[Sample]]]:
    """Every input and every bulk load against every tree, rounds interleaved: samples by row and tree."""
    parts = [part.strip() for part in options.inputs.split(",")]
    rows = [name for name in (*INPUTS, *BULK) if any(part.lower() in name.lower() for part in parts)]
    samples: dict[str, dict[str, list[Sample]]] = {row: {name: [] for name in found} for row in rows}
    os.sched_setaffinity(0, other_cores())
    backend, quiet = free_port(), free_port()
    command = [sys.executable, "-m", "benchmarks.peers.hostile_sandbox"]
    with (
        running([*command, str(backend)], backend, cores=other_cores()),
        running([*command, str(quiet), str(FIRST)], quiet, cores=other_cores()),
    ):
        for _ in range(options.rounds):
            for row in rows:
                for name, tree in found.items():
                    if row in BULK:
                        taken = beside_bulk(BULK[row], tree, backend, quiet, options)
                    else:
                        taken = disturbed(row, tree, backend, options)
                    samples[row][name].append(taken)
                    print(f"{row}, {name}: {short(taken)}", file=sys.stderr)
    return samples


def short(taken: Sample) -> str:
    """One line about one sample."""
    return ", ".join(f"{name} {value:.2f}" for name, value in taken.items())


def values(taken: Sequence[Sample], name: str) -> list[float]:
    """One number of every round."""
    return [sample[name] for sample in taken]


def show(samples: Mapping[str, Mapping[str, list[Sample]]], names: Sequence[str]) -> None:
    """Prints the two tables."""
    first, *others = names
    header = ["input", *(f"{name}: longest wait, ms" for name in names), *(f"{name} / {first}" for name in others)]
    lines = []
    for row, by_tree in samples.items():
        if row in BULK:
            continue
        waits = {name: values(taken, "longest_ms") for name, taken in by_tree.items()}
        shares = [shown(ratios(waits[name], waits[first]), 3) for name in others]
        lines.append([row, *(shown(spread(wait)) for wait in waits.values()), *shares])
    print(table(header, lines))
    lines = [
        [row, name, *(shown(spread(values(taken, key)), digits) for key, digits in COLUMNS.items())]
        for row, by_tree in samples.items()
        if row in BULK
        for name, taken in by_tree.items()
    ]
    if lines:
        print()
        print(table(["small requests", "tree", "p50 ms", "p99 ms", "longest ms", "bulk MiB/s"], lines))


COLUMNS = {"p50_ms": 2, "p99_ms": 2, "longest_ms": 1, "mib_per_second": 0}


def main() -> None:
    """Measures, prints and keeps."""
    options = arguments()
    found = trees.trees(options.tree) or {"here": trees.HERE}
    raise_file_limit()
    before = machine()
    samples = run_all(options, found)
    show(samples, list(found))
    if not options.no_keep:
        record: dict[str, Any] = {
            "machine": before,
            "options": {"rounds": options.rounds, "seconds": options.seconds, "limit": options.limit},
            "trees": {name: trees.commit(path) for name, path in found.items()},
            "samples": samples,
        }
        print(f"\nkept in {keep('neighbours', record).relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
