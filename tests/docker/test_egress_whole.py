"""A network policy as a whole: server, Engine, sidecar and the world outside, on every network and in every mode.

What is asserted is what arrives outside, or does not, and never what the policy API says of itself.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import pytest

from manager.domain.sandbox import EGRESS_PORT, EXECD_PORT
from tests.conftest import end_server
from tests.docker.outside import OTHER, TARGET, THIRD, Outside
from tests.docker.test_egress import egress_image
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

pytestmark = pytest.mark.timeout(120)
PATIENCE = 20.0
GATEWAY = {
    "ingress": {"mode": "gateway"},
    "ingress.gateway": {"address": "gateway.test"},
    "ingress.gateway.route": {"mode": "header"},
}
WAYS = [pytest.param("", id="endpoint"), pytest.param("?use_server_proxy=true", id="server-proxy")]
ALLOWED, DENIED, LATER = "allowed.test", "denied.test", "later.test"
VISIT = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=1.5).read().decode())"
LOOK_UP = """
import socket, struct, sys
host, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
ask = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ask.settimeout(1)
ask.sendto(b"\\0\\1" + struct.pack(">HHHHH", 0x100, 1, 0, 0, 0) + labels + b"\\0\\0\\1\\0\\1", (host, port))
print("code", ask.recv(4096)[3] & 15)
"""
ENGINES_OWN = "print(*{l.split()[1].split(':')[1] for l in open('/proc/net/udp') if '0B00007F:' in l})"
"""Ports of 127.0.0.11, on which an Engine listens in the namespaces of its user-defined networks."""
CREDENTIALS = {
    "credentials": [{"name": "token", "source": {"value": "s3cret"}}],
    "bindings": [
        {
            "name": "api",
            "match": {"hosts": [f"api.{ALLOWED}"]},
            "auth": {"type": "bearer", "credential": "token"},
        }
    ],
}

__all__ = ["egress_image"]


@dataclass(frozen=True)
class Stage:
    """A server with one sandbox that may look up names below ALLOWED, and a neighbour on the same network."""

    server: ServerProcess
    path: str
    neighbour: str
    network: str
    mode: str
    outside: Outside

    @property
    def sidecar(self) -> str:
        """The name of the sidecar's container."""
        return f"sandbox-egress-{self.path.rpartition('/')[2]}"

    def locate(self, port: int, way: str = "") -> tuple[str, dict[str, str]]:
        """Base address of a port, and the headers that it asks for."""
        status, endpoint = self.server.call("GET", f"{self.path}/endpoints/{port}{way}")
        assert status == 200, endpoint
        address = endpoint["endpoint"].replace("gateway.test", self.server.address)
        return f"http://{address}", endpoint.get("headers", {})

    def send(self, way: str, method: str, target: str, body: Any = None) -> tuple[int, str]:
        """One request to the sidecar's API, as a client with the endpoint sends it."""
        base, headers = self.locate(EGRESS_PORT, way)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(base + target, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def run(self, script: str, *arguments: str) -> str:
        """What a program in the sandbox prints; its failures print nothing here."""
        base, headers = self.locate(EXECD_PORT)
        body = json.dumps({"argv": ["python3", "-c", script, *arguments]}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{base}/command", body, headers), timeout=60) as told:
            events = [json.loads(line) for line in told.read().splitlines() if line]
        return "".join(event["text"] for event in events if event["type"] == "stdout").strip()

    def visit(self, host: str, port: int = 80) -> bool:
        """Whether code inside gets an answer from outside, which the outside has to have seen as well."""
        mark = f"/{uuid.uuid4()}"
        told = self.run(VISIT, f"http://{host}:{port}{mark}")
        assert bool(told) == (mark in self.outside.visits())
        return bool(told)

    def code(self, server: str, port: int, name: str) -> str:
        """What a name server says to a question from inside: its code, or nothing."""
        return self.run(LOOK_UP, server, str(port), name)


@pytest.fixture(scope="session")
def outside() -> Iterator[Outside]:
    """The world."""
    if not Outside.possible():
        pytest.skip("needs root and ip")
    world = Outside().open()
    yield world
    world.close()


@pytest.fixture(scope="module")
def custom(engine: docker.APIClient) -> Iterator[str]:
    """A network that somebody has made for sandboxes."""
    name = f"custom-{uuid.uuid4().hex[:8]}"
    engine.create_network(name, driver="bridge", check_duplicate=True)
    yield name
    engine.remove_network(name)


NETWORKS = ("own", "bridge", "custom")


@pytest.fixture(
    scope="module",
    params=[
        (net, mode, ingress) for net in NETWORKS for mode in ("dns", "dns+nft") for ingress in ("direct", "gateway")
    ],
    ids="-".join,
)
def stage(
    request: pytest.FixtureRequest,
    engine: docker.APIClient,
    images: tuple[str, str],
    egress_image: str,
    outside: Outside,
    custom: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """One server and sandbox for all tests of a row."""
    network, mode, ingress = request.param
    tables: dict[str, Any] = {
        "docker": {
            "network_mode": custom if network == "custom" else "bridge",
            "inter_container": network == "bridge",
            "dns": [outside.resolver],
        },
        "egress": {"image": egress_image, "mode": mode},
        **(GATEWAY if ingress == "gateway" else {}),
    }
    server = ServerProcess(tmp_path_factory.mktemp("whole"), tables)
    server.start()
    try:
        path = create(server, mode)
        neighbour = f"neighbour-{uuid.uuid4().hex[:8]}"
        where = {"own": "opensandbox", "bridge": "bridge", "custom": custom}[network]
        config = engine.create_host_config(network_mode=where)
        engine.start(engine.create_container(images[0], ["sleep", "600"], name=neighbour, host_config=config)["Id"])
        try:
            yield Stage(server, path, neighbour, network, mode, outside)
        finally:
            engine.remove_container(neighbour, force=True)
    finally:
        end_server(server)


def create(server: ServerProcess, mode: str) -> str:
    """The path of a new sandbox, with execd answering."""
    body = {
        "image": {"uri": SANDBOX_IMAGE},
        "entrypoint": ["sleep", "600"],
        "timeout": 600,
        "resourceLimits": {},
        "networkPolicy": {"defaultAction": "deny", "egress": [{"action": "allow", "target": f"*.{ALLOWED}"}]},
        "credentialProxy": {"enabled": mode == "dns+nft"},
    }
    status, made = server.call("POST", "/v1/sandboxes", body)
    assert status == 202, made
    path = f"/v1/sandboxes/{made['id']}"
    wait_until(lambda: server.call("GET", f"{path}/proxy/{EXECD_PORT}/ping")[0] == 200, PATIENCE, "execd")
    return path


def test_an_allowed_name_is_reached_and_asked_for_once(stage: Stage) -> None:
    """The look-up goes to the resolver of the host, and not round in a circle."""
    name = stage.outside.name(TARGET, f"{uuid.uuid4().hex}.{ALLOWED}")
    assert stage.visit(name)
    assert stage.outside.questions().count(name) in (1, 2)  # A, and AAAA where the sandbox asks for it


def test_another_name_does_not_exist(stage: Stage) -> None:
    """Nobody outside hears of it, whichever server the sandbox asks."""
    name = stage.outside.name(OTHER, f"{uuid.uuid4().hex}.{DENIED}")
    assert not stage.visit(name)
    assert stage.code(stage.outside.resolver, 53, name) == "code 3"
    assert name not in stage.outside.questions()


def test_a_bare_address_is_held_back_by_the_packet_filter_only(stage: Stage) -> None:
    """In mode dns addresses are open; in dns+nft only those that a look-up has led to."""
    assert stage.visit(stage.outside.address(THIRD)) == (stage.mode == "dns")


def test_names_of_neighbours_are_not_answered(stage: Stage) -> None:
    """The Engine's own resolver knows them; it answers neither at its address nor on the port it really has."""
    assert stage.run("import socket, sys; print(socket.gethostbyname(sys.argv[1]))", stage.neighbour) == ""
    assert stage.code("127.0.0.11", 53, stage.neighbour) in ("", "code 3")
    for port in stage.run(ENGINES_OWN).split():
        assert stage.code("127.0.0.11", int(port, 16), stage.neighbour) == ""


@pytest.mark.parametrize("way", WAYS)
def test_a_patched_policy_holds_at_once(stage: Stage, way: str) -> None:
    """Through the endpoint, through the server, and taken back through the API."""
    rule = {"action": "allow", "target": f"*.{LATER}"}
    name = stage.outside.name(OTHER, LATER)
    assert not stage.visit(name)
    status, told = stage.send(way, "PATCH", "/policy", [rule])
    assert status == 200, told
    assert stage.visit(name)
    status, told = stage.server.call("DELETE", f"{stage.path}/networkpolicy", [rule["target"]])
    assert status == 200, told
    assert not stage.visit(name)


@pytest.mark.parametrize("way", WAYS)
def test_the_vault_is_written(stage: Stage, way: str) -> None:
    """It takes writes from loopback only, so they come through execd, which is in the same network namespace."""
    if stage.mode == "dns":
        status, told = stage.send(way, "POST", "/credential-vault", CREDENTIALS)
        assert status == 412, told  # no credentialProxy without dns+nft
        return
    status, told = stage.send(way, "POST", "/credential-vault", CREDENTIALS)
    assert status == 201, told
    assert "s3cret" not in told
    assert stage.send(way, "DELETE", "/credential-vault")[0] == 204


def test_a_sidecar_that_was_restarted_enforces_what_the_sandbox_was_created_with(
    stage: Stage, engine: docker.APIClient
) -> None:
    """Its worker is killed: changes by the API are lost, the rest holds again, also towards neighbours."""
    api = f"{stage.path}/networkpolicy"
    assert stage.server.call("PATCH", api, [{"action": "allow", "target": f"*.{LATER}"}])[0] == 200
    kill = (
        "import os; [os.kill(int(p), 9) for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid())]"
    )
    engine.exec_start(engine.exec_create(stage.sidecar, ["python3", "-c", kill])["Id"])
    wait_until(lambda: stage.server.call("GET", api)[0] == 200, PATIENCE, "the sidecar's return")
    assert stage.visit(stage.outside.name(TARGET, ALLOWED))
    assert not stage.visit(stage.outside.name(OTHER, LATER))
    assert stage.code("127.0.0.11", 53, stage.neighbour) in ("", "code 3")
