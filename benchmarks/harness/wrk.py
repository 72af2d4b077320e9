"""One run of wrk against a proxy, and what it cost that proxy."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.processes import Program, other_cores

LOADS = Path(__file__).parent.parent / "loads"
REQUESTS = re.compile(r"(\d+) requests in ([\d.]+)(m?s|m)")
P99 = re.compile(r"99%\s+([\d.]+)(us|ms|s|m)")
FAILURES = re.compile(r"Non-2xx or 3xx responses: (\d+)")
SOCKET_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of request: the path it asks for, the wrk script that shapes it, and the bytes of body it moves."""

    name: str
    path: str = "/"
    script: str | None = None
    body_bytes: int = 0
    connections: int = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run measured."""

    cpu_us: float
    rps: float
    p99_ms: float
    mib_per_cpu_second: float
    errors: int


def measure(case: Case, port: int, host: str, program: Program, seconds: float) -> Sample:
    """Runs the case for `seconds` against `port` and reads what `program` spent on it.

    Raises RuntimeError when wrk reports no request at all.
    """
    command = ["wrk", "-t1", f"-c{case.connections}", f"-d{seconds:g}s", "--latency", "-H", f"Host: {host}"]
    if case.script:
        command += ["-s", str(LOADS / case.script)]
    command.append(f"http://127.0.0.1:{port}{case.path}")
    before = program.cpu_seconds()
    output = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, other_cores()),
    ).stdout
    return read_sample(case, output, program.cpu_seconds() - before)


def read_sample(case: Case, output: str, cpu_seconds: float) -> Sample:
    """The numbers in wrk's report, beside the CPU time of the proxy."""
    counted, p99 = REQUESTS.search(output), P99.search(output)
    if counted is None or p99 is None or int(counted[1]) == 0:
        raise RuntimeError(f"wrk reported nothing usable:\n{output}")
    requests, elapsed = int(counted[1]), float(counted[2]) * MILLISECONDS[counted[3]] / 1000
    failed, broken = FAILURES.search(output), SOCKET_ERRORS.search(output)
    return Sample(
        cpu_us=cpu_seconds / requests * 1e6,
        rps=requests / elapsed,
        p99_ms=float(p99[1]) * MILLISECONDS[p99[2]],
        mib_per_cpu_second=requests * case.body_bytes / (1 << 20) / cpu_seconds if cpu_seconds else 0.0,
        errors=(int(failed[1]) if failed else 0) + (sum(map(int, broken.groups())) if broken else 0),
    )
