"""Response headers that are not a sandbox's to send: what the table holds, and that it holds on every answer."""

from __future__ import annotations

import pytest

from gateway.http.fields import filter_trailers
from gateway.http.response_head import build_response, build_rewritten, parse_response
from gateway.http.withheld import everywhere, origin_wide

ORDERS = [
    b"X-Accel-Redirect",
    b"X-Accel-Expires",
    b"X-Accel-Limit-Rate",
    b"X-Accel-Charset",
    b"X-Sendfile",
    b"X-Sendfile2",
    b"X-LIGHTTPD-send-file",
    b"X-LIGHTTPD-send-tempfile",
    b"X-LiteSpeed-Location",
    b"X-LiteSpeed-Purge",
    b"X-Reproxy-URL",
    b"X-Envoy-Immediate-Health-Check-Fail",
    b"X-Envoy-Overloaded",
    b"Surrogate-Control",
    b"Edge-Control",
    b"Endpoint-Load-Metrics",
    b"Clear-Site-Data",
]
OF_THE_ORIGIN = [
    b"Service-Worker-Allowed",
    b"Strict-Transport-Security",
    b"Public-Key-Pins",
    b"Public-Key-Pins-Report-Only",
    b"Expect-CT",
    b"Alt-Svc",
    b"NEL",
    b"Report-To",
    b"Origin-Agent-Cluster",
    b"Accept-CH",
    b"Critical-CH",
    b"Set-Login",
    b"Shared-Storage-Write",
    b"Use-As-Dictionary",
    b"Secure-Session-Registration",
]
FREE = [
    b"X-Accel-Buffering",
    b"Content-Security-Policy",
    b"Reporting-Endpoints",
    b"SourceMap",
    b"X-Frame-Options",
    b"WWW-Authenticate",
    b"Access-Control-Allow-Origin",
    b"Set-Cookie",
    b"X-Accel",
    b"XX-Accel-Redirect",
]
STATUSES = [100, 103, 200, 204, 206, 302, 304, 401, 404, 500]


def spellings(name: bytes) -> list[bytes]:
    return [name, name.lower(), name.upper(), name.replace(b"-", b"_")]


def answer(status: int, *names: bytes) -> bytes:
    lines = b"".join(b"%b: x\r\n" % name for name in names)
    return b"HTTP/1.1 %d X\r\nA: 1\r\n%bB: 2\r\n\r\n" % (status, lines)


def sent(head: bytes, *, shared: bool) -> bytes:
    response = parse_response(head, to_head=True)
    built = build_response(response, b"", shared=shared)
    if shared:
        assert build_rewritten(response, b"", lambda lines: lines) == built
    return built


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("name", ORDERS)
def test_orders(status: int, name: bytes) -> None:
    """Orders to proxies, and what holds for a whole site, travel on in no form and with no status."""
    for spelling in spellings(name):
        for shared in (False, True):
            assert sent(answer(status, spelling), shared=shared) == answer(status)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("name", OF_THE_ORIGIN)
def test_origin(status: int, name: bytes) -> None:
    """What holds for a whole origin travels on only where the sandbox has it for itself."""
    for spelling in spellings(name):
        assert sent(answer(status, spelling), shared=True) == answer(status)
        assert sent(answer(status, spelling), shared=False) == answer(status, spelling)


@pytest.mark.parametrize("name", FREE)
def test_free(name: bytes) -> None:
    """What holds for one page or file is the sandbox's own."""
    for shared in (False, True):
        assert sent(answer(200, name), shared=shared) == answer(200, name)


@pytest.mark.parametrize("name", ORDERS + OF_THE_ORIGIN)
def test_trailers(name: bytes) -> None:
    """As trailers none of them travels on: a proxy may merge them into the head."""
    for spelling in spellings(name):
        assert filter_trailers(b"%b: x\r\nA: 1\r\n" % spelling) == b"A: 1\r\n"


def test_one_connection_two_forms() -> None:
    """An answer that is remembered is built anew for the other way of addressing."""
    response = parse_response(answer(200, b"NEL"), to_head=True)
    for shared in (False, True, False, True):
        kept = [] if shared else [b"NEL"]
        assert build_response(response, b"", shared=shared) == answer(200, *kept)


def test_named_by_connection_too() -> None:
    """A line that `Connection` names as well goes once, and no other with it."""
    head = answer(200, b"NEL").replace(b"A: 1", b"Connection: nel, x-accel-redirect\r\nA: 1\r\nX-Accel-Redirect: x")
    for shared in (False, True):
        assert sent(head, shared=shared) == answer(200)


@pytest.mark.parametrize(
    ("cookie", "passes"),
    [
        (b"opensandbox-access-sb-8080=x; Domain=sandbox.test", False),
        (b"opensandbox-last=/sb/8080; Path=/", False),
        (b"opensandbox-theme=dark", True),
        (b"a=opensandbox-access-sb-8080", True),
    ],
)
def test_our_cookies(cookie: bytes, passes: bool) -> None:
    """A sandbox sets no cookie of ours."""
    line = b"Set-Cookie: " + cookie
    built = sent(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % line, shared=False)
    assert (line in built) is passes


@pytest.mark.parametrize("name", ORDERS + OF_THE_ORIGIN + FREE)
def test_table(name: bytes) -> None:
    """The table agrees with what is sent."""
    known = everywhere(name.lower()), origin_wide(name.lower())
    assert known == (name in ORDERS, name in OF_THE_ORIGIN)
