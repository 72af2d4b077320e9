"""CPU per request of our data plane beside nginx, Caddy and a naive aiohttp proxy, in one run on this machine.

    scripts/bench proxy [--rounds 5] [--seconds 4] [--cases small,browser,…] [--rivals gateway,nginx,…]
                        [--tree NAME=PATH …]

One core belongs to the proxy under test, the others to the backend (nginx) and the load generator (wrk). Rounds are
interleaved, so that a slow minute of the machine falls on everybody; ratios are taken within a round. `--tree` may be
given more than once: each names a checkout whose gateway is measured too, for a table of before and after.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness import trees
from benchmarks.harness.processes import PROXY_CORE, Program, free_port, other_cores, raise_file_limit, running
from benchmarks.harness.results import keep, machine, ratios, shown, spread, table
from benchmarks.harness.rivals import RIVALS, Rival, answering_backend, gateway_of, host_header, missing_packages
from benchmarks.harness.wrk import Case, Sample, measure

YARDSTICK = "nginx"
WARM_UP_SECONDS = 1.0
CASES = {
    case.name: case
    for case in (
        Case("small GET"),
        Case("unique GET", script="unique.lua"),
        Case("browser GET", script="browser.lua"),
        Case("1 KiB POST", path="/upload", script="post.lua", body_bytes=1024),
        Case("16 KiB answer", path="/16k", body_bytes=16 << 10),
        Case("1 MiB down", path="/1m", body_bytes=1 << 20, connections=16),
        Case("1 MiB up", path="/upload", script="upload1m.lua", body_bytes=1 << 20, connections=16),
        Case("100 MiB down", path="/100m", body_bytes=100 << 20, connections=4),
        Case("100 MiB up", path="/upload", script="upload100m.lua", body_bytes=100 << 20, connections=4),
    )
}
LARGE = 1 << 20
"""From this body on the row tells MiB per CPU second, not CPU per request."""


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--cases", default=",".join(CASES), help=f"of: {', '.join(CASES)}")
    parser.add_argument("--rivals", default=",".join(RIVALS), help=f"of: {', '.join(RIVALS)}")
    parser.add_argument("--tree", action="append", default=[], metavar="NAME=PATH", help="a checkout to measure too")
    parser.add_argument("--no-keep", action="store_true", help="do not write benchmarks/results/proxy.json")
    return parser.parse_args()


def install_what_is_missing() -> None:
    """As root on a system with apt-get; elsewhere it says what to install."""
    packages = missing_packages()
    if not packages:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0:
        sys.exit(f"missing programs; install them with: {' '.join(command)}")
    subprocess.run(["apt-get", "update"], check=True, capture_output=True)
    subprocess.run(command, check=True, capture_output=True)


def competitors(options: argparse.Namespace) -> dict[str, Rival]:
    """Who is compared, in this order."""
    named = {name: RIVALS[name] for name in (part.strip() for part in options.rivals.split(","))}
    return named | {name: gateway_of(name, tree) for name, tree in trees.trees(options.tree).items()}


def run_all(
    options: argparse.Namespace, rivals: Mapping[str, Rival]
) -> tuple[dict[str, dict[str, list[Sample]]], dict[str, int]]:
    """Every round of every case against every rival: samples by case and rival, and memory by rival."""
    cases = [CASES[name.strip()] for name in options.cases.split(",")]
    samples: dict[str, dict[str, list[Sample]]] = {case.name: {name: [] for name in rivals} for case in cases}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-proxy-")))
        folder.chmod(0o755)
        backend = free_port()
        stack.enter_context(running(answering_backend(folder, backend), backend, cores=other_cores()))
        started: dict[str, tuple[Program, int]] = {}
        for name, rival in rivals.items():
            port = free_port()
            command = rival.command(folder, port, backend)
            # Go sizes its scheduler by the machine, not by the core it is given.
            environment = {"GOMAXPROCS": "1", "HOME": str(folder), **rival.environment}
            context = running(command, port, cores={PROXY_CORE}, environment=environment)
            started[name] = stack.enter_context(context), port
        host = host_header(backend)
        for program, port in started.values():
            measure(cases[0], port, host, program, WARM_UP_SECONDS)
        for number in range(options.rounds):
            for case in cases:
                for name, (program, port) in started.items():
                    samples[case.name][name].append(measure(case, port, host, program, options.seconds))
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
        return samples, {name: program.rss_bytes() for name, (program, _) in started.items()}


def summarise(case: Case, name: str, by_rival: dict[str, list[Sample]]) -> dict[str, Any]:
    """One row: the spreads of one rival in one case, and its ratio to the yardstick."""
    mine = by_rival[name]
    row: dict[str, Any] = {
        "case": case.name,
        "proxy": name,
        "cpu_us": spread([sample.cpu_us for sample in mine]),
        "rps": spread([sample.rps for sample in mine]),
        "p99_ms": spread([sample.p99_ms for sample in mine]),
        "mib_per_cpu_second": spread([sample.mib_per_cpu_second for sample in mine]),
        "errors": sum(sample.errors for sample in mine),
    }
    if YARDSTICK in by_rival:
        row["cpu_ratio"] = ratios([sample.cpu_us for sample in mine], [s.cpu_us for s in by_rival[YARDSTICK]])
    return row


def show(rows: Sequence[dict[str, Any]], memory: dict[str, int]) -> None:
    """Prints the table."""
    lines = [
        [
            row["case"],
            row["proxy"],
            shown(row["cpu_us"]),
            shown(row["cpu_ratio"], 2) if "cpu_ratio" in row else "",
            f"{row['rps']['median']:.0f}",
            shown(row["p99_ms"]),
            f"{row['mib_per_cpu_second']['median']:.0f}" if CASES[row["case"]].body_bytes >= LARGE else "",
            f"{memory[row['proxy']] / (1 << 20):.0f}",
            str(row["errors"]),
        ]
        for row in rows
    ]
    header = ["case", "proxy", "CPU µs/request", f"× {YARDSTICK}", "rps", "p99 ms", "MiB/CPU s", "RSS MiB", "errors"]
    print(table(header, lines))


def main() -> None:
    """Measures, prints and keeps."""
    options = arguments()
    install_what_is_missing()
    raise_file_limit()
    before = machine()
    rivals = competitors(options)
    samples, memory = run_all(options, rivals)
    rows = [summarise(CASES[case], name, by_rival) for case, by_rival in samples.items() for name in by_rival]
    show(rows, memory)
    if not options.no_keep:
        record = {
            "machine": before,
            "options": {"rounds": options.rounds, "seconds": options.seconds},
            "versions": {name: rival.version() for name, rival in rivals.items()},
            "rss_bytes": memory,
            "rows": rows,
            "samples": {
                case: {name: [asdict(sample) for sample in taken] for name, taken in by_rival.items()}
                for case, by_rival in samples.items()
            },
        }
        print(f"\nkept in {keep('proxy', record).relative_to(Path.cwd())}")
    sys.exit(any(row["errors"] for row in rows))


if __name__ == "__main__":
    main()
