"""Servers of the lifecycle API under measurement: ours and the released one, each with a configuration of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.processes import Program

RELEASE = "opensandbox-server==1.1.1"

CONFIGURATION = """[server]
host = "127.0.0.1"
port = {port}
[runtime]
type = "docker"
execd_image = "{execd}"
[docker]
network_mode = "bridge"
publish_host = "127.0.0.1"
"""


def released_server() -> str:
    """The program of the released server, in an environment of its own: its dependencies are not ours."""
    subprocess.run(["scripts/install", "reference"], check=True, stdout=subprocess.DEVNULL)
    return ".venvs/reference/bin/opensandbox-server"


def our_server() -> str:
    """The program of this project."""
    return str(Path(sys.executable).parent / "opensandbox-server")


class Threaded(Program):
    """A program whose threads come and go: what ended ones have used counts too, to the hundredth of a second."""

    __slots__ = ()

    def cpu_seconds(self) -> float:
        """CPU time used so far by all its processes, user and system."""
        ticks = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A running server and how to speak to it."""

    name: str
    port: int
    program: Program

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call on a connection of its own; raises RuntimeError for a status that is no success."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status >= 300:
            raise RuntimeError(f"{self.name}: {method} {path} answered {response.status}: {text}")
        return json.loads(text) if text else None

    def create(self, image: str) -> tuple[str, float]:
        """A sandbox and the milliseconds it took."""
        request = {"image": {"uri": image}, "entrypoint": ["sleep", "3600"], "timeout": 3600, "resourceLimits": {}}
        began = time.perf_counter()
        made = self.call("POST", "/v1/sandboxes", request)
        return made["id"], (time.perf_counter() - began) * 1000

    def names(self) -> set[str]:
        """The ids of the sandboxes it lists."""
        return {item["id"] for item in self.call("GET", "/v1/sandboxes?pageSize=200")["items"]}

    def delete(self, sandboxes: Sequence[str]) -> list[float]:
        """Deletes them one after the other; milliseconds each."""
        taken = []
        for sandbox in sandboxes:
            began = time.perf_counter()
            self.call("DELETE", f"/v1/sandboxes/{sandbox}")
            taken.append((time.perf_counter() - began) * 1000)
        return taken
