"""Pages of other origins: what browsers are told before and after they send a page's request."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.access.cors import CorsRule
from gateway.table import RouteState
from tests.conformance.address import PORT, Form
from tests.conformance.case import in_each_form
from tests.conformance.harness import World, running
from tests.conformance.wire import Message, Reply

PAGE = b"https://app.test"
OWNERS = b"https://owner.test"
STRANGER = b"https://evil.test"
EXECD = 44772
TOKEN = b"token"
RULE = CorsRule(frozenset({OWNERS}), frozenset({PORT}))
IN_PATH_OR_HOST = pytest.mark.parametrize("form", [Form.HOST, Form.PROXY, Form.URI], ids=["host", "proxy", "uri"])


@pytest.fixture
async def open_world() -> AsyncIterator[World]:
    """A gateway whose operator lets pages of one origin in; execd's port is the recording backend as well."""
    async with running(World(cors_origins=[PAGE])) as made:
        made.expose(EXECD, made._reach.published[PORT][1])
        yield made


def preflight(form: Form, origin: bytes, port: int = PORT, headers: bytes = b"opensandbox-secure-access") -> bytes:
    """What a browser asks before a page's request; it names no sandbox in a header, and holds no credential."""
    host = form.write(b"{host}", port=port).split(b"\r\n")[0]
    if form is Form.HEADER:
        headers += b",opensandbox-ingress-to"
    return (
        form.write(b"OPTIONS {path}/command HTTP/1.1\r\n", port=port)
        + host
        + b"\r\nOrigin: %b\r\nAccess-Control-Request-Method: POST\r\n" % origin
        + b"Access-Control-Request-Headers: %b\r\n\r\n" % headers
    )


def get(form: Form, origin: bytes, port: int = PORT, extra: bytes = b"") -> bytes:
    """A page's request."""
    return form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\nOrigin: %b\r\n%b\r\n" % (origin, extra), port=port)


def said(answer: Message) -> tuple[int, bytes | None, bytes | None]:
    """Status, whose pages may read it, and whether with credentials."""
    return (
        answer.status,
        answer.one(b"access-control-allow-origin"),
        answer.one(b"access-control-allow-credentials"),
    )


@in_each_form
@pytest.mark.parametrize("token", [None, TOKEN], ids=["open", "secured"])
async def test_execd_knows_nothing_of_browsers(open_world: World, form: Form, token: bytes | None) -> None:
    """For execd a preflight is answered here, before a credential is asked for, in every form."""
    open_world.put(token=token)
    client = await open_world.connect()
    answer = await client.ask(preflight(form, PAGE, EXECD), b"OPTIONS")
    assert said(answer) == (204, PAGE, b"true")
    assert answer.one(b"access-control-allow-methods") == b"POST"
    assert b"opensandbox-secure-access" in (answer.one(b"access-control-allow-headers") or b"")
    assert open_world.backend.seen == []
    sent = b"OpenSandbox-Secure-Access: %b\r\n" % TOKEN
    answer = await client.ask(get(form, PAGE, EXECD, sent))
    assert (said(answer), answer.body) == ((200, PAGE, b"true"), b"ok")
    assert answer.one(b"vary") == b"Origin"


@in_each_form
@pytest.mark.parametrize("origin", [STRANGER, b"null", b"https://app.test.evil.test", b"http://app.test"])
async def test_strangers_are_told_nothing(open_world: World, form: Form, origin: bytes) -> None:
    """Pages of an origin that nobody allows are told nothing, neither beforehand nor afterwards."""
    open_world.put(token=TOKEN, cors=RULE)
    client = await open_world.connect()
    answer = await client.ask(preflight(form, origin, EXECD), b"OPTIONS")
    assert (said(answer)[1:], answer.status >= 400) == ((None, None), True)
    assert said(await client.ask(get(form, origin))) == (401, None, None)


@IN_PATH_OR_HOST
async def test_owners_origins(open_world: World, form: Form) -> None:
    """The owner's origins count for the owner's sandbox, on the ports that the owner marked."""
    open_world.put(cors=RULE)
    open_world.put("other")
    client = await open_world.connect()
    assert said(await client.ask(preflight(form, OWNERS), b"OPTIONS")) == (204, OWNERS, b"true")
    assert said(await client.ask(get(form, OWNERS))) == (200, OWNERS, b"true")
    assert said(await client.ask(get(form, OWNERS).replace(b"sb", b"other"))) == (200, None, None)


