"""Network modes on a real Engine: where a sandbox is dialled, what is published, and who reaches whom."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from gateway.addressing.routing import RoutingConfig
from gateway.gateway import Gateway
from gateway.limits import Limits
from gateway.options import GatewayOptions
from gateway.table import RouteTable
from gateway.upstream.targets import Target
from manager.domain import errors
from manager.domain.sandbox import EXECD_PORT, HTTP_PORT, NamedVolume, SandboxSpec, VolumeMount
from manager.runtime.docker import host_port
from manager.runtime.docker.networks import Networks, gateways
from manager.runtime.docker.ports import probe_here, probe_there
from manager.runtime.docker.runtime import DockerRuntime
from manager.services.publish import reach_of, route_of
from manager.settings.model import Settings
from tests.conformance.wire import Client
from tests.docker.harness import Events, free_port, http_get, make_settings

pytestmark = pytest.mark.timeout(120)
Started = Callable[..., Awaitable[tuple[DockerRuntime, Events]]]
Spec = Callable[..., SandboxSpec]
Made = Callable[..., Settings]
CROWD = 120
"""Ports of a range of which others use some or all."""
SERVE = ("python3", "-m", "http.server", "8080")


@pytest.fixture
def made(images: tuple[str, str], instance: str, tmp_path: Path) -> Made:
    """Settings with other tables."""
    return lambda **tables: make_settings(images[1], instance, tmp_path, **tables)


async def test_gateway_mode_publishes_nothing(runtime: DockerRuntime, spec: Spec, engine: docker.APIClient) -> None:
    """The container's own address is dialled; no port of the host is taken."""
    made = await runtime.create(spec(entrypoint=SERVE), print)
    assert made.addresses.published == {}
    assert made.addresses.own == (made.addresses.dial_host,)
    assert (await http_get((str(made.addresses.dial_host), HTTP_PORT), "/"))[0] == 200
    assert not engine.inspect_container(f"sandbox-{made.id}")["HostConfig"]["PortBindings"]


async def test_only_published_ports_are_dialled_where_asked(started: Started, made: Made, spec: Spec) -> None:
    """With proxy.resolve_internal off gateway mode publishes too, on loopback, and other ports go through execd."""
    runtime, _ = await started(made(proxy={"resolve_internal": False}))
    sandbox = await runtime.create(spec(entrypoint=SERVE, secure_token="token"), print)
    assert sandbox.addresses.dial_host is None
    published = sandbox.addresses.published
    assert EXECD_PORT in published
    assert {host for host, _ in published.values()} == {"127.0.0.1"}
    assert (await http_get(published[EXECD_PORT], "/ping"))[0] == 200
    assert reach_of(sandbox).target(9999) == Target(*published[EXECD_PORT], b"/proxy/9999", forwarded=True)
    await runtime.delete(sandbox.id)


async def test_behind_the_engines_proxy(started: Started, made: Made, spec: Spec) -> None:
    """A published port that opens late is waited for, and one that never opens is a closed port."""
    runtime, _ = await started(made(proxy={"resolve_internal": False}))
    late = ("sh", "-c", "sleep 1.5; exec python3 -m http.server 8080")
    sandboxes = [await runtime.create(spec(entrypoint=words), print) for words in (late, ("sleep", "60"))]
    table = RouteTable()
    table.synced = True
    options = GatewayOptions(routing=RoutingConfig(gateway=True), limits=Limits(connect_budget=20.0))
    gateway = Gateway(table, options)
    await gateway.listen("127.0.0.1", 0)
    try:
        answers = []
        for sandbox in sandboxes:
            table.put(route_of(sandbox))
            client = await Client.connect(gateway.addresses[0][1])
            line = f"OpenSandbox-Ingress-To: {sandbox.id}-{HTTP_PORT}"
            await client.send(f"GET / HTTP/1.1\r\nHost: x\r\n{line}\r\nConnection: close\r\n\r\n".encode())
            async with asyncio.timeout(60):
                answers.append((await client._stream.read()).split(b" ")[1])
            await client.close()
        assert answers == [b"200", b"504"]
        assert gateway.counters.dial_failures > 1
    finally:
        await gateway.stop()
        for sandbox in sandboxes:
            await runtime.delete(sandbox.id)


