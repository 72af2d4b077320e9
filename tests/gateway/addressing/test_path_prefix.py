"""Applications behind a path prefix: what points outside is brought back, everything else stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addressing.path_prefix import fallback, rewrite, slash_redirect
from gateway.addressing.routing import AddressForm, Route, Router, RoutingConfig
from gateway.signing import Signature

PREFIX = b"/sb/8080"
HOST = b"gateway.test:8443"
URI = Router(RoutingConfig(gateway=True, uri=True, wildcard=b"sandbox.test"))
PROXY_ONLY = Router(RoutingConfig(gateway=False))

LOCATIONS = [
    (b"/", b"/sb/8080/"),
    (b"/login", b"/sb/8080/login"),
    (b"/login?next=%2F#x", b"/sb/8080/login?next=%2F#x"),
    (b"/sb/80800/x", b"/sb/8080/sb/80800/x"),
    (b"/\\evil.test", b"/sb/8080/\\evil.test"),
    (b"https://gateway.test:8443/login", b"https://gateway.test:8443/sb/8080/login"),
    (b"http://gateway.test:8443/login", b"http://gateway.test:8443/sb/8080/login"),
    (b"HTTPS://GATEWAY.test:8443/", b"HTTPS://GATEWAY.test:8443/sb/8080/"),
    (b"https://gateway.test:8443", b"https://gateway.test:8443/sb/8080/"),
    (b"https://gateway.test:8443?x", b"https://gateway.test:8443/sb/8080/?x"),
    (b"//gateway.test:8443/x", b"//gateway.test:8443/sb/8080/x"),
]

UNTOUCHED = [
    b"",
    b"relative",
    b"./x",
    b"../x",
    b"?query",
    b"#fragment",
    b"/sb/8080",
    b"/sb/8080/",
    b"/sb/8080?x",
    b"/sb/8080#x",
    b"/sb/8080/login",
    b"https://gateway.test:8443/sb/8080/login",
    b"https://other.test/login",
    b"//other.test/login",
    b"https://gateway.test/login",
    b"https://gateway.test.evil:8443/login",
    b"https://gateway.test:8443@evil.test/login",
    b"https://gateway.test:8443\\@evil.test/x",
    b"mailto:x@gateway.test",
    b"ws://gateway.test:8443/x",
]


@pytest.mark.parametrize("name", [b"Location", b"location", b"LOCATION", b"Content-Location"])
@pytest.mark.parametrize(("value", "expected"), LOCATIONS)
def test_redirects(name: bytes, value: bytes, expected: bytes) -> None:
    """A redirect to the root or to the public host gets the prefix, once."""
    once = rewrite(b"A: b\r\n%b: %b\r\nC: d\r\n" % (name, value), PREFIX, HOST)
    assert once == b"A: b\r\n%b: %b\r\nC: d\r\n" % (name, expected)
    assert rewrite(once, PREFIX, HOST) == once


@pytest.mark.parametrize("value", UNTOUCHED)
def test_redirects_elsewhere(value: bytes) -> None:
    """A redirect that is relative, under the prefix already, or to another place stays byte for byte."""
    block = b"Location:  %b \r\n" % value
    assert rewrite(block, PREFIX, HOST) == block


@pytest.mark.parametrize(
    ("host", "location", "own"),
    [
        (b"gateway.test", b"http://gateway.test:80/x", True),
        (b"gateway.test", b"https://gateway.test:443/x", True),
        (b"gateway.test:80", b"http://gateway.test/x", True),
        (b"gateway.test:443", b"https://gateway.test/x", True),
        (b"gateway.test", b"https://gateway.test:80/x", False),
        (b"gateway.test", b"http://gateway.test:8080/x", False),
        (b"gateway.test:8080", b"http://gateway.test/x", False),
    ],
)
def test_default_ports(host: bytes, location: bytes, own: bool) -> None:
    """A default port makes no difference in what the public host is."""
    assert (PREFIX in rewrite(b"Location: %b\r\n" % location, PREFIX, host)) is own


REFRESHES = [
    (b"5; url=/x", b"5; url=/sb/8080/x"),
    (b"0;URL='/x'", b"0;URL='/sb/8080/x'"),
    (b'0, "/x"', b'0, "/sb/8080/x"'),
    (b"5", b"5"),
    (b"5; url=x", b"5; url=x"),
    (b"5 /x", b"5 /sb/8080/x"),
    (b"0 url = /x", b"0 url = /sb/8080/x"),
    (b"no 5; url=/x", b"no 5; url=/x"),
    (b"5; url=https://other.test/", b"5; url=https://other.test/"),
]


LINKS = [
    (b"</a.css>; rel=preload; as=style", b"</sb/8080/a.css>; rel=preload; as=style"),
    (b"</a.css>; rel=preload, </b.js>; rel=preload", b"</sb/8080/a.css>; rel=preload, </sb/8080/b.js>; rel=preload"),
    (b"<https://cdn.test/x>; rel=preload", b"<https://cdn.test/x>; rel=preload"),
    (b"<x>; rel=next", b"<x>; rel=next"),
    (b"/a.css; rel=preload", b"/a.css; rel=preload"),
]


@pytest.mark.parametrize(("value", "expected"), LINKS)
def test_links(value: bytes, expected: bytes) -> None:
    """What a page announces for loading early is loaded from under the prefix."""
    assert rewrite(b"Link: %b\r\n" % value, PREFIX, HOST) == b"Link: %b\r\n" % expected


@pytest.mark.parametrize(("value", "expected"), REFRESHES)
def test_refresh(value: bytes, expected: bytes) -> None:
    """Refresh is a redirect with a delay."""
    assert rewrite(b"Refresh: %b\r\n" % value, PREFIX, HOST) == b"Refresh: %b\r\n" % expected


COOKIES = [
    (b"a=1; Path=/", b"a=1; Path=/sb/8080"),
    (b"a=1;path=/", b"a=1;path=/sb/8080"),
    (b"a=1; PATH = /x; HttpOnly", b"a=1; PATH =/sb/8080/x; HttpOnly"),
    (b"a=1; Path=/sb/8080", b"a=1; Path=/sb/8080"),
    (b"a=1; Path=/sb/8080/x", b"a=1; Path=/sb/8080/x"),
    (b"a=1; Path=/sb/80801", b"a=1; Path=/sb/8080/sb/80801"),
    (b"a=1", b"a=1"),
    (b"a=1; HttpOnly; Secure; SameSite=Lax", b"a=1; HttpOnly; Secure; SameSite=Lax"),
    (b"a=1; Path=relative", b"a=1; Path=relative"),
    (b"a=1; Path", b"a=1; Path"),
    (b"a=path=/; Expires=Mon, 23 Nov 2026 06:00:00 GMT", b"a=path=/; Expires=Mon, 23 Nov 2026 06:00:00 GMT"),
    (b"a=1; Domain=gateway.test", b"a=1"),
    (b"a=1; Domain=.GATEWAY.test; Path=/", b"a=1; Path=/sb/8080"),
    (b"a=1; Domain=test", b"a=1"),
    (b"a=1; Domain=other.test", b"a=1; Domain=other.test"),
    (b"a=1; Domain=way.test", b"a=1; Domain=way.test"),
    (b"a=1; Domain=", b"a=1; Domain="),
    (b"a=1; Path=/x; Path=/", b"a=1; Path=/sb/8080/x; Path=/sb/8080"),
    (b"path=/; Domain", b"path=/; Domain"),
]


@pytest.mark.parametrize(("value", "expected"), COOKIES)
def test_cookies(value: bytes, expected: bytes) -> None:
    """A cookie is sent back only under the prefix, and only to this host."""
    block = b"Set-Cookie: %b\r\nSet-Cookie: b=2\r\n" % value
    assert rewrite(block, PREFIX, HOST) == b"Set-Cookie: %b\r\nSet-Cookie: b=2\r\n" % expected


@pytest.mark.parametrize("block", [b"", b"A: b\r\n", b"X-Location: /x\r\n", b"A: Location: /x\r\n"])
def test_nothing_to_do(block: bytes) -> None:
    """Lines that lead nowhere come back as the same object."""
    assert rewrite(block, PREFIX, HOST) is block


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a=1", b"a=1; Path=/sb/8080"),
        (b"a=1; HttpOnly", b"a=1; HttpOnly; Path=/sb/8080"),
        (b"a=1; Path=x", b"a=1; Path=x; Path=/sb/8080"),
        (b"a=1; Path=/x; Path=", b"a=1; Path=/sb/8080/x; Path=; Path=/sb/8080"),
        (b"a=1; Path=/x", b"a=1; Path=/sb/8080/x"),
    ],
)
def test_cookies_of_requests_outside(value: bytes, expected: bytes) -> None:
    """Where the request was for a path outside the prefix, a cookie without a path of its own is given the prefix."""
    assert rewrite(b"Set-Cookie: %b\r\n" % value, PREFIX, HOST, outside=True) == b"Set-Cookie: %b\r\n" % expected


def test_no_prefix() -> None:
    """In the header and host forms nothing is looked at."""
    block = b"Location: /x\r\nSet-Cookie: a=1; Path=/\r\n"
    assert rewrite(block, b"", HOST) is block


NAMES = [b"Location", b"Refresh", b"Set-Cookie", b"Link", b"Other"]


@given(st.binary(max_size=60).filter(lambda text: b"\r" not in text and b"\n" not in text))
def test_any_value(value: bytes) -> None:
    """Whatever an application sends, the number of lines and their names stay."""
    block = b"".join(b"%b: %b\r\n" % (name, value) for name in NAMES)
    lines = rewrite(block, PREFIX, HOST).split(b"\r\n")
    assert [line.partition(b":")[0] for line in lines] == [*NAMES, b""]


SLASHES = [
    (b"/sb/8080", b"/sb/8080/"),
    (b"/sb/8080?x=/", b"/sb/8080/?x=/"),
    (b"/sb/8080/", None),
    (b"/sb/8080/?x", None),
    (b"/sb/8080/x", None),
    (b"/other", None),
]


@pytest.mark.parametrize(("target", "expected"), SLASHES)
def test_slash(target: bytes, expected: bytes | None) -> None:
    """A prefix without a slash behind it gets one, and keeps its query."""
    assert slash_redirect(target, PREFIX) == expected


def test_slash_without_prefix() -> None:
    """Where there is no prefix nothing is missing."""
    assert slash_redirect(b"/x", b"") is None


PAGE = b"http://gateway.test:8443/sb/8080/lab/tree?x"
SIGNED_PAGE = b"http://gateway.test:8443/sb/8080/1a2b3c/01234567a/lab"
CAME_FROM = [
    (b"/static/app.js", PAGE, None, True),
    (b"/static/app.js?v=1", PAGE.upper().replace(b"/SB/", b"/sb/"), None, True),
    (b"/x/y", b"https://gateway.test:8443/sb/8080", None, True),
    (b"/websockify", None, b"a=1; opensandbox-last=/sb/8080; b=2", True),
    (b"/websockify", None, b"opensandbox-last=/sb/8080/", True),
    (b"/static/app.js", None, None, False),
    (b"/static/app.js", b"http://other.test/sb/8080/", None, False),
    (b"/static/app.js", b"http://gateway.test/sb/8080/", None, False),
    (b"/static/app.js", b"http://gateway.test:8443/", None, False),
    (b"/static/app.js", b"http://gateway.test:8443/health/8080/", None, False),
    (b"/static/app.js", b"http://gateway.test:8443/sb/port/", None, False),
    (b"/static/app.js", b"nonsense", None, False),
    (b"/static/app.js", None, b"opensandbox-last=nonsense", False),
    (b"/static/app.js", None, b"xopensandbox-last=/sb/8080", False),
    (b"/", PAGE, None, True),
    (b"/docs", PAGE, None, True),
    (b"/v1/sandboxes", PAGE, None, True),
    (b"*", PAGE, None, False),
    (b"/", None, b"opensandbox-last=/sb/8080", False),
    (b"/?x", None, b"opensandbox-last=/sb/8080", False),
    (b"//other/x", None, b"opensandbox-last=/sb/8080", False),
    (b"/docs", None, b"opensandbox-last=/sb/8080", False),
    (b"/v1/sandboxes", None, b"opensandbox-last=/sb/8080", False),
    (b"/docs", b"http://gateway.test:8443/console", b"opensandbox-last=/sb/8080", False),
    (b"/x", b"http://gateway.test:8443/console", b"opensandbox-last=/sb/8080", False),
    (b"/x", b"http://gateway.test:8443/v1/sandboxes/sb/proxy/port/", b"opensandbox-last=/sb/8080", False),
    (b"/x", b"http://gateway.test:8443/", b"opensandbox-last=/sb/8080", True),
    (b"/x", b"http://gateway.test:8443", b"opensandbox-last=/sb/8080", True),
    (b"/project/settings?a", b"http://gateway.test:8443/", b"opensandbox-last=/sb/8080", True),
    (b"/project/settings", b"http://gateway.test:8443/project/translations", b"opensandbox-last=/sb/8080", True),
    (b"/x", b"http://gateway.test:8443/project", b"opensandbox-last=/sb/8080", True),
    (b"/x", b"http://gateway.test:8443/project", None, False),
    (b"/docs", b"http://gateway.test:8443/", b"opensandbox-last=/sb/8080", False),
    (b"/", b"http://gateway.test:8443/", b"opensandbox-last=/sb/8080", False),
]


@pytest.mark.parametrize(("target", "referer", "cookies", "found"), CAME_FROM)
def test_fallback(target: bytes, referer: bytes | None, cookies: bytes | None, found: bool) -> None:
    """A request outside every prefix goes where its page lives; a mere guess takes no name of the manager."""
    route = fallback(URI, target, HOST, referer, cookies)
    assert (route is not None) is found
    if route is not None:
        assert replace(route, unsigned=None) == Route(AddressForm.URI, b"sb", 8080, None, target, PREFIX, None)


def test_referer_before_cookie() -> None:
    """The page that the request comes from says more than the page that was open last."""
    route = fallback(URI, b"/x", HOST, PAGE, b"opensandbox-last=/other/1")
    assert route is not None
    assert route.id == b"sb"


def test_fallback_from_a_signed_page() -> None:
    """A page under a signed address takes its signature along, and keeps both readings."""
    route = fallback(URI, b"/x", HOST, SIGNED_PAGE, None)
    assert route is not None
    assert (route.signature, route.target) == (Signature(b"1a2b3c", b"01234567a"), b"/x")
    assert route.unsigned is not None
    assert (route.unsigned.target, route.unsigned.prefix) == (b"/x", PREFIX)


@pytest.mark.parametrize("router", [URI, PROXY_ONLY])
def test_fallback_under_the_proxy_path(router: Router) -> None:
    """Pages under the API's proxy path are found as well."""
    route = fallback(router, b"/x", HOST, b"http://gateway.test:8443/v1/sandboxes/sb/proxy/8080/lab", None)
    assert route is not None
    assert (route.form, route.prefix) == (AddressForm.PROXY, b"/v1/sandboxes/sb/proxy/8080")
