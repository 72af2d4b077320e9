"""The server in a container as config/compose.yaml runs it: built here, under names and a port of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.docker.conftest import BUILD
from tests.engine import engine_socket
from tests.server_process import EXECD_IMAGE, Api, free_port, to_toml, wait_until

ROOT = Path(__file__).parents[2]
IMAGE = "opensandbox-test/server:1"
SERVICE = "opensandbox-server"
KEY = "a-key-of-the-tests"
INSIDE = 8080
"""The port that compose.bridge.yaml publishes."""
OPEN_FILES = 4096
"""What every Engine may give."""
START_SECONDS = 60.0
BUILD_SECONDS = 300


def possible() -> bool:
    """Whether compose is here, and a Python that can make environments for the base of the image."""
    return shutil.which("docker-compose") is not None and Path("/usr/share/python-wheels").is_dir()


def checkout(folder: Path) -> Path:
    """A clone without what is not tracked: exactly what the ignore file lets into the build, and config/."""
    ignored = (ROOT / "config" / "Dockerfile.dockerignore").read_text().splitlines()
    for name in ("config", *(line[1:] for line in ignored if line.startswith("!"))):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def build_image(clone: Path) -> str:
    """The server's image, by way of compose; its base has every package, so that no registry and no index is asked."""
    base = run([str(BUILD), "base", sys.executable], {}).split()[-1]
    compose(clone, ["build"], {"OPENSANDBOX_BASE": base})
    return IMAGE


def compose(clone: Path, command: list[str], environment: Mapping[str, str], *files: Path) -> str:
    """What docker-compose prints; raises with what it said when it fails."""
    given = [part for file in (clone / "config" / "compose.yaml", *files) for part in ("--file", str(file))]
    named = {"OPENSANDBOX_IMAGE": IMAGE, "OPENSANDBOX_SERVER_API_KEY": KEY, **environment}
    return run(["docker-compose", *given, *command], named)


def run(command: list[str], environment: Mapping[str, str]) -> str:
    """The standard output of a program that has to succeed."""
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


class Composed(Api):
    """One server of compose; `name` is its project, its container and the instance label of its sandboxes."""

    def __init__(
        self, clone: Path, home: Path, name: str, *, bridge: bool, everywhere: bool = False, **tables: dict[str, Any]
    ) -> None:
        """`bridge` lays compose.bridge.yaml over: a network of its own, and a port published on loopback; or
        `everywhere`, at every address of the host.
        """
        home.mkdir()
        self.name, self._clone = name, clone
        self.port = free_port()
        super().__init__(f"127.0.0.1:{self.port}", KEY)
        self._published = f"0.0.0.0:{self.port}" if everywhere else self.address
        document: dict[str, dict[str, Any]] = {
            "server": {"host": "0.0.0.0", "port": INSIDE} if bridge else {"host": "127.0.0.1", "port": self.port},
            "runtime": {"type": "docker", "execd_image": EXECD_IMAGE},
            "docker": {"network_mode": "bridge", "instance": name},
        }
        for table, keys in tables.items():
            document[table] = {**document.get(table, {}), **keys}
        self._config = home / "config.toml"
        self._config.write_text(to_toml(document))
        names = home / "names.yaml"
        self.volume = f"{name}-state"
        service = {"container_name": name, "volumes": [f"{engine_socket()}:/var/run/docker.sock"]}
        own = {"services": {SERVICE: service}, "volumes": {"opensandbox-data": {"name": self.volume}}}
        names.write_text(json.dumps(own))
        self._files = ((clone / "config" / "compose.bridge.yaml",) if bridge else ()) + (names,)
        self._ready = f"http://127.0.0.1:{INSIDE if bridge else self.port}/ready"

    def compose(self, *command: str) -> str:
        """One call of docker-compose for this project."""
        environment = {
            "COMPOSE_PROJECT_NAME": self.name,
            "OPENSANDBOX_CONFIG": str(self._config),
            "OPENSANDBOX_PUBLISH": self._published,
            "OPENSANDBOX_READY_URL": self._ready,
            "OPENSANDBOX_OPEN_FILES": str(OPEN_FILES),
        }
        return compose(self._clone, list(command), environment, *self._files)

    def up(self, *flags: str) -> None:
        """Returns once it is ready."""
        self.compose("up", "--detach", "--no-build", *flags)
        try:
            wait_until(self._answers, START_SECONDS, "the container's readiness")
        except TimeoutError as late:
            raise RuntimeError(f"{late}; it wrote:\n{self.compose('logs', '--tail', '50')}") from late

    def _answers(self) -> bool:
        try:
            return self.call("GET", "/ready")[0] == 200
        except OSError:
            return False

    def close(self) -> None:
        """Removes the server with its volume and network; its sandboxes first."""
        try:
            self.delete_all()
        finally:
            self.compose("down", "--volumes", "--timeout", "5")


def doctor(container: str) -> tuple[int, str]:
    """Exit code and report of the doctor inside a running server's container."""
    done = subprocess.run(
        ["docker", "exec", container, "opensandbox-server", "doctor"], capture_output=True, text=True, check=False
    )
    return done.returncode, " ".join(done.stdout.split())
