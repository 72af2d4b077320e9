"""The part of the demo that needs Python: two starts of the server, one sandbox, four ways to reach it.

`scripts/demo` runs this once the environment, the Engine and the images are there.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.server_process import SANDBOX_IMAGE, ServerFailed, ServerProcess, free_port, wait_until

PREFERRED_PORT = 8080
APP_PORT = 8000
ANSWER_SECONDS = 15.0
LIFETIME_SECONDS = 3600
DOMAIN = "localhost"
"""Browsers and curl take every name under it to this machine without asking a name server."""
GREETING = "hello from sandbox"
PAGE = f'echo "{GREETING} $OPENSANDBOX_ID" > index.html'
APPLICATION = f"mkdir /page && cd /page && {PAGE} && exec python3 -m http.server {APP_PORT}"

T = TypeVar("T")


class DemoFailed(Exception):
    """Raised when something did not do what the demo shows; the message is for the person watching."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to address the sandbox's port: what it is called, and the request that uses it."""

    name: str
    path: str = "/"
    headers: Mapping[str, str] | None = None
    host: str | None = None

    def curl(self, address: str) -> str:
        """The line that does the same from a shell."""
        options = "".join(f"-H '{name}: {value}' " for name, value in (self.headers or {}).items())
        return f"curl {options}http://{self.host or address}{self.path}"


def ways(sandbox_id: str, port: int) -> dict[str, Way]:
    """The four ways, by name."""
    label = f"{sandbox_id}-{APP_PORT}"
    return {
        way.name: way
        for way in (
            Way("header", headers={"OpenSandbox-Ingress-To": label}),
            Way("wildcard host", host=f"{label}.{DOMAIN}:{port}"),
            Way("proxy path", path=f"/sandboxes/{sandbox_id}/proxy/{APP_PORT}/"),
            Way("uri path", path=f"/{sandbox_id}/{APP_PORT}/"),
        )
    }


def step(what: str, action: Callable[[], T]) -> T:
    """Does one thing and prints how long it took."""
    began = time.monotonic()
    done = action()
    print(f"{time.monotonic() - began:7.2f} s  {what}", flush=True)
    return done


def configuration(mode: str, port: int, api_key: str) -> dict[str, dict[str, object]]:
    """A server in gateway mode whose endpoints are given in the form of `mode`, with a wildcard domain beside it."""
    return {
        "server": {"api_key": api_key},
        "ingress": {"mode": "gateway"},
        "ingress.gateway": {"address": f"127.0.0.1:{port}", "wildcard": f"*.{DOMAIN}:{port}"},
        "ingress.gateway.route": {"mode": mode},
    }


def create(server: ServerProcess) -> str:
    """Creates the sandbox through the REST API; returns its id."""
    request = {
        "image": {"uri": SANDBOX_IMAGE},
        "entrypoint": ["sh", "-c", APPLICATION],
        "timeout": LIFETIME_SECONDS,
        "resourceLimits": {"cpu": "500m", "memory": "256Mi"},
        "metadata": {"made-by": "demo"},
    }
    status, answer = server.call("POST", "/v1/sandboxes", request)
    if status != 202:
        raise DemoFailed(f"creating the sandbox was answered {status}: {answer}")
    return str(answer["id"])


def endpoint(server: ServerProcess, sandbox_id: str) -> str:
    """What the server tells a client to connect to."""
    status, answer = server.call("GET", f"/v1/sandboxes/{sandbox_id}/endpoints/{APP_PORT}")
    if status != 200:
        raise DemoFailed(f"asking for the endpoint was answered {status}: {answer}")
    headers = "".join(f" with {name}: {value}" for name, value in answer.get("headers", {}).items())
    return f"{answer['endpoint']}{headers}"


def get(server: ServerProcess, way: Way) -> tuple[int, str]:
    """One real HTTP request to the server's port, the sandbox named the given way."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)
    try:
        headers = {"Host": way.host or server.address, **(way.headers or {})}
        connection.request("GET", way.path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace").strip()
    finally:
        connection.close()


def show(server: ServerProcess, way: Way, sandbox_id: str) -> None:
    """Asks until the sandbox's own page comes; raises DemoFailed with the last answer when it does not."""
    last: list[object] = []

    def answered() -> bool:
        last[:] = get(server, way)
        return last == [200, f"{GREETING} {sandbox_id}"]

    try:
        wait_until(answered, ANSWER_SECONDS, f"the sandbox's answer by {way.name}")
    except (TimeoutError, OSError) as exc:
        raise DemoFailed(f"{exc}; the last answer was {last}") from exc


