"""Released programs as processes: installed from their registries by hash-pinned locks, run against one server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clients.modes import Mode
from tests.clients.names import NameServer
from tests.server_process import ServerProcess

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = Path(__file__).parent / "programs"
RUN_SECONDS = 90
END_SECONDS = 20


def installed(name: str) -> Path:
    """The `bin` of the environment that scripts/lock/NAME.txt describes."""
    subprocess.run([ROOT / "scripts/install", name], check=True, capture_output=True)
    return ROOT / ".venvs" / name / "bin"


def run(*command: str | Path, **environment: str) -> str:
    """Runs a program to its end; returns its output. A failure shows what it wrote."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True, slots=True)
class Programs:
    """What programs are told about one server, and the resolver they see in wildcard mode."""

    mode: Mode
    server: ServerProcess
    names: NameServer | None = None

    @property
    def proxy(self) -> str:
        """`true` where the client is to ask for the server's own proxy path."""
        return str(self.mode.use_server_proxy).lower()

    def run(self, *command: str | Path) -> str:
        """Runs a program whose home is the server's folder; returns its output."""
        return run(*self._seen(command), HOME=str(self._home))

    @contextmanager
    def started(self, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Starts a program in the same surroundings; it ends with the block, when its standard input does."""
        pipe, environment = subprocess.PIPE, {**os.environ, "HOME": str(self._home)}
        with subprocess.Popen(self._seen(command), stdin=pipe, stdout=pipe, text=True, env=environment) as process:
            try:
                yield process
                process.communicate(timeout=END_SECONDS)
            finally:
                process.kill()

    @property
    def _home(self) -> Path:
        return self.server.config.parent

    def _seen(self, command: Sequence[str | Path]) -> Sequence[str | Path]:
        return self.names.asked_by(command, self._home) if self.names else command
