"""Signed links for browsers: opening one sets a cookie and redirects to the address without the signature.

A page's sub-resources, relative links and WebSockets do not carry the signature of the link that opened it, and an
address that lets everybody in should not stay in the address bar. So when a browser opens a good signed address:

    uri    /sb/8080/<expires>/<signature>/x      → cookie, redirect to /sb/8080/x
    host   sb-8080-<expires>-<signature>.domain  → redirect to sb-8080.domain/x?opensandbox-enter=<expires>-<signature>
           (a cookie must be set by the host it is for) → cookie, redirect to sb-8080.domain/x

The cookie holds the signature itself under a name for this sandbox and port. It is checked like the address it came
from, at every request, so it ends with the link, with the key, and with what the link is bound to. It counts only for
what the port's own page asks and for people who open an address (`own_pages`). Our cookies are taken out of what a
sandbox sees. Pure functions on bytes.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.addressing.routing import SIGNED, AddressForm, Route
from gateway.http.cookies import ACCESS, LAST, LOCKED, cookie_values
from gateway.signing import Signature

ENTER: Final = b"opensandbox-enter="
LIFETIME: Final = 12 * 3600
"""Longest life of a cookie in seconds: a working day. The link's own expiry may end it earlier."""

_ENTER: Final = re.compile(rb"[?&]" + ENTER + rb"(" + SIGNED + rb")\Z")
_SIGNED: Final = re.compile(SIGNED)


def without_signature(route: Route, host: bytes, scheme: bytes) -> tuple[bytes, Signature | None] | None:
    """The redirect for a browser that has opened a valid signed address, and the signature for its cookie.

    None for a cookie means that the next address sets it. None for all: this address is not signed.
    """
    if route.signature is None:
        enter = _ENTER.search(route.target)
        if enter is None or route.form is not AddressForm.HOST:
            return None
        # With host and scheme: a target like `//other.test/` alone would lead there.
        return b"%b://%b%b" % (scheme, host, route.target[: enter.start()]), _signature(enter[1])
    if route.form is AddressForm.URI and route.unsigned is not None:
        return route.unsigned.prefix + route.target, route.signature
    if route.form is AddressForm.HOST:
        separator = b"&" if b"?" in route.target else b"?"
        name = b"%b-%d.%b" % (route.id, route.port, host.partition(b".")[2])
        code = b"%b-%b" % (route.signature.expires, route.signature.value)
        return b"%b://%b%b%b%b%b" % (scheme, name, route.target, separator, ENTER, code), None
    return None


def entering(route: Route) -> Signature | None:
    """The signature in the query of an address of the host form that a signed link has led to, or None."""
    if route.form is not AddressForm.HOST or route.signature is not None:
        return None
    enter = _ENTER.search(route.target)
    return None if enter is None else _signature(enter[1])


def access_cookie(id: bytes, port: int, signature: Signature, now: float, *, secure: bool) -> bytes:
    """The Set-Cookie value of the link cookie, valid where and as long as the signature is."""
    left = min(LIFETIME, max(0, int(signature.expires, 36) - int(now)))
    pair = b"%b=%b-%b" % (_access_name(id, port, secure=secure), signature.expires, signature.value)
    return b"%b; Max-Age=%d; Path=/; HttpOnly; SameSite=Lax%b" % (pair, left, b"; Secure" if secure else b"")


def last_cookie(prefix: bytes, *, secure: bool) -> bytes:
    """The value of Set-Cookie that remembers under which prefix a browser was last."""
    pair = b"%b%b=%b" % (LOCKED if secure else b"", LAST, prefix)
    return b"%b; Path=/; HttpOnly; SameSite=Lax%b" % (pair, b"; Secure" if secure else b"")


def signatures(cookies: bytes | None, id: bytes, port: int, *, secure: bool) -> list[Signature]:
    """The signatures that a request's cookies hold for this sandbox and port, at most a few.

    Over TLS only those under the name that other hosts cannot set.
    """
    values = cookie_values(cookies, _access_name(id, port, secure=secure))
    return [_signature(value) for value in values if _SIGNED.fullmatch(value)]


def last_prefixes(cookies: bytes | None) -> list[bytes]:
    """The prefixes that the browser was under last, by its cookies, the surest first."""
    return cookie_values(cookies, LOCKED + LAST) + cookie_values(cookies, LAST)


def _access_name(id: bytes, port: int, *, secure: bool) -> bytes:
    return b"%b%b%b-%d" % (LOCKED if secure else b"", ACCESS, id, port)


def _signature(code: bytes) -> Signature:
    expires, _, value = code.partition(b"-")
    return Signature(expires, value)
