"""Connections that stay: idle ones, event streams, WebSockets; and latency under a load that does not wait.

    scripts/bench streams [--rounds 3] [--seconds 5] [--kinds idle,events,echo,paced] [--rivals gateway,nginx,caddy]

Every measurement gets a fresh proxy on a core of its own; backend and load share the others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.processes import PROXY_CORE, Program, free_port, other_cores, raise_file_limit, running
from benchmarks.harness.results import keep, machine, shown, spread, table
from benchmarks.harness.rivals import RIVALS

PEERS = Path(__file__).parent / "peers"
SPREAD_OVER = 10
"""Sandboxes the connections are for: one alone may not have thousands of open exchanges."""
FILES_LEFT = 3000
"""nginx begins to drop connections when it has only a sixteenth of its own left."""
DEFAULT_RIVALS = ["gateway", "nginx", "caddy"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of load: how many connections (or requests a second), and what its row tells."""

    name: str
    count: int
    tells: str


def kinds(file_limit: int) -> dict[str, Kind]:
    """A proxied stream takes two open files of the proxy: that many fit below its limit."""
    streams = min(10_000, (file_limit - FILES_LEFT) // 2)
    every = (
        Kind("idle", min(10_000, file_limit - FILES_LEFT), "KiB of RSS per connection"),
        Kind("events", streams, "CPU µs per event"),
        Kind("echo", 200, "CPU µs per message"),
        Kind("paced", 4000, "p99 ms"),
    )
    return {kind.name: kind for kind in every}


@contextlib.contextmanager
def load(kind: Kind, port: int, backend: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """The load generator, with every connection open."""
    hosts = [f"sandbox{number}-{backend}.sandboxes.example" for number in range(SPREAD_OVER)]
    command = [sys.executable, "-m", "benchmarks.peers.stream_client", kind.name, str(port), str(kind.count)]
    process = subprocess.Popen(
        [*command, str(seconds), *hosts],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, other_cores()),
    )
    try:
        if line(process) != "ready":
            raise RuntimeError(f"the load generator for {kind.name} did not get ready")
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """The next line of its output."""
    return process.stdout.readline().strip() if process.stdout else ""


def work(process: subprocess.Popen[str]) -> dict[str, float]:
    """Lets the load begin and returns what it counted."""
    if process.stdin:
        process.stdin.write("go\n")
        process.stdin.flush()
    counted: dict[str, float] = json.loads(line(process))
    return counted


def measure(kind: Kind, program: Program, port: int, backend: int, seconds: float) -> dict[str, float]:
    """One measurement of one proxy: what the row tells, and what it is made of."""
    rss = program.rss_bytes()
    with load(kind, port, backend, seconds) as process:
        grown = program.rss_bytes() - rss
        cpu = program.cpu_seconds()
        counted = work(process)
        spent = program.cpu_seconds() - cpu
    value = {
        "idle": grown / kind.count / 1024,
        "events": spent / max(1, counted.get("count", 0)) * 1e6,
        "echo": spent / max(1, counted.get("count", 0)) * 1e6,
        "paced": counted.get("p99_ms", 0.0),
    }[kind.name]
    return {"value": value, "cpu_seconds": spent, "rss_growth_kib_each": grown / kind.count / 1024, **counted}


def run_all(options: argparse.Namespace, file_limit: int) -> list[dict[str, Any]]:
    """Every kind against every proxy, rounds interleaved."""
    known = kinds(file_limit)
    samples: dict[tuple[str, str], list[dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-streams-")))
        folder.chmod(0o755)
        backend = free_port()
        command = [sys.executable, "-m", "benchmarks.peers.stream_backend", str(backend)]
        stack.enter_context(running(command, backend, cores=other_cores()))
        for _ in range(options.rounds):
            for kind in (known[name] for name in options.kinds.split(",")):
                for name in options.rivals.split(","):
                    port = free_port()
                    environment = {"GOMAXPROCS": "1", "HOME": str(folder)}
                    proxy = RIVALS[name].command(folder, port, backend)
                    with running(proxy, port, cores={PROXY_CORE}, environment=environment) as program:
                        taken = measure(kind, program, port, backend, options.seconds)
                    samples.setdefault((kind.name, name), []).append(taken)
                    print(f"{kind.name} {name}: {taken['value']:.2f} {kind.tells}", file=sys.stderr)
    return [
        {
            "kind": kind,
            "proxy": name,
            "connections": known[kind].count,
            "tells": known[kind].tells,
            "value": spread([sample["value"] for sample in taken]),
            "samples": taken,
        }
        for (kind, name), taken in samples.items()
    ]


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--kinds", default="idle,events,echo,paced")
    parser.add_argument("--rivals", default=",".join(DEFAULT_RIVALS))
    parser.add_argument("--no-keep", action="store_true", help="do not write benchmarks/results/streams.json")
    options = parser.parse_args()
    before = machine()
    rows = run_all(options, raise_file_limit())
    lines = [[r["kind"], str(r["connections"]), r["proxy"], shown(r["value"], 2), r["tells"]] for r in rows]
    print(table(["kind", "connections (paced: requests/s)", "proxy", "value", "which is"], lines))
    if not options.no_keep:
        versions = {name: RIVALS[name].version() for name in options.rivals.split(",")}
        record = {"machine": before, "seconds": options.seconds, "versions": versions, "rows": rows}
        print(f"\nkept in {keep('streams', record).relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
