"""The server itself in a container with the socket mounted, as config/compose.yaml and compose.bridge.yaml run it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.clients.test_inside import ASK
from tests.docker import composed
from tests.docker.composed import Composed
from tests.docker.harness import DEADLINE, wait_for_port
from tests.engine import engine_socket
from tests.server_process import SANDBOX_IMAGE, Api, to_toml, wait_until

pytestmark = pytest.mark.timeout(400)
Serve = Callable[..., Composed]
HTTP, OTHER = 8080, 9000
"""A port that is published where any is, and one that only execd's relay leads to."""
SERVING = f"python3 -m http.server {OTHER} & exec python3 -m http.server {HTTP}"
WAYS = {
    "ingress": {
        "mode": "gateway",
        "gateway": {
            "address": "127.0.0.1:1",
            "wildcard": "*.sandbox.localhost",
            "route": {"mode": "uri"},
        },
    }
}


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory, images: tuple[str, str]) -> Path:
    """A clone from which the image of the server was built."""
    if not composed.possible():
        pytest.skip("needs docker-compose and python3-venv")
    made = composed.checkout(tmp_path_factory.mktemp("clone"))
    composed.build_image(made)
    return made


@pytest.fixture(scope="module")
def serve(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts servers; everything of them goes at the end."""
    servers: list[Composed] = []

    def start(*, bridge: bool, everywhere: bool = False, **tables: dict[str, Any]) -> Composed:
        name = f"test-composed-{uuid.uuid4().hex[:8]}"
        server = Composed(
            clone, tmp_path_factory.mktemp("composed") / "home", name, bridge=bridge, everywhere=everywhere, **tables
        )
        servers.append(server)
        server.up()
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def bridged(serve: Serve) -> Composed:
    """A server in a network of its own, in gateway mode."""
    return serve(bridge=True, **WAYS)


def create(server: Api, command: str = SERVING, **fields: Any) -> dict[str, Any]:
    """A new sandbox; raises with the answer when it is refused."""
    status, made = try_create(server, command, **fields)
    assert status == 202, made
    return dict(made)


def try_create(server: Api, command: str = SERVING, **fields: Any) -> tuple[int, Any]:
    """Status and body of a create."""
    body = {
        "image": {"uri": SANDBOX_IMAGE},
        "entrypoint": ["sh", "-c", command],
        "timeout": 600,
        "resourceLimits": {},
        **fields,
    }
    return server.call("POST", "/v1/sandboxes", body)


def delete(server: Api, sandbox: dict[str, Any]) -> None:
    """Removes a sandbox."""
    assert server.call("DELETE", f"/v1/sandboxes/{sandbox['id']}")[0] == 204


def listing(address: str, path: str = "/", expected: str = "Directory listing", **headers: str) -> bool:
    """Whether the page of the program in the sandbox is at this address, once the program has come up."""
    told: list[Any] = []

    def answers() -> bool:
        try:
            told.append(Api(address, "").call("GET", path, headers=headers))
        except OSError as error:  # a published port closes what comes before the program listens
            told.append((0, str(error)))
        return bool(told[-1][0] == 200)

    try:
        wait_until(answers, DEADLINE, "an answer")
    except TimeoutError as late:
        raise AssertionError(f"{address}{path} says {told[-1]}") from late
    return expected in told[-1][1]


def endpoint(server: Api, sandbox: dict[str, Any], port: int, query: str = "") -> str:
    """The address that the server gives out."""
    status, answer = server.call("GET", f"/v1/sandboxes/{sandbox['id']}/endpoints/{port}{query}")
    assert status == 200, answer
    return str(answer["endpoint"])


def left(engine: docker.APIClient, instance: str) -> list[str]:
    """Containers and volumes that carry this instance label."""
    mine = {"label": f"opensandbox.io/instance={instance}"}
    found = [entry["Names"][0] for entry in engine.containers(all=True, filters=mine)]
    return found + [volume["Name"] for volume in engine.volumes(filters=mine)["Volumes"] or []]


@pytest.mark.parametrize("port", [HTTP, OTHER])
def test_every_form_leads_to_a_sandbox(bridged: Composed, port: int) -> None:
    """Through the one published port of the server: path, header, host name and the path of the API."""
    made = create(bridged)
    label = f"{made['id']}-{port}"
    path = endpoint(bridged, made, port).partition("/")[2]
    proxied = endpoint(bridged, made, port, "?use_server_proxy=true")
    assert listing(bridged.address, f"/{path}/")
    assert listing(bridged.address, **{"OpenSandbox-Ingress-To": label})
    assert listing(bridged.address, Host=f"{label}.sandbox.localhost")
    assert proxied.startswith(f"{bridged.address}/")
    assert listing(bridged.address, f"/{proxied.partition('/')[2]}/")
    delete(bridged, made)


def test_ports_are_published_for_the_server_alone(bridged: Composed, engine: docker.APIClient) -> None:
    """On the gateway address of the sandboxes' network, not on an address of the machine's other sides."""
    made = create(bridged)
    details = engine.inspect_container(f"sandbox-{made['id']}")
    (network,) = details["NetworkSettings"]["Networks"].values()
    bound = [binding for port in details["HostConfig"]["PortBindings"].values() for binding in port]
    assert {binding["HostIp"] for binding in bound} == {network["Gateway"]}
    delete(bridged, made)


def test_sandboxes_do_not_reach_each_others_addresses(bridged: Composed, engine: docker.APIClient) -> None:
    """Their network keeps them apart, wherever the server runs."""
    made = create(bridged)
    (network,) = engine.inspect_container(f"sandbox-{made['id']}")["NetworkSettings"]["Networks"].values()
    knock = f"import socket; socket.create_connection(('{network['IPAddress']}', {HTTP}), 1)"
    other = create(bridged, f'exec python3 -c "{knock}"')
    assert engine.wait(f"sandbox-{other['id']}")["StatusCode"] != 0
    for sandbox in (made, other):
        delete(bridged, sandbox)


def test_secure_access_is_refused_where_it_would_secure_nothing(bridged: Composed) -> None:
    """The published ports ask for no credential, and this server cannot do without them."""
    status, answer = try_create(bridged, secureAccess=True)
    assert (status, answer["code"]) == (400, "SANDBOX::INVALID_PARAMETER")
    assert "secureAccess" in answer["message"]


def test_what_the_server_remembers_is_not_for_sandboxes(bridged: Composed) -> None:
    """Its own volume is refused by name."""
    volume = {"name": "state", "mountPath": "/mnt", "pvc": {"claimName": bridged.volume}}
    status, answer = try_create(bridged, volumes=[volume])
    assert (status, answer["code"]) == (400, "VOLUME::INVALID_PVC_NAME")


def test_a_directory_of_the_host_is_mounted(bridged: Composed, tmp_path: Path) -> None:
    """The path is the host's: the server's own files are not asked."""
    (tmp_path / "there.txt").write_text("from the host")
    volume = {"name": "data", "mountPath": "/mnt", "host": {"path": str(tmp_path)}}
    made = create(bridged, f"cd /mnt && exec python3 -m http.server {HTTP}", volumes=[volume])
    label = {"OpenSandbox-Ingress-To": f"{made['id']}-{HTTP}"}
    assert listing(bridged.address, "/there.txt", "from the host", **label)
    delete(bridged, made)


def test_a_new_container_takes_over(bridged: Composed, engine: docker.APIClient) -> None:
    """What only the store knows is in the volume, and the sandbox is reached as before."""
    made = create(bridged)
    assert bridged.call("PATCH", f"/v1/sandboxes/{made['id']}/metadata", {"kept": "yes"})[0] == 200
    before = engine.inspect_container(bridged.name)["Id"]
    bridged.up("--force-recreate")
    assert engine.inspect_container(bridged.name)["Id"] != before
    status, found = bridged.call("GET", f"/v1/sandboxes/{made['id']}")
    assert (status, found["metadata"]) == (200, {"kept": "yes"})
    assert listing(bridged.address, **{"OpenSandbox-Ingress-To": f"{made['id']}-{HTTP}"})
    delete(bridged, made)


def test_the_container_has_only_what_it_needs(bridged: Composed, engine: docker.APIClient) -> None:
    """No capabilities, no writable files but its volume; the Engine calls it healthy."""
    host = engine.inspect_container(bridged.name)["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"], host["ReadonlyRootfs"]) == (["ALL"], None, True)
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    probe = engine.inspect_container(bridged.name)["Config"]["Healthcheck"]["Test"][1:]
    ran = engine.exec_create(bridged.name, probe)["Id"]
    engine.exec_start(ran)
    assert engine.exec_inspect(ran)["ExitCode"] == 0


def test_the_doctor_says_how_sandboxes_are_reached(bridged: Composed) -> None:
    """Inside the container: nothing fails, and who else reaches published ports is told."""
    create(bridged)
    code, report = composed.doctor(bridged.name)
    assert code == 0, report
    assert "sandboxes are reached at published ports" in report
    assert "network_mode 'host'" in report
    bridged.delete_all()


def test_deletion_leaves_nothing(bridged: Composed, engine: docker.APIClient) -> None:
    """No container and no volume of any sandbox."""
    made = create(bridged)
    assert left(engine, bridged.name) == [f"/sandbox-{made['id']}"]
    delete(bridged, made)
    assert left(engine, bridged.name) == []


@pytest.mark.parametrize(("table", "host"), [({}, "127.0.0.1"), ({"docker": {"host_ip": "localhost"}}, "localhost")])
def test_direct_endpoints_name_the_host_that_was_asked_or_is_configured(
    serve: Serve, table: dict[str, Any], host: str
) -> None:
    """docker.host_ip where it is set; the container's own address would mean nothing to the caller."""
    server = serve(bridge=True, ingress={"mode": "direct"}, **table)
    made = create(server)
    published, relayed = endpoint(server, made, HTTP), endpoint(server, made, OTHER)
    assert published.startswith(f"{host}:")
    assert relayed.startswith(f"{host}:")
    assert relayed.endswith(f"/proxy/{OTHER}")
    assert listing(server.address, f"/v1/sandboxes/{made['id']}/proxy/{HTTP}/")
    assert listing(published)
    assert listing(relayed.partition("/")[0], f"/proxy/{OTHER}/")


def test_on_the_hosts_network_nothing_is_published(serve: Serve, engine: docker.APIClient) -> None:
    """As compose.yaml alone has it: sandboxes are dialled at their own addresses, and secure access means something."""
    server = serve(bridge=False, **WAYS)
    made = create(server, secureAccess=True)
    assert not engine.inspect_container(f"sandbox-{made['id']}")["HostConfig"]["PortBindings"]
    label = {"OpenSandbox-Ingress-To": f"{made['id']}-{OTHER}"}
    assert server.call("GET", "/", headers=label)[0] == 401
    status, answer = server.call("GET", f"/v1/sandboxes/{made['id']}/endpoints/{OTHER}")
    assert status == 200
    assert listing(server.address, **{**label, **answer["headers"]})
    code, report = composed.doctor(server.name)
    assert code == 0, report


@pytest.fixture
def cut_off(clone: Path, engine: docker.APIClient, tmp_path: Path) -> Iterator[Api]:
    """A server in a network from which nothing leads to the host; the test reaches it from the host's end."""
    name = f"test-cut-off-{uuid.uuid4().hex[:8]}"
    tables: dict[str, dict[str, Any]] = {
        "server": {"host": "0.0.0.0", "port": 8080, "api_key": composed.KEY},
        "runtime": {"type": "docker", "execd_image": "opensandbox-test/execd:1"},
        "docker": {"network_mode": "bridge", "instance": name},
    }
    (tmp_path / "config.toml").write_text(to_toml(tables))
    engine.create_network(name, internal=True)
    mounts = ["-v", f"{engine_socket()}:/var/run/docker.sock"]
    mounts += ["-v", f"{tmp_path}/config.toml:/etc/opensandbox/config.toml:ro"]
    try:
        composed.run(["docker", "run", "-d", "--name", name, "--network", name, *mounts, composed.IMAGE], {})
        address = engine.inspect_container(name)["NetworkSettings"]["Networks"][name]["IPAddress"]
        wait_for_port(8080, address)
        server = Api(f"{address}:8080", composed.KEY)
        server.name = name  # type: ignore[attr-defined]
        yield server
    finally:
        composed.run(["docker", "rm", "-f", "-v", name], {})
        engine.remove_network(name)


def test_a_server_that_cannot_reach_sandboxes_says_so(cut_off: Any, engine: docker.APIClient) -> None:
    """Create fails at once and leaves nothing; the doctor names the remedy."""
    status, answer = try_create(cut_off)
    assert (status, answer["code"]) == (500, "DOCKER::SANDBOX_UNREACHABLE")
    assert "network_mode 'host'" in answer["message"]
    assert left(engine, cut_off.name) == []
    code, report = composed.doctor(cut_off.name)
    assert code == 1, report
    assert "internal network" in report


def test_a_sandbox_does_not_come_in_as_the_gateway(serve: Serve, bridged: Composed, engine: docker.APIClient) -> None:
    """Published at every address, the port is a sandbox's to dial, as the gateway of the server's network.

    Programs of the host that dial 127.0.0.1 come as the same, and are told why they are refused; published on loopback
    the port is theirs alone.
    """
    server = serve(bridge=True, everywhere=True, **WAYS)
    made = create(bridged)
    details = engine.inspect_container(f"sandbox-{made['id']}")
    host = next(iter(details["NetworkSettings"]["Networks"].values()))["Gateway"]
    asked = f"http://{host}:{server.port}/v1/sandboxes"
    job = engine.exec_create(details["Id"], ["python3", "-c", ASK, "POST", asked, server.api_key])["Id"]
    assert engine.exec_start(job).decode().startswith("403 ")
    status, told = server.call("GET", "/v1/sandboxes")
    assert (status, told["code"]) == (403, "SANDBOX_CALLER_FORBIDDEN")
    assert bridged.call("GET", "/v1/sandboxes")[0] == 200
    delete(bridged, made)
