"""The Host that a program is sent as its owner wishes: what it compares fits, and what it says of it comes home."""

from __future__ import annotations

import pytest

from gateway.upstream.host_rules import HostRules
from tests.conformance.address import PORT, Form
from tests.conformance.case import in_each_form
from tests.conformance.harness import World, running
from tests.conformance.wire import Reply

UPSTREAM = HostRules({PORT: b"upstream"})
LITERAL = HostRules({PORT: b"localhost:9222"}, frozenset({PORT}))
GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"


def dialled(world: World) -> bytes:
    """The address of the backend."""
    return b"127.0.0.1:%d" % world._reach.published[PORT][1]


@in_each_form
async def test_by_port(world: World, form: Form) -> None:
    """A named port gets what its owner says, every other one what its client asked for; at once when changed."""
    client = await world.connect()
    expected = []
    for rules, host in [
        (HostRules(), form.host),
        (UPSTREAM, dialled(world)),
        (LITERAL, b"localhost:9222"),
        (HostRules({PORT + 1: b"upstream"}), form.host),
        (HostRules({0: b"upstream"}), dialled(world)),
        (HostRules({0: b"upstream", PORT: b"public"}), form.host),
    ]:
        world.put(hosts=rules)
        for _ in range(3):
            await client.ask(form.write(GET))
            expected.append((host, form.host))
    seen = [(message.one(b"host"), message.one(b"x-forwarded-host")) for message in world.backend.seen]
    assert seen == expected


@in_each_form
async def test_operators_default(form: Form) -> None:
    """Where the owner says nothing the operator's setting holds."""
    async with running(World(upstream_host=True)) as world:
        client = await world.connect()
        await client.ask(form.write(GET))
        world.put(hosts=HostRules({PORT: b"public"}))
        await client.ask(form.write(GET))
        assert [message.one(b"host") for message in world.backend.seen] == [dialled(world), form.host]


@in_each_form
@pytest.mark.parametrize("scheme", [b"http://", b"HTTP://"])
async def test_origin_follows(world: World, form: Form, scheme: bytes) -> None:
    """The Origin of the address that was asked for follows the Host where that is wished, and only there."""
    client = await world.connect()
    request = GET.replace(b"\r\n\r\n", b"\r\nOrigin: %b%b\r\n\r\n" % (scheme, form.host))
    for rules, expected in [(UPSTREAM, scheme + form.host), (LITERAL, b"http://localhost:9222")]:
        world.put(hosts=rules)
        await client.ask(form.write(request))
        assert world.backend.seen[-1].all(b"origin") == [expected]


@in_each_form
@pytest.mark.parametrize(
    "origin", [b"null", b"https://%b", b"http://%b:81", b"http://evil.test", b"http://%b.evil.test"]
)
async def test_other_origins_pass(world: World, form: Form, origin: bytes) -> None:
    """What is not the public address stays what it is: the program's own check is there to refuse it."""
    origin = origin.replace(b"%b", form.host)
    world.put(hosts=LITERAL)
    client = await world.connect()
    await client.ask(form.write(GET.replace(b"\r\n\r\n", b"\r\nOrigin: %b\r\n\r\n" % origin)))
    assert world.backend.seen[-1].all(b"origin") == [origin]


@in_each_form
@pytest.mark.parametrize("name", [b"Location", b"Content-Location"])
@pytest.mark.parametrize(
    ("url", "path"),
    [
        (b"http://%b/mcp?x=1", b"/mcp?x=1"),
        (b"https://%b/a", b"/a"),
        (b"//%b/a", b"/a"),
        (b"HTTP://%b", b"/"),
        (b"http://%b?x", b"/?x"),
        (b"http://%b//evil.test/", b"/.//evil.test/"),
        (b"http://%b/\\evil.test/", b"/./\\evil.test/"),
    ],
)
async def test_addresses_come_home(world: World, form: Form, name: bytes, url: bytes, path: bytes) -> None:
    """An address of the Host that was sent leads to where the client came from, and to no other host."""
    world.put(hosts=UPSTREAM)
    url = url.replace(b"%b", dialled(world))
    world.backend.replies.append(Reply(b"HTTP/1.1 307 See\r\n%b: %b\r\nContent-Length: 0\r\n\r\n" % (name, url)))
    client = await world.connect()
    assert (await client.ask(form.write(GET))).one(name.lower()) == form.prefix + path


@in_each_form
@pytest.mark.parametrize(
    "url",
    [b"http://%b.evil.test/", b"http://%b@evil.test/", b"http://%b\\@evil.test/", b"ftp://%b/", b"http://127.0.0.1:1/"],
)
async def test_addresses_elsewhere_stay(world: World, form: Form, url: bytes) -> None:
    """Whatever else an address names is the program's business."""
    world.put(hosts=UPSTREAM)
    url = url.replace(b"%b", dialled(world))
    world.backend.replies.append(Reply(b"HTTP/1.1 307 See\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % url))
    client = await world.connect()
    assert (await client.ask(form.write(GET))).one(b"location") == url


@in_each_form
async def test_public_hosts_are_left_alone(world: World, form: Form) -> None:
    """A program that is sent the public Host has not been told the dialled address: nothing is changed for it."""
    url = b"http://%b/a" % dialled(world)
    world.backend.replies.append(Reply(b"HTTP/1.1 307 See\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % url))
    client = await world.connect()
    assert (await client.ask(form.write(GET))).one(b"location") == url


@in_each_form
async def test_links_refreshes_and_cookies(world: World, form: Form) -> None:
    """Likewise in every other line that holds an address; a cookie for that host would be refused by the browser."""
    world.put(hosts=LITERAL)
    world.backend.replies.append(
        Reply(
            b"HTTP/1.1 200 OK\r\nLink: <http://localhost:9222/a>; rel=next, <b>; rel=prev\r\n"
            b"Refresh: 5; url=http://localhost:9222/r\r\nSet-Cookie: a=b; Domain=localhost; Path=/\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
    )
    client = await world.connect()
    answer = await client.ask(form.write(GET))
    prefix = form.prefix
    assert answer.one(b"link") == b"<%b/a>; rel=next, <b>; rel=prev" % prefix
    assert answer.one(b"refresh") == b"5; url=%b/r" % prefix
    assert answer.all(b"set-cookie")[0] == b"a=b; Path=" + (prefix or b"/")
