"""Signed links in browsers: the way from the link to the cookie, and what a sandbox sees of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import signing
from gateway.addressing.routing import Route, Router, RoutingConfig
from gateway.addressing.signed_links import (
    LIFETIME,
    access_cookie,
    entering,
    last_cookie,
    last_prefixes,
    signatures,
    without_signature,
)
from gateway.http.cookies import strip_cookies
from gateway.signing import Signature

ROUTER = Router(RoutingConfig(gateway=True, uri=True, wildcard=b"sandbox.test", mount=b"/gw"))
SHORT = Signature(b"1a2b3c", b"01234567a")
LONG = signing.sign_long("k", b"secret", "sb", 8080, 4_000_000_000)
NOW = 1_900_000_000.0


def label(signature: Signature) -> bytes:
    return b"sb-8080-%b-%b" % (signature.expires, signature.value)


def code(signature: Signature) -> bytes:
    return b"%b-%b" % (signature.expires, signature.value)


def route(target: bytes, host: bytes = b"gateway.test", header: bytes | None = None) -> Route:
    found = ROUTER.route(target, host, header)
    assert found is not None
    return found


@pytest.mark.parametrize("signature", [SHORT, LONG])
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (b"/sb/8080", b"/x?y=%2F#z", b"/sb/8080/x?y=%2F#z"),
        (b"/sb/8080", b"", b"/sb/8080/"),
        (b"/sb/8080", b"?y", b"/sb/8080/?y"),
        (b"/gw/sb/8080", b"/x", b"/gw/sb/8080/x"),
    ],
)
def test_uri_link(signature: Signature, before: bytes, after: bytes, expected: bytes) -> None:
    """In the uri form the signature leaves the path and becomes a cookie at once."""
    found = route(before + b"/%b/%b" % (signature.expires, signature.value) + after)
    assert without_signature(found, b"gateway.test", b"http") == (expected, signature)


@pytest.mark.parametrize("signature", [SHORT, LONG])
@pytest.mark.parametrize(
    ("target", "separator"),
    [(b"/x", b"?"), (b"/", b"?"), (b"/x?y=1", b"&"), (b"/x?", b"&"), (b"/?a?b", b"&"), (b"//other.test/", b"?")],
)
def test_host_link(signature: Signature, target: bytes, separator: bytes) -> None:
    """In the host form the browser goes to the unsigned host first, which then sets its own cookie."""
    host = b"%b.Sandbox.test:8443" % label(signature)
    step = without_signature(route(target, host), host, b"https")
    assert step is not None
    location, cookie = step
    assert cookie is None
    path = target + separator + b"opensandbox-enter=" + code(signature)
    assert location == b"https://sb-8080.Sandbox.test:8443" + path
    second = route(path, b"sb-8080.sandbox.test:8443")
    assert entering(second) == signature
    clean = b"https://sb-8080.sandbox.test:8443" + target
    assert without_signature(second, b"sb-8080.sandbox.test:8443", b"https") == (clean, signature)


NO_LINKS = [
    route(b"/x", b"sb-8080.sandbox.test"),
    route(b"/x", b"gateway.test", label(SHORT)),
    route(b"/sb/8080/x"),
    route(b"/sb/8080/x?opensandbox-enter=" + code(SHORT)),
    route(b"/sandboxes/sb/proxy/8080/x?opensandbox-enter=" + code(SHORT)),
    route(b"/x?opensandbox-enter=" + code(SHORT), b"gateway.test", b"sb-8080"),
    route(b"/x?opensandbox-enter=" + code(SHORT) + b"&more", b"sb-8080.sandbox.test"),
    route(b"/x?opensandbox-enter=nonsense", b"sb-8080.sandbox.test"),
    route(b"/x?xopensandbox-enter=" + code(SHORT), b"sb-8080.sandbox.test"),
    route(b"/opensandbox-enter=" + code(SHORT), b"sb-8080.sandbox.test"),
]


@pytest.mark.parametrize("found", NO_LINKS)
def test_no_links(found: Route) -> None:
    """Other addresses are left alone; a header is no link."""
    assert without_signature(found, b"gateway.test", b"http") is None
    assert entering(found) is None


def test_cookie() -> None:
    """The cookie holds the signature for one sandbox and port, out of reach of scripts, as long as the link at most."""
    soon = Signature(signing.to_base36(int(NOW) + 60), b"01234567a")
    expected = b"opensandbox-access-sb-8080=%b; Max-Age=60; Path=/; HttpOnly; SameSite=Lax" % code(soon)
    assert access_cookie(b"sb", 8080, soon, NOW, secure=False) == expected
    assert access_cookie(b"sb", 8080, soon, NOW, secure=True) == b"__Host-" + expected + b"; Secure"


@pytest.mark.parametrize(("expires", "age"), [(int(NOW) + 10**9, LIFETIME), (int(NOW), 0), (int(NOW) - 60, 0)])
def test_cookie_age(expires: int, age: int) -> None:
    """A cookie lives for a day's work at most, and never longer than its link."""
    signature = Signature(signing.to_base36(expires), b"01234567a")
    assert b"; Max-Age=%d;" % age in access_cookie(b"sb", 8080, signature, NOW, secure=False)


