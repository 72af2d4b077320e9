"""Which name servers an egress sidecar is told: those behind the resolvers that a container cannot ask."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from manager.doctor.engine import check_engine
from manager.doctor.findings import Finding, Verdict
from manager.domain import errors
from manager.runtime.docker.engine.client import Calls
from manager.runtime.docker.engine.connection import Engine
from manager.runtime.docker.resolvers import Resolvers, Upstreams, hosts_of, offer, parse, told_by, usable
from tests.docker.harness import make_settings
from tests.docker.own_engine import OwnEngine
from tests.docker.test_egress import egress_image

pytestmark = pytest.mark.timeout(120)
UPSTREAM = "OPENSANDBOX_EGRESS_DNS_UPSTREAM"
STUB = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.test\n"
LISTED = "nameserver 10.1.1.1\nnameserver fe80::1%eth0\nsearch corp.test\n"

__all__ = ["egress_image"]


@pytest.mark.parametrize(
    ("servers", "ipv6", "expected"),
    [
        (["10.0.0.1", "127.0.0.1", "::1", "10.0.0.2"], True, ("10.0.0.1", "10.0.0.2")),
        (["2001:db8::1", "10.0.0.1"], True, ("10.0.0.1", "2001:db8::1")),
        (["2001:db8::1", "10.0.0.1"], False, ("10.0.0.1",)),
        (["fe80::1%eth0", "0.0.0.0", "224.0.0.251", "resolver.test"], True, ()),
        (["10.0.0.1", "10.0.0.1"], True, ("10.0.0.1",)),
        ([f"10.0.0.{last}" for last in range(20)], True, tuple(f"10.0.0.{last}" for last in range(10))),
    ],
)
def test_what_a_container_can_ask(servers: list[str], ipv6: bool, expected: tuple[str, ...]) -> None:
    """Literal addresses that need neither loopback nor an interface; version 6 only where it is not switched off."""
    assert usable(servers, ipv6=ipv6) == expected


def test_a_resolv_conf() -> None:
    """Name servers, and the lines about names; comments and others are left out."""
    text = "# made\nnameserver  10.0.0.2 \nnameserver\nsortlist 1\nsearch a.test b.test\noptions ndots:0\n"
    assert parse(text) == (("10.0.0.2",), ("search a.test b.test", "options ndots:0"))
    assert Upstreams(("10.0.0.2",), "x", search=("search a",)).resolv_conf() == "nameserver 10.0.0.2\nsearch a\n"


def test_what_an_operator_tells_the_sidecar() -> None:
    """The addresses in it, whose ports are for the sidecar only; a blank value says nothing."""
    assert told_by([f"{UPSTREAM}= 10.0.0.2:5353 "]) == "10.0.0.2:5353"
    assert told_by([f"{UPSTREAM}=", "OTHER=x"]) is None
    assert hosts_of("10.0.0.2:5353, 10.0.0.3,[::1]:53,2001:db8::1") == ("10.0.0.2", "10.0.0.3", "::1", "2001:db8::1")


@pytest.fixture
def calls() -> Iterator[Calls]:
    """The Engine."""
    engine = Engine(os.environ, timeout=60, silence=60)
    yield Calls(engine)
    engine.close()


@pytest.fixture
def image(engine: docker.APIClient, egress_image: str) -> dict[str, Any]:
    """The sidecar's image, inspected."""
    return dict(engine.inspect_image(egress_image))


Search = Callable[..., Resolvers]


@pytest.fixture
def search(calls: Calls, instance: str, tmp_path: Path) -> Search:
    """A search whose files say what is given, on the Engine's machine or not."""

    def make(host: str = "", behind: str = "", *, beside: bool = True, **changes: Any) -> Resolvers:
        (tmp_path / "resolv.conf").write_text(host)
        (tmp_path / "behind").write_text(behind)
        options: dict[str, Any] = {"configured": (), "environment": (), "ipv6": False, **changes}
        made = Resolvers(calls, instance, beside=lambda: beside, **options)
        made.host_file, made.behind_stub = tmp_path / "resolv.conf", tmp_path / "behind"
        return made

    return make