async def test_direct_mode_publishes_the_two_known_ports(started: Started, made: Made, spec: Spec) -> None:
    """In the configured range, on the configured address, and they answer."""
    docker_table = {"publish_host": "127.0.0.1", "port_range_min": 41000, "port_range_max": 41200}
    runtime, _ = await started(made(ingress={"mode": "direct", "gateway": {}}, docker=docker_table))
    sandbox = await runtime.create(spec(entrypoint=SERVE), print)
    published = sandbox.addresses.published
    assert set(published) == {EXECD_PORT, HTTP_PORT}
    assert all(host == "127.0.0.1" and 41000 <= port <= 41200 for host, port in published.values())
    assert (await http_get(published[EXECD_PORT], "/ping"))[0] == 200
    assert (await http_get(published[HTTP_PORT], "/"))[0] == 200
    await runtime.delete(sandbox.id)


@pytest.fixture
def execd_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A port for execd: its own is every sandbox's on this machine, and among those that any connection may use."""
    port = free_port()
    monkeypatch.setattr(host_port, "EXECD_PORT", port)
    return port


@pytest.fixture
async def on_the_host(started: Started, made: Made) -> DockerRuntime:
    """A runtime whose sandboxes share the network of the host."""
    return (await started(made(docker={"network_mode": "host"})))[0]


async def test_host_mode_shares_the_hosts_network(on_the_host: DockerRuntime, spec: Spec, execd_port: int) -> None:
    """Ports inside are the host's, nothing is published."""
    sandbox = await on_the_host.create(spec(env={"EXECD_PORT": str(execd_port)}), print)
    assert sandbox.addresses.host_network
    assert (await http_get((str(sandbox.addresses.dial_host), execd_port), "/ping"))[0] == 200
    await on_the_host.delete(sandbox.id)


async def test_a_second_sandbox_in_host_mode_is_a_conflict(
    on_the_host: DockerRuntime, spec: Spec, execd_port: int
) -> None:
    """Its execd would not start, and whoever called it would reach the first's; when that is deleted there is room."""
    env = {"EXECD_PORT": str(execd_port)}
    first, second = spec(env=env), spec(env=env)
    await on_the_host.create(first, print)
    for _ in ("while execd starts", "when it listens"):
        with pytest.raises(errors.Conflict, match=rf"port {execd_port} .* taken, by another sandbox") as raised:
            await on_the_host.create(second, print)
        assert raised.value.code == "DOCKER::HOST_PORT_IN_USE"
        assert await on_the_host.get(second.id) is None
        await http_get(("127.0.0.1", execd_port), "/ping")
    await on_the_host.delete(first.id)
    await on_the_host.create(second, print)
    assert (await http_get(("127.0.0.1", execd_port), "/ping"))[0] == 200
    await on_the_host.delete(second.id)


async def test_of_creates_in_host_mode_at_once_one_succeeds(
    on_the_host: DockerRuntime, spec: Spec, execd_port: int
) -> None:
    """The others are told; one that fails leaves the port to the next."""
    missing = VolumeMount("v", "/v", NamedVolume("no-such-volume", create_if_not_exists=False))
    with pytest.raises(errors.Invalid):
        await on_the_host.create(spec(volumes=(missing,)), print)
    asked = [spec(env={"EXECD_PORT": str(execd_port)}) for _ in range(3)]
    made = await asyncio.gather(*(on_the_host.create(one, print) for one in asked), return_exceptions=True)
    assert sorted(type(one).__name__ for one in made) == ["Conflict", "Conflict", "Sandbox"]
    assert len(await on_the_host.list()) == 1
    for one in asked:
        await on_the_host.delete(one.id)


