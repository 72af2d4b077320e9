"""`opensandbox-server` as a process of its own: what the client tests, the fault tests and the demo drive.

Standard library only, so that the demo needs nothing but the server's own dependencies.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SANDBOX_IMAGE = "opensandbox-test/sandbox:1"
EXECD_IMAGE = "opensandbox-test/execd:1"
START_SECONDS = 30.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02
LOWEST_PORT = 10000
SERVER = Path(sys.executable).parent / "opensandbox-server"


class ServerFailed(RuntimeError):
    """Raised when the server does not come up or does not go down; carries what it wrote."""


def free_port(wanted: int = 0, host: str = "127.0.0.1") -> int:
    """A TCP port that is free on `host`: `wanted` if that is, else one that no connection is given by chance."""
    # As the server binds it: connections that ended a moment ago are in nobody's way.
    if wanted and _is_free(host, wanted, reuse=True):
        return wanted
    while not _is_free(host, port := random.randrange(LOWEST_PORT, _first_given_out())):
        pass
    return port


def _first_given_out() -> int:
    """The kernel numbers connections from here on: whoever is to listen later had better be below."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        first = 0
    return first if first > 2 * LOWEST_PORT else 65536


def _is_free(host: str, port: int, *, reuse: bool = False) -> bool:
    with socket.socket() as probe:
        if reuse:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Polls `condition` until it holds; raises TimeoutError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        time.sleep(POLL_SECONDS)


def toml_value(value: Any) -> str:
    """A value as TOML writes it: its strings, numbers and booleans are JSON's, its inline tables are not."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value)


def to_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """One `[table]` per key; a key may be dotted."""
    lines: list[str] = []
    for name, values in tables.items():
        lines += [f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)


class Api:
    """The REST API of a server, as a client with its key sees it."""

    def __init__(self, address: str, api_key: str) -> None:
        self.address = address
        self.api_key = api_key

    @property
    def url(self) -> str:
        """The base of the REST API, without `/v1`."""
        return f"http://{self.address}"

    def call(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, timeout: float = 60
    ) -> tuple[int, Any]:
        """One API call with the key; returns the status and the body, parsed where it is JSON."""
        sent = {"OPEN-SANDBOX-API-KEY": self.api_key} if self.api_key else {}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data, {**sent, **(headers or {})}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, parsed(answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, parsed(refused.read())

    def delete_all(self) -> None:
        """Deletes every sandbox of this server, so that a failed test leaves nothing on the Engine."""
        status, listing = self.call("GET", "/v1/sandboxes?pageSize=200")
        if status == 200:
            for sandbox in listing["items"]:
                self.call("DELETE", f"/v1/sandboxes/{sandbox['id']}")


class ServerProcess(Api):
    """One server with its configuration and its store in `folder`; start, stop, kill -9 and start again."""

    def __init__(
        self,
        folder: Path,
        tables: Mapping[str, Mapping[str, Any]],
        *,
        port: int | None = None,
        name: str = "server",
    ) -> None:
        self.port = port or free_port()
        self.config = folder / f"{name}.toml"
        self.log = folder / f"{name}.log"
        merged: dict[str, dict[str, Any]] = {
            "server": {"host": "127.0.0.1", "port": self.port},
            "runtime": {"type": "docker", "execd_image": EXECD_IMAGE},
            "docker": {"network_mode": "bridge", "instance": f"test-{self.port}"},
            "store": {"path": str(folder / "store.db")},
        }
        for name, values in tables.items():
            merged.setdefault(name, {}).update(values)
        super().__init__(f"127.0.0.1:{self.port}", merged["server"].get("api_key", ""))
        self.instance: str = merged["docker"]["instance"]
        self.config.write_text(to_toml(merged))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(
        self, *, environment: Mapping[str, str] | None = None, ready: bool = True, terminal: int | None = None
    ) -> ServerProcess:
        """Starts it and waits until `/ready` answers 200 (`/health` with ready=False).

        What it writes goes into its log, or to the descriptor `terminal`.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [SERVER, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log if terminal is None else terminal,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OPENSANDBOX_INSECURE_SERVER": "YES", **(environment or {})},
                start_new_session=True,
            )
        try:
            wait_until(lambda: self._answers("/ready" if ready else "/health"), START_SECONDS, "the server's start")
        except TimeoutError as late:
            self.kill()
            raise ServerFailed(f"{late}; it wrote:\n{self.output()}") from late
        return self

    def _answers(self, path: str) -> bool:
        if not self.running:
            raise ServerFailed(f"the server ended during its start; it wrote:\n{self.output()}")
        try:
            return self.call("GET", path)[0] == 200
        except OSError:
            return False

    def stop(self) -> int:
        """SIGTERM, then waits for the end; returns the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as stuck:
            self.kill()
            raise ServerFailed(
                f"the server did not end within {STOP_SECONDS:g} s; it wrote:\n{self.output()}"
            ) from stuck

    def kill(self) -> None:
        """SIGKILL: nothing of the server's own code runs any more."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def output(self) -> str:
        """What the server has written so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def parsed(body: bytes) -> Any:
    """The body as JSON where it is that, else as text."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
