"""Programs under measurement: started on one core, stopped for certain, their CPU time and memory read from /proc."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

START_SECONDS = 20.0
STOP_SECONDS = 10.0
PROXY_CORE = 0
"""The proxy has this core for itself; backend and load generator share the others."""


def other_cores() -> set[int]:
    """Every core but the proxy's; the same one where there is only one."""
    return os.sched_getaffinity(0) - {PROXY_CORE} or {PROXY_CORE}


def raise_file_limit() -> int:
    """Lifts the soft limit of open files to the hard one, which children inherit; returns it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Program:
    """A started program: its first process, from which all its others are found."""

    pid: int

    def pids(self) -> list[int]:
        """The process and all its descendants that live now."""
        found, queue = [], [self.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    queue += map(int, (task / "children").read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """CPU time used so far by every thread of every process, user and system, to the nanosecond."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def rss_bytes(self) -> int:
        """Resident memory of all its processes."""
        pages = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, *, cores: set[int], environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Runs `command` on `cores` until the block ends; enters it once `port` accepts connections."""
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        try:
            await_port(process, port, complaints)
            yield Program(process.pid)
        finally:
            stop(process)


def await_port(process: subprocess.Popen[bytes], port: int, complaints: IO[bytes]) -> None:
    """Returns once `port` accepts; raises RuntimeError when the program ends first or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            complaints.seek(0)
            said = complaints.read().decode(errors="replace")
            raise RuntimeError(f"{process.args!r} does not listen on {port} (exit code {process.poll()}): {said}")
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the whole process group, with force where a polite word does not do."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
