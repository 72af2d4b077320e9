"""A Docker Engine of the tests' own, for what must not happen to one that others use: other runtimes, restarts."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
import docker.errors

from tests.docker.conftest import BUILD

START_LIMIT = 30.0
FIRST_ID = 300000
"""What root of a container is outside, on Engines with user namespaces."""
_NUMBERS = itertools.count()
SUBNETS = range(240, 256)
"""Third numbers of 172.31.x.0/24, one for each bridge."""


class Subnet:
    """Addresses for a bridge that no other process of the tests has; a process that dies gives its own back."""

    def __init__(self) -> None:
        for number in SUBNETS:
            lock = os.open(f"/var/lock/own-engine-{number}", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            self._lock = lock
            self.gateway = f"172.31.{number}.1/24"
            return
        raise RuntimeError(f"all {len(SUBNETS)} subnets for Engines of the tests are in use")

    def close(self) -> None:
        """Lets others have it."""
        os.close(self._lock)


class Daemon:
    """A dockerd that is started here, with a directory for all its files."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Runs the command; returns once it answers."""
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(self.url.removeprefix("unix://"))
                return
            time.sleep(0.05)
        raise TimeoutError((self.home / "log").read_text()[-2000:])

    def client(self) -> Any:
        """An SDK client, to be closed by a with statement."""
        return contextlib.closing(docker.APIClient(base_url=self.url, version="1.41"))

    def build_images(self, *which: str) -> None:
        """The test images, or those named."""
        environment = {**os.environ, "DOCKER_HOST": self.url}
        subprocess.run([str(BUILD), *which], env=environment, check=True, capture_output=True)

    def signal(self, number: int) -> None:
        """Sends a signal to it, and waits for its end if it is a deadly one."""
        if self._process is not None:
            self._process.send_signal(number)
            if number in (signal.SIGTERM, signal.SIGKILL):
                self._process.wait()
                self._process = None

    def clear(self) -> None:
        """Removes its containers and the networks that were made."""
        if self._process is None:
            return
        with contextlib.suppress(docker.errors.DockerException), self.client() as client:
            for container in client.containers(all=True):
                client.remove_container(container["Id"], force=True)
            for network in client.networks():
                if network["Name"] not in ("host", "none", "bridge"):
                    client.remove_network(network["Id"])


class OwnEngine(Daemon):
    """dockerd with its own socket, data, and process files; it leaves the machine's packet filter and bridges alone."""

    def __init__(self, **configuration: Any) -> None:
        """Its default bridge is made here, under a name of its own.

        An Engine left to itself takes docker0, whoever has it, and one that is told to have none deletes docker0.
        """
        home = Path(tempfile.mkdtemp(prefix="own-engine-"))
        super().__init__(home, f"unix://{home}/docker.sock")
        self._bridge = f"own{next(_NUMBERS)}-{os.getpid()}"
        self._ip("link", "add", self._bridge, "type", "bridge")
        self._subnet = Subnet()
        self._ip("address", "add", self._subnet.gateway, "dev", self._bridge)
        self._ip("link", "set", self._bridge, "up")
        self._seen: dict[str, str] = {}
        document = {
            "data-root": str(self.home / "data"),
            "exec-root": str(self.home / "exec"),
            "pidfile": str(self.home / "pid"),
            "hosts": [self.url],
            "bridge": self._bridge,
            "iptables": False,
            "ip6tables": False,
            **configuration,
        }
        self._document = document

    def listen_too(self, url: str) -> None:
        """Another address, before the start."""
        self._document["hosts"].append(url)

    def use_runtime(self, name: str, program: Path) -> None:
        """What containers run in, before the start."""
        self._document |= {"runtimes": {name: {"path": str(program)}}, "default-runtime": name}

    def see(self, place: str, content: str) -> None:
        """Shows this Engine alone a file of the machine with other content, before the start."""
        mine = self.home / place.strip("/").replace("/", "-")
        mine.write_text(content)
        self._seen[str(mine)] = place

    def _prefix(self) -> list[str]:
        """A mount namespace of its own, where it is to see other files."""
        if not self._seen:
            return []
        mounts = "".join(f"mount --bind {mine} {place} && " for mine, place in self._seen.items())
        return ["unshare", "--mount", "sh", "-c", f'{mounts}exec "$@"', "sh"]

    @staticmethod
    def possible() -> bool:
        """Whether this machine can run one."""
        return os.geteuid() == 0 and all(shutil.which(program) for program in ("dockerd", "ip"))

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def start(self) -> None:
        """Returns once it answers."""
        (self.home / "daemon.json").write_text(json.dumps(self._document))
        self.launch([*self._prefix(), "dockerd", "--config-file", str(self.home / "daemon.json")])

    def close(self) -> None:
        """Stops it with everything it runs, and removes its files."""
        self.clear()
        self.signal(signal.SIGTERM)
        self._ip("link", "delete", self._bridge)
        self._subnet.close()
        for mount in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            path = mount.split()[1]
            if path.startswith(str(self.home)):
                subprocess.run(["umount", "-l", path], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)