@IN_PATH_OR_HOST
async def test_ports_that_are_not_marked(open_world: World, form: Form) -> None:
    """On another port the program answers its preflights itself, and its answers stay as they are."""
    reply = b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: https://its.test\r\n\r\n"
    open_world.backend.replies = [Reply(reply)]
    client = await open_world.connect()
    assert said(await client.ask(preflight(form, PAGE), b"OPTIONS")) == (204, b"https://its.test", None)
    assert said(await client.ask(get(form, PAGE))) == (200, None, None)


@in_each_form
async def test_programs_own_word_wins(open_world: World, form: Form) -> None:
    """An answer that speaks of origins itself is left alone, on a marked port as well."""
    open_world.put(cors=CorsRule(frozenset(), frozenset({0})))
    open_world.backend.reply = Reply(b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n")
    client = await open_world.connect()
    assert said(await client.ask(get(form, PAGE))) == (200, b"*", None)


@in_each_form
@pytest.mark.parametrize(
    ("status", "token", "state"),
    [(401, TOKEN, RouteState.RUNNING), (409, None, RouteState.PAUSED), (409, None, RouteState.STOPPED)],
)
async def test_our_refusals_can_be_read(
    open_world: World, form: Form, status: int, token: bytes | None, state: RouteState
) -> None:
    """A preflight that we would have to refuse is answered with yes, so that the page can read why."""
    open_world.put(token=token, state=state)
    client = await open_world.connect()
    assert said(await client.ask(preflight(form, PAGE), b"OPTIONS")) == (204, PAGE, b"true")
    answer = await client.ask(get(form, PAGE))
    assert said(answer) == (status, PAGE, b"true")
    assert b"X-Request-ID" in (answer.one(b"access-control-expose-headers") or b"")


@in_each_form
async def test_sandbox_that_is_not_there(open_world: World, form: Form) -> None:
    """That there is no such sandbox can be read as well."""
    client = await open_world.connect()
    assert said(await client.ask(get(form, PAGE).replace(b"sb", b"nobody"))) == (404, PAGE, b"true")


@in_each_form
async def test_any_origin_goes_without_credentials(form: Form) -> None:
    """`*` is never said together with credentials; an origin that is named keeps them."""
    async with running(World(cors_origins=[b"*", PAGE])) as world:
        world.put(token=TOKEN)
        client = await world.connect()
        assert said(await client.ask(preflight(form, STRANGER, EXECD), b"OPTIONS")) == (204, b"*", None)
        assert said(await client.ask(get(form, STRANGER))) == (401, b"*", None)
        assert said(await client.ask(get(form, PAGE))) == (401, PAGE, b"true")


async def test_header_form_goes_by_the_operators_list(open_world: World) -> None:
    """A preflight of the header form cannot name its sandbox, so an owner's origin is not enough there."""
    open_world.put(cors=RULE)
    client = await open_world.connect()
    answer = await client.ask(preflight(Form.HEADER, OWNERS), b"OPTIONS")
    assert said(answer) == (404, None, None)


@in_each_form
async def test_programs_pay_and_see_nothing(open_world: World, form: Form) -> None:
    """Without an Origin an answer of an unmarked port is what the sandbox sent; an OPTIONS request is the sandbox's."""
    client = await open_world.connect()
    answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"))
    assert [line for line in answer.lines if line.lower().startswith((b"access-control", b"vary"))] == []
    raw = form.write(b"OPTIONS {path}/x HTTP/1.1\r\n{host}\r\nOrigin: %b\r\n\r\n" % PAGE, port=EXECD)
    assert (await client.ask(raw, b"OPTIONS")).body == b"ok"


@in_each_form
@pytest.mark.parametrize("origin", [None, STRANGER, PAGE])
async def test_caches_are_told(open_world: World, form: Form, origin: bytes | None) -> None:
    """Every answer of a marked port depends on the origin: what a cache keeps for one is not for another."""
    line = b"" if origin is None else b"Origin: %b\r\n" % origin
    client = await open_world.connect()
    answer = await client.ask(form.write(b"GET {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n" % line, port=EXECD))
    assert answer.one(b"vary") == b"Origin"
