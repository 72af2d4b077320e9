"""The lifecycle API beside the released server, on one Docker Engine, in one run on this machine.

    scripts/bench api [--rounds 3] [--seconds 3] [--sandboxes 10] [--execd-mib 28]

Needs root: both servers use an Engine that is started for the run, since the released one takes every sandbox of an
Engine for its own. They take turns: in each round one creates its sandboxes, is asked about them with wrk, once more
while 20 pulls hang, and deletes them, then the other does the same. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker

from benchmarks.harness.lifecycle import CONFIGURATION, RELEASE, Server, Threaded, our_server, released_server
from benchmarks.harness.processes import PROXY_CORE, free_port, running
from benchmarks.harness.results import keep, machine, ratios, shown, spread, table
from benchmarks.harness.silence import silent_registry
from benchmarks.harness.wrk import Case, measure
from tests.docker.own_engine import OwnEngine

OURS, THEIRS = "ours", "released"
SANDBOX, EXECD = "opensandbox-test/sandbox:1", "opensandbox-test/execd:1"
ENLARGED, LAUNCHER = "opensandbox-bench/execd:1", "/usr/local/libexec/opensandbox-launcher"
CONNECTIONS = 16
AT_ONCE = 8
HANGING = 20
MEASURES = (
    "create ms",
    "create 8 ms",
    "delete ms",
    "GET one rps",
    "GET one p99 ms",
    "GET one CPU µs",
    "list rps",
    "list CPU µs",
    "GET one rps, 20 pulls hang",
    "GET one p99 ms, 20 pulls hang",
)
HIGHER_IS_BETTER = frozenset(measure for measure in MEASURES if "rps" in measure)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--sandboxes", type=int, default=10)
    parser.add_argument(
        "--execd-mib",
        type=int,
        default=28,
        help="what execd is larger than the stand-in of the tests: with 28 it is as large as the released one links",
    )
    parser.add_argument("--no-keep", action="store_true", help="do not write benchmarks/results/api.json")
    return parser.parse_args()


def enlarged(engine: OwnEngine, mebibytes: int) -> str:
    """An image of execd with one more of the files that belong to it, of this size; both servers deliver it."""
    client = docker.DockerClient(engine.url)
    with tempfile.TemporaryDirectory(prefix="bench-execd-") as folder:
        (Path(folder) / "launcher").write_bytes(os.urandom(mebibytes << 20))
        (Path(folder) / "Dockerfile").write_text(f"FROM {EXECD}\nCOPY launcher {LAUNCHER}\n")
        client.images.build(path=folder, tag=ENLARGED)
    client.close()
    return ENLARGED


def start(stack: contextlib.ExitStack, name: str, program: str, engine: OwnEngine, execd: str) -> Server:
    """Starts a server with a home and a configuration of its own, on one core."""
    home, port = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-api-"))), free_port()
    (home / "config.toml").write_text(CONFIGURATION.format(port=port, execd=execd))
    environment = {"HOME": str(home), "DOCKER_HOST": engine.url, "OPENSANDBOX_INSECURE_SERVER": "YES"}
    command = [program, "--config", str(home / "config.toml")]
    context = running(command, port, cores={PROXY_CORE}, environment=environment)
    return Server(name, port, Threaded(stack.enter_context(context).pid))


def take_turn(server: Server, options: argparse.Namespace) -> dict[str, float]:
    """One round of one server."""
    made = [server.create(SANDBOX) for _ in range(options.sandboxes)]
    ids = [sandbox for sandbox, _ in made]
    with ThreadPoolExecutor(AT_ONCE) as clients:
        together = list(clients.map(server.create, [SANDBOX] * AT_ONCE))
    server.delete([sandbox for sandbox, _ in together])
    one = Case("one", path=f"/v1/sandboxes/{ids[0]}", connections=CONNECTIONS)
    every = Case("list", path="/v1/sandboxes?pageSize=200", connections=CONNECTIONS)
    single, many = (
        measure(case, server.port, f"127.0.0.1:{server.port}", server.program, options.seconds) for case in (one, every)
    )
    with pulls_that_hang(server):
        beside = measure(one, server.port, f"127.0.0.1:{server.port}", server.program, options.seconds)
    errors = single.errors + many.errors + beside.errors
    if errors:
        raise RuntimeError(f"{server.name} answered {errors} requests with errors")
    return {
        "create ms": statistics.median(milliseconds for _, milliseconds in made),
        "create 8 ms": statistics.median(milliseconds for _, milliseconds in together),
        "delete ms": statistics.median(server.delete(ids)),
        "GET one rps": single.rps,
        "GET one p99 ms": single.p99_ms,
        "GET one CPU µs": single.cpu_us,
        "list rps": many.rps,
        "list CPU µs": many.cpu_us,
        "GET one rps, 20 pulls hang": beside.rps,
        "GET one p99 ms, 20 pulls hang": beside.p99_ms,
    }


@contextlib.contextmanager
def pulls_that_hang(server: Server) -> Iterator[None]:
    """While the block runs, creates of the server wait for a registry that says nothing."""
    before = server.names()
    with ThreadPoolExecutor(HANGING) as clients:
        with silent_registry() as registry:
            waiting = [clients.submit(server.create, f"{registry.address}/hangs/{n}:1") for n in range(HANGING)]
            while registry.callers < HANGING:
                time.sleep(0.1)
            yield
            if any(create.done() for create in waiting):
                raise RuntimeError(f"{server.name} gave up a pull before the measurement ended")
        # The registry is gone, so the creates fail; ours show that for a while.
        concurrent.futures.wait(waiting)
    server.delete(sorted(server.names() - before))


def run_all(options: argparse.Namespace) -> tuple[dict[str, list[dict[str, float]]], dict[str, int]]:
    """Every round of both: samples and memory by server."""
    programs: dict[str, Callable[[], str]] = {THEIRS: released_server, OURS: our_server}
    engine = OwnEngine()
    with contextlib.ExitStack() as stack:
        stack.callback(engine.close)
        engine.start()
        engine.build_images()
        execd = enlarged(engine, options.execd_mib) if options.execd_mib else EXECD
        servers = [start(stack, name, program(), engine, execd) for name, program in programs.items()]
        for server in servers:
            server.delete([server.create(SANDBOX)[0]])
        samples: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
        for number in range(options.rounds):
            for server in servers:
                samples[server.name].append(take_turn(server, options))
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
        return samples, {server.name: server.program.rss_bytes() for server in servers}


def summarise(samples: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """One row per measure: the spread of both, and how ours compares."""
    rows = []
    for name in MEASURES:
        ours, theirs = ([sample[name] for sample in samples[who]] for who in (OURS, THEIRS))
        rows.append({"measure": name, OURS: spread(ours), THEIRS: spread(theirs), "ratio": ratios(ours, theirs)})
    return rows


def main() -> None:
    """Measures, prints and keeps."""
    options = arguments()
    if not OwnEngine.possible():
        sys.exit("needs root, dockerd and ip: both servers use an Engine that is started for the run")
    before = machine()
    samples, memory = run_all(options)
    rows = summarise(samples)
    lines = [
        [
            row["measure"],
            shown(row[OURS]),
            shown(row[THEIRS]),
            shown(row["ratio"], 2),
            "more" if row["measure"] in HIGHER_IS_BETTER else "less",
        ]
        for row in rows
    ]
    lines.append(["RSS MiB", *(f"{memory[who] / (1 << 20):.0f}" for who in (OURS, THEIRS)), "", "less"])
    print(table(["measure", OURS, f"{RELEASE}", "ratio", "better is"], lines))
    if not options.no_keep:
        record = {"machine": before, "options": vars(options), "rss_bytes": memory, "rows": rows, "samples": samples}
        name = "api" if options.execd_mib else "api-small-execd"
        print(f"\nkept in {keep(name, record).relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