async def test_the_operators_word_comes_first(search: Search, image: dict[str, Any]) -> None:
    """egress.env, then the environment of the image, then docker.dns, then the host."""
    baked = {**image, "Config": {"Env": [f"{UPSTREAM}=10.2.2.2"]}}
    told = search(LISTED, environment=[f"{UPSTREAM}=10.3.3.3:5353"], configured=("10.4.4.4",))
    assert await told.find(baked) == Upstreams(("10.3.3.3",), UPSTREAM, told=True)
    configured = search(LISTED, configured=("10.4.4.4",))
    assert (await configured.find(baked)).addresses == ("10.2.2.2",)
    assert (await configured.find(image)).addresses == ("10.4.4.4",)
    assert (await search(LISTED).find(image)).addresses == ("10.1.1.1",)


@pytest.mark.parametrize(
    ("told", "why"),
    [("dns.test", "no IP address"), ("10.0.0.2, dns.test:53", "no IP address"), ("127.0.0.11", "own resolver")],
)
async def test_what_no_sidecar_can_use_is_refused(search: Search, image: dict[str, Any], told: str, why: str) -> None:
    """A name keeps the sidecar from starting, the Engine's own resolver leads back to it."""
    with pytest.raises(errors.Invalid, match=rf"{UPSTREAM}.*{why}"):
        await search(LISTED, environment=[f"{UPSTREAM}={told}"]).find(image)


async def test_behind_the_stub_of_systemd(search: Search, image: dict[str, Any]) -> None:
    """Its own list counts, with the search domains; only its stub leads there."""
    found = await search(STUB, LISTED).find(image)
    assert (found.addresses, found.search) == (("10.1.1.1",), ("search corp.test",))
    assert found.source.endswith("behind")
    assert (await search("nameserver 10.5.5.5\n", LISTED).find(image)).addresses == ("10.5.5.5",)


async def test_in_a_container_and_far_away_the_engine_knows(
    search: Search, image: dict[str, Any], calls: Calls, instance: str, engine: docker.APIClient
) -> None:
    """Our own file, which names the Engine's resolver or another network's, says nothing; no container is left."""
    offered = usable(parse(await offer(calls, instance, image["Id"]))[0], ipv6=False)
    assert offered
    found = await search("nameserver 127.0.0.11\n", beside=False).find(image)
    assert (found.addresses, found.source) == (offered, "the Docker Engine")
    assert engine.containers(all=True, filters={"name": "sandbox-resolvers-", "label": "opensandbox.io/instance"}) == []


@pytest.fixture
def with_dns() -> Iterator[Callable[[str], OwnEngine]]:
    """Starts an Engine whose containers are told this name server."""
    if not OwnEngine.possible():
        pytest.skip("needs root, dockerd and ip")
    made: list[OwnEngine] = []

    def start(address: str) -> OwnEngine:
        made.append(OwnEngine(dns=[address]))
        made[0].start()
        made[0].build_images("egress")
        return made[0]

    yield start
    for engine in made:
        engine.close()


@pytest.mark.parametrize(("address", "known"), [("10.6.6.6", True), ("8.8.8.8", False)])
async def test_a_host_whose_only_resolver_is_on_loopback(
    with_dns: Callable[[str], OwnEngine],
    search: Search,
    egress_image: str,
    instance: str,
    address: str,
    known: bool,
) -> None:
    """What its Engine is configured with counts, not the public ones to which an Engine turns of itself: 400."""
    own = with_dns(address)
    engine = Engine({"DOCKER_HOST": own.url}, timeout=60, silence=60)
    with own.client() as client:
        inspected = dict(client.inspect_image(egress_image))
    made = search("nameserver 127.0.0.1\n")
    made._calls = Calls(engine)
    if known:
        assert (await made.find(inspected)).addresses == (address,)
    else:
        with pytest.raises(errors.Invalid, match=r"lists only 127\.0\.0\.1\. Set docker\.dns"):
            await made.find(inspected)
    engine.close()


@pytest.mark.parametrize(
    ("dns", "verdict", "words"),
    [(["10.0.0.2"], Verdict.OK, "ask 10.0.0.2 (from docker.dns)"), (["127.0.0.1"], Verdict.FAIL, "Set docker.dns")],
)
async def test_doctor_tells_them(
    images: tuple[str, str],
    instance: str,
    tmp_path: Path,
    egress_image: str,
    dns: list[str],
    verdict: Verdict,
    words: str,
) -> None:
    """Which they are and where they are from; that there are none is a failure, with the key to set."""
    settings = make_settings(images[1], instance, tmp_path, docker={"dns": dns}, egress={"image": egress_image})
    found: list[Finding] = [f async for f in check_engine(settings) if f.name == "name servers"]
    assert [(finding.verdict, words in finding.text) for finding in found] == [(verdict, True)]
