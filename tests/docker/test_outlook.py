"""Where the server stands to its Engine: what follows for dialling and publishing. Pure."""

from __future__ import annotations

import pytest

from manager.runtime.docker.host.own_container import container_id
from manager.runtime.docker.host.topology import (
    EVERYWHERE,
    GatewayReachable,
    Place,
    Topology,
    place_of,
    separate_network_namespace,
    topology,
)
from manager.runtime.docker.status import LOOPBACK

HEAD = "Iface\tDestination\tGateway\tFlags\n"
DEFAULT = "eth0\t00000000\t010011AC\t0003\n"
SUBNET = "eth0\t000011AC\t00000000\t0001\n"
GATEWAY = "172.17.0.1"
SANDBOXES = "172.30.0.1"
BOXED = Place(own_network=True, gateway=GATEWAY)
OWN_ID = "ab" * 32


def seen(**fields: object) -> Topology:
    """The outlook from beside the Engine, but for what is given."""
    given = {"remote_host": None, "host_ip": None, "place": Place(), "reach": GatewayReachable(), **fields}
    return topology(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("routes", "paired", "place"),
    [
        (HEAD + DEFAULT + SUBNET, {"eth0": True}, BOXED),
        (HEAD + DEFAULT + SUBNET, {"eth0": False, "veth1": True}, Place()),
        (HEAD + SUBNET, {"eth0": True}, Place(own_network=True)),
        (HEAD + SUBNET, {"eth0": False, "docker0": False, "veth1": True}, Place()),
        (HEAD, {}, Place(own_network=True)),
    ],
)
def test_where_a_container_is(routes: str, paired: dict[str, bool], place: Place) -> None:
    """One end of a pair is a network of its own; real interfaces are the host's, with a way out or without."""
    assert place_of(routes, paired) == place


@pytest.mark.parametrize(
    ("fields", "host", "published_on"),
    [
        ({}, LOOPBACK, LOOPBACK),
        ({"host_ip": "192.0.2.9"}, LOOPBACK, LOOPBACK),
        ({"remote_host": "engine.example", "place": BOXED}, "engine.example", EVERYWHERE),
        ({"place": BOXED}, GATEWAY, SANDBOXES),
        ({"place": BOXED, "host_ip": "192.0.2.9"}, GATEWAY, SANDBOXES),
        ({"place": BOXED, "host_ip": "host.docker.internal"}, "host.docker.internal", EVERYWHERE),
    ],
)
def test_where_ports_are_published_for_us(fields: dict[str, object], host: str, published_on: str) -> None:
    """As few as possible can dial them: this machine, the containers of the host; all only where nothing else works."""
    found = seen(**fields)
    assert (found.sight.engine_host, found.publish_for_us(SANDBOXES)) == (host, published_on)


@pytest.mark.parametrize("fields", [{}, {"place": BOXED}, {"remote_host": "engine.example"}])
def test_containers_are_not_dialled_where_that_is_off(fields: dict[str, object]) -> None:
    """Nothing else changes: ports are published for us as if no container could be dialled."""
    on, off = seen(reach=lambda _: True, **fields), seen(reach=lambda _: True, internal=False, **fields)
    assert not off.sight.reaches(SANDBOXES)
    assert (off.publish_on, off.sight.engine_host, off.exposed) == (on.publish_on, on.sight.engine_host, on.exposed)


def test_a_network_without_a_gateway_has_the_way_out_instead() -> None:
    """An address of the host in any case."""
    assert seen(place=BOXED).publish_for_us(None) == GATEWAY


def test_only_beside_the_engine_are_we_alone() -> None:
    """Elsewhere a published port is a way in that asks for no credential."""
    exposed = [seen(), seen(place=BOXED), seen(remote_host="engine.example")]
    assert [found.exposed for found in exposed] == [False, True, True]


@pytest.mark.parametrize(
    ("fields", "publish_on", "named"),
    [
        ({"place": Place(own_network=True)}, None, "network_mode 'host'"),
        ({"place": BOXED}, "127.0.0.1", "docker.publish_host"),
        ({"remote_host": "engine.example"}, "127.0.0.1", "docker.publish_host"),
    ],
)
def test_what_keeps_us_from_dialling(fields: dict[str, object], publish_on: str | None, named: str) -> None:
    """It is known before a container is made, and names what to change."""
    assert named in (seen(**fields).obstacle(publish_on) or "")


@pytest.mark.parametrize("publish_on", [None, "0.0.0.0", "192.0.2.9"])
@pytest.mark.parametrize("fields", [{}, {"place": BOXED}, {"remote_host": "engine.example"}])
def test_what_can_be_dialled(fields: dict[str, object], publish_on: str | None) -> None:
    """Every address but loopback, which is dialled from beside the Engine."""
    assert seen(**fields).obstacle(publish_on) is None
    assert seen().obstacle(LOOPBACK) is None


@pytest.mark.parametrize(
    ("published_on", "dialled"), [("0.0.0.0", GATEWAY), (SANDBOXES, SANDBOXES), ("192.0.2.9", "192.0.2.9")]
)
def test_a_port_is_dialled_where_it_is_published(published_on: str, dialled: str) -> None:
    """From a container: at its gateway when it is published everywhere, else at that very address."""
    assert seen(place=BOXED).sight.dials(published_on) == dialled


def test_on_another_machine_its_name_is_dialled() -> None:
    """Whatever address of that machine the port is published on."""
    assert seen(remote_host="engine.example").sight.dials("10.0.0.9") == "engine.example"


@pytest.mark.parametrize(
    ("info", "apart"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, True),
        ({"OperatingSystem": "Docker Desktop"}, True),
        ({"OperatingSystem": "Debian GNU/Linux 12", "SecurityOptions": ["name=userns"]}, False),
    ],
)
def test_engines_with_a_network_namespace_of_their_own(info: dict[str, object], apart: bool) -> None:
    """Their bridges are out of reach, also where this machine happens to have an address like theirs."""
    assert separate_network_namespace(info) is apart
    sight = seen(reach=GatewayReachable(separate_network_namespace(info))).sight
    assert sight.reaches(LOOPBACK) is not apart


@pytest.mark.parametrize("file", ["hostname", "hosts", "resolv.conf"])
def test_a_container_knows_its_id(file: str) -> None:
    """From its mounts, which a container on the host's network has too."""
    mounts = f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n612 600 8:1 /docker/containers/{OWN_ID}/{file} /etc/{file} rw - x"
    assert container_id(mounts) == OWN_ID


def test_outside_of_containers_there_is_no_id() -> None:
    """Nor for the mounts of other containers as the host sees them."""
    assert container_id("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n90 22 0:5 / /var/lib/docker/containers rw - ext4") is None
