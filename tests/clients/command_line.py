"""The released `osb` as tests call it: one process per test, which remembers what was called."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.clients.programs_run import PROGRAMS, Programs


class Osb:
    """`osb` against one server in one mode."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.called: set[str] = set()

    @classmethod
    @contextmanager
    def started(cls, tools: Path, programs: Programs) -> Iterator[Osb]:
        """The program with its global options, until the end of the block."""
        server, proxy = (
            programs.server,
            "--use-server-proxy" if programs.mode.use_server_proxy else "--no-use-server-proxy",
        )
        options = ("--domain", server.address, "--api-key", server.api_key, proxy, "--no-color")
        with programs.started(tools / "python", PROGRAMS / "drive_osb.py", *options) as process:
            yield cls(process)

    def _ask(self, arguments: tuple[str, ...]) -> Any:
        reads, writes = self.process.stdout, self.process.stdin
        if reads is None or writes is None:
            raise RuntimeError("the program was started without pipes")
        writes.write(json.dumps(arguments) + "\n")
        writes.flush()
        return json.loads(reads.readline())

    def commands(self) -> set[str]:
        """The names of all its commands."""
        return set(self._ask(()))

    def text(self, *arguments: str) -> str:
        """Calls it; returns what it wrote. A call that fails fails the test."""
        told = self._ask(arguments)
        assert told["code"] == 0, f"{arguments}: {told}"
        self.called.add(told["command"])
        return str(told["stdout"])

    def json(self, *arguments: str) -> Any:
        """Calls it for JSON; what follows `--` stays last."""
        at = arguments.index("--") if "--" in arguments else len(arguments)
        return json.loads(self.text(*arguments[:at], "-o", "json", *arguments[at:]))

    def refused(self, *arguments: str) -> str:
        """Calls it for something that fails; returns what it wrote of that."""
        told = self._ask(arguments)
        assert told["code"] != 0, f"{arguments}: {told}"
        self.called.add(told["command"])
        return str(told["stdout"] + told["stderr"])