async def test_in_host_mode_a_port_of_a_stranger_is_a_conflict(
    on_the_host: DockerRuntime, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox of another server, or any program."""
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    monkeypatch.setattr(host_port, "EXECD_PORT", taken.sockets[0].getsockname()[1])
    asked = spec()
    async with taken:
        with pytest.raises(errors.Conflict) as raised:
            await on_the_host.create(asked, print)
    assert raised.value.code == "DOCKER::HOST_PORT_IN_USE"
    assert await on_the_host.get(asked.id) is None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.7"}, ["172.18.0.7"]),
        ({"Subnet": "172.17.0.0/16"}, ["172.17.0.1"]),
        ({"Subnet": "10.78.0.0/16", "IPRange": "10.78.5.0/24"}, ["10.78.5.0"]),
        ({"Subnet": "10.78.0.0/16", "IPRange": "10.78.0.0/24"}, ["10.78.0.1"]),
        ({"Subnet": "10.81.0.9/29"}, ["10.81.0.9"]),
        ({"Subnet": "fd12:3456::/64"}, ["fd12:3456::1"]),
        ({}, []),
    ],
)
def test_the_gateway_that_is_not_told_is_the_first_address(told: dict[str, str], expected: list[str]) -> None:
    """As the Engine chooses it for its own bridges; what another driver's network leads to is not known."""
    assert gateways({"Driver": "bridge", "IPAM": {"Config": [told]}}) == expected
    named = [told[key] for key in told if key == "Gateway"]
    assert gateways({"Driver": "macvlan", "IPAM": {"Config": [told]}}) == named


async def test_a_network_with_a_subnet_alone_is_dialled_like_any(
    started: Started, made: Made, spec: Spec, engine: docker.APIClient, instance: str
) -> None:
    """The Engine tells no gateway for it, and neither for its own bridge before its second start."""
    name = f"{instance}-subnet"
    pool = docker.types.IPAMPool(subnet=f"10.{random.randrange(100, 250)}.{random.randrange(250)}.0/24")
    engine.create_network(name, ipam=docker.types.IPAMConfig(pool_configs=[pool]))
    runtime, _ = await started(made(docker={"network_mode": name}))
    sandbox = await runtime.create(spec(), print)
    details = engine.inspect_container(f"sandbox-{sandbox.id}")
    assert gateways(engine.inspect_network(name)) == [details["NetworkSettings"]["Networks"][name]["Gateway"]]
    assert (await http_get((str(sandbox.addresses.dial_host), EXECD_PORT), "/ping"))[0] == 200
    assert not details["HostConfig"]["PortBindings"]
    await runtime.delete(sandbox.id)
    engine.remove_network(name)


async def test_on_the_engines_own_bridge_sandboxes_are_dialled_directly(
    started: Started, made: Made, spec: Spec, engine: docker.APIClient
) -> None:
    """Also on an Engine that was never started before, which does not tell that bridge's gateway."""
    runtime, _ = await started(made(docker={"inter_container": True}))
    sandbox = await runtime.create(spec(), print)
    details = engine.inspect_container(f"sandbox-{sandbox.id}")
    assert list(details["NetworkSettings"]["Networks"]) == ["bridge"]
    assert not details["HostConfig"]["PortBindings"]
    assert (await http_get((str(sandbox.addresses.dial_host), EXECD_PORT), "/ping"))[0] == 200
    await runtime.delete(sandbox.id)


@pytest.fixture
def network(engine: docker.APIClient, instance: str) -> Iterator[str]:
    """A network that somebody made, with capitals in its name."""
    name = f"{instance}-Net"
    engine.create_network(name)
    yield name
    engine.remove_network(name)


async def test_a_custom_network_is_used_as_it_is_named(
    started: Started, made: Made, spec: Spec, network: str, engine: docker.APIClient
) -> None:
    """Mixed case is kept, and the address on it is dialled."""
    runtime, _ = await started(made(docker={"network_mode": network}))
    sandbox = await runtime.create(spec(), print)
    assert (await http_get((str(sandbox.addresses.dial_host), EXECD_PORT), "/ping"))[0] == 200
    assert list(engine.inspect_container(f"sandbox-{sandbox.id}")["NetworkSettings"]["Networks"]) == [network]
    await runtime.delete(sandbox.id)


@pytest.fixture
def nowhere_yet(engine: docker.APIClient, instance: str) -> Iterator[str]:
    """The name of a network that is not there; every network of that name goes."""
    name = f"{instance}-own"
    yield name
    for network in engine.networks(names=[name]):
        engine.remove_network(network["Id"])


@pytest.mark.parametrize("servers", [1, 6])
async def test_the_network_of_the_first_creates_is_one(
    runtime: DockerRuntime, engine: docker.APIClient, nowhere_yet: str, servers: int
) -> None:
    """On a new Engine several sandboxes, or servers, may be the first at once: the Engine would make one for each."""
    ours = [Networks(runtime._calls, runtime._topology.sight, own=nowhere_yet) for _ in range(servers)]
    chosen = await asyncio.gather(*(networks.choose("bridge") for networks in ours for _ in range(6 // servers)))
    assert {choice.mode for choice in chosen} == {nowhere_yet}
    assert len(engine.networks(names=[nowhere_yet])) == 1


@pytest.mark.parametrize("used", [False, True])
async def test_of_several_networks_of_one_name_the_one_in_use_stays(
    runtime: DockerRuntime,
    engine: docker.APIClient,
    images: tuple[str, str],
    instance: str,
    nowhere_yet: str,
    *,
    used: bool,
) -> None:
    """As a race of before may have left them: no container starts on either until the name means one again."""
    first = engine.create_network(nowhere_yet)["Id"]
    box = engine.create_container(
        images[0],
        ["sleep", "60"],
        host_config=engine.create_host_config(network_mode=nowhere_yet if used else "none"),
        labels={"opensandbox.io/instance": instance},
    )
    engine.start(box["Id"])
    with contextlib.suppress(docker.errors.APIError):  # newer Engines make no second one
        for _ in range(2):
            engine.create_network(nowhere_yet, check_duplicate=False)
    networks = Networks(runtime._calls, runtime._topology.sight, own=nowhere_yet)
    assert (await networks.choose("bridge")).mode == nowhere_yet
    assert [network["Id"] for network in engine.networks(names=[nowhere_yet])] == [first]
    engine.remove_container(box["Id"], force=True)


async def test_sandboxes_do_not_reach_each_other(runtime: DockerRuntime, spec: Spec, engine: docker.APIClient) -> None:
    """One serves, the other tries: nothing comes through, while we get an answer."""
    server = await runtime.create(spec(entrypoint=SERVE), print)
    host = str(server.addresses.dial_host)
    assert (await http_get((host, HTTP_PORT), "/"))[0] == 200
    knock = f"import socket; socket.create_connection(('{host}', 8080), 1)"
    other = await runtime.create(spec(entrypoint=("python3", "-c", knock)), print)
    ended = await asyncio.to_thread(engine.wait, f"sandbox-{other.id}")
    assert ended["StatusCode"] != 0


async def test_a_taken_port_means_another_one(started: Started, made: Made, spec: Spec) -> None:
    """The Engine refuses a port that was free when we looked; the create goes on with others."""
    runtime, _ = await started(made(ingress={"mode": "direct", "gateway": {}}, docker={"publish_host": "127.0.0.1"}))
    first = await runtime.create(spec(), print)
    taken = [port for _, port in first.addresses.published.values()]
    others = [free_port(), free_port()]
    picks = iter([*taken, *others])
    runtime._tools.ports._take = lambda host: next(picks)  # type: ignore[method-assign]
    second = await runtime.create(spec(), print)
    assert {port for _, port in second.addresses.published.values()} == set(others)
    for sandbox in (first, second):
        await runtime.delete(sandbox.id)


@contextlib.contextmanager
def crowded(free: int, *, answering: bool = False) -> Iterator[range]:
    """A range of ports of which all but so many are in use: by programs that answer there, or outgoing connections."""
    first = free_port()
    ports = range(first, first + CROWD)
    with contextlib.ExitStack() as held:
        for port in random.sample(ports, CROWD - free):
            sock = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # in use already
                sock.bind(("0.0.0.0", port))
                if answering:
                    sock.listen()
        yield ports


def in_direct_mode(ports: range) -> dict[str, dict[str, Any]]:
    """Tables that publish in this range."""
    span = {"port_range_min": ports.start, "port_range_max": ports.stop - 1}
    return {"ingress": {"mode": "direct", "gateway": {}}, "docker": {"publish_host": "127.0.0.1", **span}}


PROBES = {"here": probe_here(), "there": probe_there(lambda host: host)}
"""How ports are looked at beside the Engine, and from another machine, whose own connections use some too."""


@pytest.mark.parametrize(
    ("probe", "free", "answering"),
    [("here", 3, True), ("here", 3, False), ("there", 3, True), ("there", CROWD * 9 // 10, False)],
)
async def test_among_ports_that_are_taken_the_free_ones_are_found(
    started: Started, made: Made, spec: Spec, *, probe: str, free: int, answering: bool
) -> None:
    """However few they are, where we can see which."""
    with crowded(free, answering=answering) as ports:
        runtime, _ = await started(made(**in_direct_mode(ports)))
        runtime._tools.ports._probe = PROBES[probe]
        sandbox = await runtime.create(spec(), print)
        assert all(port in ports for _, port in sandbox.addresses.published.values())
        assert (await http_get(sandbox.addresses.published[EXECD_PORT], "/ping"))[0] == 200
        await runtime.delete(sandbox.id)


@pytest.mark.parametrize(("probe", "answering"), [("here", False), ("there", False), ("there", True)])
async def test_a_range_without_a_free_port_says_so(
    started: Started, made: Made, spec: Spec, *, probe: str, answering: bool
) -> None:
    """503 with a time to come back, since ports come free; the message names the keys, and nothing is left."""
    asked = spec()
    with crowded(0, answering=answering) as ports:
        runtime, _ = await started(made(**in_direct_mode(ports)))
        runtime._tools.ports._probe = PROBES[probe]
        with pytest.raises(errors.Unavailable, match="port_range_min") as raised:
            await runtime.create(asked, print)
    assert raised.value.code == "DOCKER::SANDBOX_START_FAILED"
    assert raised.value.retry_after
    assert await runtime.get(asked.id) is None