def show_gone(server: ServerProcess, way: Way) -> None:
    """A deleted sandbox is not reachable any more, at once."""
    status, _ = get(server, way)
    if status not in (404, 410):
        raise DemoFailed(f"the deleted sandbox still answers {status}")


def delete(server: ServerProcess, sandbox_id: str) -> None:
    """Deletes it through the REST API."""
    status, answer = server.call("DELETE", f"/v1/sandboxes/{sandbox_id}")
    if status != 204:
        raise DemoFailed(f"deleting the sandbox was answered {status}: {answer}")


def wait_for_interrupt() -> None:
    """Returns at Ctrl-C or SIGTERM, from the moment on that it says so."""
    with contextlib.suppress(KeyboardInterrupt):
        print("Up until Ctrl-C.", flush=True)
        while True:
            signal.pause()


def first_start(server: ServerProcess) -> str:
    """Header mode: three of the ways; returns the sandbox's id."""
    step("server started (gateway mode, endpoints by header, wildcard domain beside it)", server.start)
    sandbox_id = step("sandbox created: POST /v1/sandboxes", lambda: create(server))
    print(f"           endpoint: {endpoint(server, sandbox_id)}")
    every = ways(sandbox_id, server.port)
    for name in ("header", "wildcard host", "proxy path"):
        step(f"answers by {name}", lambda way=every[name]: show(server, way, sandbox_id))  # type: ignore[misc]
    step("server stopped; the sandbox runs on", server.stop)
    return sandbox_id


def second_start(server: ServerProcess, sandbox_id: str) -> None:
    """Uri mode with the same store: the sandbox is found again and answers by path, and by the others as before."""
    step("server started again (gateway mode, endpoints by uri); it found the sandbox", server.start)
    print(f"           endpoint: {endpoint(server, sandbox_id)}")
    for way in reversed(ways(sandbox_id, server.port).values()):
        step(f"answers by {way.name}", lambda way=way: show(server, way, sandbox_id))  # type: ignore[misc]


def print_addresses(server: ServerProcess, sandbox_id: str) -> None:
    """The lines to try."""
    print("\nTry it:")
    for way in ways(sandbox_id, server.port).values():
        print(f"  {way.curl(server.address)}")
    print(f"  curl -H 'OPEN-SANDBOX-API-KEY: {server.api_key}' {server.url}/v1/sandboxes")


def run(folder: Path, once: bool) -> None:
    """The whole demo; raises DemoFailed or ServerFailed, and leaves no sandbox either way."""
    port, api_key = free_port(PREFERRED_PORT), secrets.token_urlsafe(24)
    first, second = (
        ServerProcess(folder, configuration(mode, port, api_key), port=port, name=mode) for mode in ("header", "uri")
    )
    try:
        sandbox_id = first_start(first)
        second_start(second, sandbox_id)
        print_addresses(second, sandbox_id)
        took = time.time() - float(os.environ["DEMO_STARTED"])
        print(f"\nEverything answered, {took:.1f} s after the start.", flush=True)
        if not once:
            wait_for_interrupt()
            print()
        step("sandbox deleted", lambda: delete(second, sandbox_id))
        step("and gone for everybody, at once", lambda: show_gone(second, ways(sandbox_id, port)["header"]))
    finally:
        clean_up(first, second)


def clean_up(first: ServerProcess, second: ServerProcess) -> None:
    """Nothing is left on the Engine, whatever happened before: a server that was stopped is started once more."""
    server = next((server for server in (second, first) if server.running), None)
    if server is None:
        if first.process is None:
            return
        server = first.start()
    server.delete_all()
    step("server stopped", server.stop)


def main() -> None:
    """Runs the demo in a folder of its own; exits 1 with the reason when anything did not work."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="One sandbox, four ways to reach it.")
    parser.add_argument("--once", action="store_true", help="clean up and end once everything has answered")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="opensandbox-demo-") as name:
        try:
            run(Path(name), options.once)
        except (DemoFailed, ServerFailed, OSError) as exc:
            sys.exit(f"The demo failed: {exc}")
        except KeyboardInterrupt:
            sys.exit("Interrupted; everything was cleaned up.")


if __name__ == "__main__":
    main()