@pytest.mark.parametrize("secure", [False, True])
def test_cookie_comes_back(secure: bool) -> None:
    """What was set is found again, for the same sandbox and port only."""
    pair = access_cookie(b"sb", 8080, LONG, NOW, secure=secure).partition(b";")[0]
    cookies = b"a=1; %b; b=2" % pair
    assert signatures(cookies, b"sb", 8080, secure=secure) == [LONG]
    assert signatures(cookies, b"sb", 808, secure=secure) == []
    assert signatures(cookies, b"s", 8080, secure=secure) == []
    assert strip_cookies(cookies) == b"a=1; b=2"


def test_cookie_of_a_neighbour() -> None:
    """Over TLS a cookie counts only under the name that no other host of the domain can set."""
    pair = access_cookie(b"sb", 8080, LONG, NOW, secure=False).partition(b";")[0]
    assert signatures(pair, b"sb", 8080, secure=True) == []


COOKIES = [
    (None, []),
    (b"", []),
    (b"opensandbox-access-sb-8080=", []),
    (b"opensandbox-access-sb-8080=nonsense", []),
    (b"opensandbox-access-sb-8080=" + code(SHORT), [SHORT]),
    (b"opensandbox-access-sb-8080=%b;opensandbox-access-sb-8080=%b" % (code(SHORT), code(LONG)), [SHORT, LONG]),
    (b"opensandbox-access-sb-8080=%b; " % code(SHORT) * 50, [SHORT] * 4),
    (b"xopensandbox-access-sb-8080=" + code(SHORT), []),
    (b"OPENSANDBOX-ACCESS-SB-8080=" + code(SHORT), []),
    (b'opensandbox-access-sb-8080="%b"' % code(SHORT), []),
]


@pytest.mark.parametrize(("cookies", "expected"), COOKIES)
def test_signatures(cookies: bytes | None, expected: list[Signature]) -> None:
    """A few well-formed signatures are looked at, however many cookies there are."""
    assert signatures(cookies, b"sb", 8080, secure=False) == expected


STRIPPED = [
    (b"a=1; b=2", b"a=1; b=2"),
    (b"opensandbox-access-sb-8080=x", b""),
    (b"opensandbox-access-sb-8080=x; a=1", b"a=1"),
    (b"a=1; opensandbox-access-sb-8080=x", b"a=1"),
    (b"a=1; opensandbox-last=/sb/8080; b=2", b"a=1; b=2"),
    (b"a=1;opensandbox-access-other-1=x;b=2", b"a=1;b=2"),
    (b"a=opensandbox-access-sb-8080; b=2", b"a=opensandbox-access-sb-8080; b=2"),
    (b"opensandbox-lasting=1; opensandbox-x=2", b"opensandbox-lasting=1; opensandbox-x=2"),
    (b"a=1;; b;  =c ; d=\xe9", b"a=1;; b;  =c ; d=\xe9"),
]


@pytest.mark.parametrize(("cookies", "expected"), STRIPPED)
def test_strip(cookies: bytes, expected: bytes) -> None:
    """A sandbox sees none of our cookies and all others byte for byte."""
    assert strip_cookies(cookies) == expected
    if cookies == expected:
        assert strip_cookies(cookies) is cookies


@given(st.lists(st.sampled_from([b"a=1", b"opensandbox-access-sb-1=x", b"opensandbox-last=/a/1", b"b", b"c=d=e"])))
def test_strip_any(pairs: list[bytes]) -> None:
    """In any order, exactly ours are taken out."""
    kept = [pair for pair in pairs if not pair.startswith(b"opensandbox-")]
    assert strip_cookies(b"; ".join(pairs)) == b"; ".join(kept)


@pytest.mark.parametrize("secure", [False, True])
def test_last_cookie(secure: bool) -> None:
    """The hint where the browser was last is a prefix and nothing secret."""
    value = last_cookie(b"/sb/8080", secure=secure)
    expected = b"opensandbox-last=/sb/8080; Path=/; HttpOnly; SameSite=Lax"
    assert value == (b"__Host-%b; Secure" % expected if secure else expected)
    assert last_prefixes(value.partition(b";")[0]) == [b"/sb/8080"]
