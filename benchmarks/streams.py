"""Connections that stay: idle ones, event streams, WebSockets; and latency under a load that does not wait.

    scripts/bench streams [--rounds 3] [--seconds 5] [--kinds idle,events,…] [--rivals gateway,nginx,caddy]

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.processes import PROXY_CORE, Program, free_port, other_cores, raise_file_limit, running
from benchmarks.harness.results import keep, machine, ratios, shown, spread, table
from benchmarks.harness.rivals import IN_TWO_PROCESSES, OF_FEW_ROUTES, RIVALS, Rival

PEERS = Path(__file__).parent / "peers"
SPREAD_OVER = 10
"""Sandboxes the connections are for: one alone may not have thousands of open exchanges."""
FILES_LEFT = 3000
"""nginx begins to drop connections when it has only a sixteenth of its own left."""
DEFAULT_RIVALS = ["gateway", "nginx", "caddy"]
SILENCE = 8.0
"""Seconds after which a proxy has let go of what it keeps for a client that asks again at once."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of load: how many connections (or requests a second), what its row tells, and of which proxies."""

    name: str
    load: str
    """What the load generator calls it."""
    count: int
    tells: str
    rivals: Mapping[str, Rival] = field(default_factory=lambda: RIVALS)


def kinds(file_limit: int) -> dict[str, Kind]:
    """A proxied stream takes two open files of the proxy: in one process that many fit below its limit."""
    many, streams = min(10_000, file_limit - FILES_LEFT), min(10_000, (file_limit - FILES_LEFT) // 2)
    memory = "KiB of RSS per connection"
    every = (
        Kind("idle", "idle", many, memory),
        Kind("idle-browsers", "browsers", many, memory),
        Kind("idle-1000", "idle", 1000, memory, _OURS),
        Kind("idle-few-routes", "idle", many, memory, OF_FEW_ROUTES),
        Kind("events", "events", streams, "CPU µs per event"),
        Kind("events-two-processes", "events", many, "CPU µs per event", IN_TWO_PROCESSES),
        Kind("echo", "echo", 200, "CPU µs per message"),
        Kind("paced", "paced", 4000, "p99 ms"),
    )
    return {kind.name: kind for kind in every}


_OURS = {"gateway": RIVALS["gateway"]}


@contextlib.contextmanager
def load(kind: Kind, port: int, backend: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """The load generator, with every connection open."""
    hosts = [f"sandbox{number}-{backend}.sandboxes.example" for number in range(SPREAD_OVER)]
    command = [sys.executable, "-m", "benchmarks.peers.stream_client", kind.load, str(port), str(kind.count)]
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
    if kind.load in {"idle", "browsers"}:
        seconds = max(seconds, SILENCE)
    with load(kind, port, backend, seconds) as process:
        grown = program.rss_bytes() - rss
        cpu = program.cpu_seconds()
        counted = work(process)
        spent = program.cpu_seconds() - cpu
        at_rest = program.rss_bytes() - rss
    value = {
        "idle": at_rest / kind.count / 1024,
        "browsers": at_rest / kind.count / 1024,
        "events": spent / max(1, counted.get("count", 0)) * 1e6,
        "echo": spent / max(1, counted.get("count", 0)) * 1e6,
        "paced": counted.get("p99_ms", 0.0),
    }[kind.load]
    return {"value": value, "cpu_seconds": spent, "rss_growth_kib_each": grown / kind.count / 1024, **counted}


def run_all(options: argparse.Namespace, known: Mapping[str, Kind]) -> list[dict[str, Any]]:
    """Every kind against every proxy, rounds interleaved."""
    samples: dict[tuple[str, str], list[dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-streams-")))
        folder.chmod(0o755)
        backend = free_port()
        command = [sys.executable, "-m", "benchmarks.peers.stream_backend", str(backend)]
        stack.enter_context(running(command, backend, cores=other_cores()))
        for _ in range(options.rounds):
            for kind in (known[name] for name in options.kinds.split(",")):
                for name in (name for name in options.rivals.split(",") if name in kind.rivals):
                    port = free_port()
                    environment = {"GOMAXPROCS": "1", "HOME": str(folder)}
                    proxy = kind.rivals[name].command(folder, port, backend)
                    with running(proxy, port, cores={PROXY_CORE}, environment=environment) as program:
                        taken = measure(kind, program, port, backend, options.seconds)
                    samples.setdefault((kind.name, name), []).append(taken)
                    print(f"{kind.name}, {name}: {taken['value']:.2f} {kind.tells}", file=sys.stderr)
    return [
        {
            "kind": kind,
            "proxy": name,
            "connections": known[kind].count,
            "tells": known[kind].tells,
            "value": spread(values(taken)),
            "ratio": ratios(values(taken), values(samples[kind, "nginx"])) if (kind, "nginx") in samples else None,
            "samples": taken,
        }
        for (kind, name), taken in samples.items()
    ]


def times_nginx(row: dict[str, Any]) -> str:
    """The ratio of the row, where there is one."""
    return "" if row["ratio"] is None else shown(row["ratio"], 2)


def values(taken: list[dict[str, float]]) -> list[float]:
    """What the row tells, of every round."""
    return [sample["value"] for sample in taken]


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    known = kinds(raise_file_limit())
    parser.add_argument("--kinds", default=",".join(known), help=f"of: {', '.join(known)}")
    parser.add_argument("--rivals", default=",".join(DEFAULT_RIVALS))
    parser.add_argument("--no-keep", action="store_true", help="do not write benchmarks/results/streams.json")
    options = parser.parse_args()
    before = machine()
    rows = run_all(options, known)
    lines = [
        [row["kind"], str(row["connections"]), row["proxy"], shown(row["value"], 2), row["tells"], times_nginx(row)]
        for row in rows
    ]
    print(table(["kind", "connections (paced: requests/s)", "proxy", "value", "which is", "× nginx"], lines))
    if not options.no_keep:
        versions = {name: RIVALS[name].version() for name in options.rivals.split(",")}
        record = {"machine": before, "seconds": options.seconds, "versions": versions, "rows": rows}
        print(f"\nkept in {keep('streams', record).relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
