"""The same on the Engine: whatever ends a sandbox ends what is open on it, whoever did it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.conftest import StartServer
from tests.docker.revocation import INSIDE, Crowd, Ended
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

PROGRAM = (Path(__file__).parent / "held_open.py").read_text()
WEBSOCKETS = 50
STREAMS = 50
ASKERS = 4
SETTLE_SECONDS = 20.0
SOON = timedelta(seconds=1)
TABLES: dict[str, dict[str, Any]] = {
    "ingress": {"mode": "gateway"},
    "ingress.gateway": {"address": "127.0.0.1:8080"},
    "ingress.gateway.route": {"mode": "header"},
}
ANSWER, LIE = r"Content-Length: 2\r\n\r\nhi", r"Content-Length: 8\r\n\r\nimpostor"
SUBNET = "10.213.77.0/24"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def server(start_server: StartServer) -> ServerProcess:
    """A server in gateway mode."""
    return start_server(TABLES)


def create(server: ServerProcess) -> str:
    """A sandbox that keeps everything open; returns its id once it answers."""
    body = {
        "image": {"uri": SANDBOX_IMAGE},
        "entrypoint": ["python3", "-c", PROGRAM, "0.0.0.0", str(INSIDE)],
        "timeout": 600,
        "resourceLimits": {"cpu": "500m", "memory": "128Mi"},
    }
    status, answer = server.call("POST", "/v1/sandboxes", body)
    assert status == 202, answer
    sandbox: str = answer["id"]
    wait_until(lambda: ask(server, sandbox) == (200, "hi"), SETTLE_SECONDS, "the first answer")
    return sandbox


def ask(server: ServerProcess, sandbox: str) -> tuple[int, Any]:
    """A request to the program in the sandbox."""
    return server.call("GET", "/short", headers={"OpenSandbox-Ingress-To": f"{sandbox}-{INSIDE}"})


# What ends a sandbox.


def delete(server: ServerProcess, engine: docker.APIClient, sandbox: str) -> None:
    server.call("DELETE", f"/v1/sandboxes/{sandbox}")


def pause(server: ServerProcess, engine: docker.APIClient, sandbox: str) -> None:
    server.call("POST", f"/v1/sandboxes/{sandbox}/pause")


def expire(server: ServerProcess, engine: docker.APIClient, sandbox: str) -> None:
    end = (datetime.now(UTC) + SOON).isoformat()
    server.call("POST", f"/v1/sandboxes/{sandbox}/renew-expiration", {"expiresAt": end})


def crash(server: ServerProcess, engine: docker.APIClient, sandbox: str) -> None:
    engine.kill(container_of(engine, sandbox))


def pause_behind_our_back(server: ServerProcess, engine: docker.APIClient, sandbox: str) -> None:
    engine.pause(container_of(engine, sandbox))


def container_of(engine: docker.APIClient, sandbox: str) -> str:
    """The container's id on the Engine."""
    found: str = engine.containers(all=True, filters={"label": f"opensandbox.io/id={sandbox}"})[0]["Id"]
    return found


Event = Callable[[ServerProcess, docker.APIClient, str], None]
EVENTS: dict[str, tuple[Event, str, int]] = {
    "deleted": (delete, "1001 sandbox deleted", 410),
    "expired": (expire, "1001 sandbox expired", 410),
    "paused": (pause, "1012 sandbox paused", 409),
    "paused by somebody else": (pause_behind_our_back, "1012 sandbox paused", 409),
    # Its kernel closes its sockets before the Engine tells anybody; the gateway waits for the Engine's word.
    "crashed": (crash, "1001 sandbox stopped", 409),
}


@pytest.mark.parametrize(("event", "close", "status"), EVENTS.values(), ids=EVENTS)
def test_connections_end_with_their_sandbox(
    event: Event,
    close: str,
    status: int,
    server: ServerProcess,
    engine: docker.APIClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each WebSocket gets its close frame, each stream is cut before its end, and the next request hears why."""
    sandbox = create(server)

    async def scene() -> Ended:
        crowd = await Crowd.gather(server.port, f"{sandbox}-{INSIDE}", WEBSOCKETS, STREAMS)
        since, cpu = time.monotonic(), time.process_time()
        await asyncio.to_thread(event, server, engine, sandbox)
        return await crowd.ended(since, cpu)

    ended = asyncio.run(scene())
    with capsys.disabled():
        sys.stdout.write(f"\n{', '.join(ended.websockets)}: {ended}\n")
    assert ended.websockets == {close}
    assert ended.streams == {"truncated"}
    assert ask(server, sandbox)[0] == status


@pytest.fixture
def network(engine: docker.APIClient, port: int) -> Iterator[str]:
    """A network on which a container can be given an address."""
    name = f"takeover-{port}"
    pool = docker.types.IPAMPool(subnet=SUBNET)
    made = engine.create_network(name, ipam=docker.types.IPAMConfig(pool_configs=[pool]))
    yield name
    engine.remove_network(made["Id"])


@pytest.fixture
def impostor(engine: docker.APIClient, network: str) -> Iterator[Callable[[str], None]]:
    """Starts a container that takes the given address and answers on the same port; returns when it does."""
    started: list[str] = []

    def start(address: str) -> None:
        endpoint = engine.create_endpoint_config(ipv4_address=address)
        made = engine.create_container(
            SANDBOX_IMAGE,
            ["python3", "-c", PROGRAM.replace(ANSWER, LIE), "0.0.0.0", str(INSIDE)],
            host_config=engine.create_host_config(network_mode=network),
            networking_config=engine.create_networking_config({network: endpoint}),  # type: ignore[arg-type]
        )
        started.append(made["Id"])
        engine.start(made["Id"])
        wait_until(lambda: direct(address) == "impostor", SETTLE_SECONDS, "the impostor's first answer")

    yield start
    for container in started:
        engine.remove_container(container, force=True)


def direct(address: str) -> str:
    """What answers on the address itself, past the gateway."""
    try:
        with urllib.request.urlopen(f"http://{address}:{INSIDE}/short", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_an_address_that_is_used_again_serves_no_old_route(
    start_server: StartServer, engine: docker.APIClient, network: str, impostor: Callable[[str], None]
) -> None:
    """While another container takes over the address and the port, requests to the old sandbox never reach it."""
    server = start_server(TABLES | {"docker": {"network_mode": network}})
    sandbox = create(server)
    container = container_of(engine, sandbox)
    address = engine.inspect_container(container)["NetworkSettings"]["Networks"][network]["IPAddress"]
    stop, answered = threading.Event(), threading.Barrier(ASKERS + 1, timeout=SETTLE_SECONDS)

    def ask_on() -> list[tuple[int, Any]]:
        answers = [ask(server, sandbox)]
        answered.wait()
        while not stop.is_set():
            answers.append(ask(server, sandbox))
        return answers

    with ThreadPoolExecutor(ASKERS) as pool:
        asking = [pool.submit(ask_on) for _ in range(ASKERS)]
        answered.wait()
        engine.kill(container)
        impostor(address)
        stop.set()
    answers = [answer for asked in asking for answer in asked.result()]
    assert (200, "hi") in answers
    assert all(body != "impostor" for _, body in answers)
    assert ask(server, sandbox)[0] == 409
