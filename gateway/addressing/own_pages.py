"""Which page made a browser send this request? A link cookie is valid for the port's own pages and for navigations.

A browser adds a cookie to whatever any page of the same site makes it send, and all sandboxes of a wildcard domain are
one site, so `SameSite` keeps none of them apart. But it also says, in headers that no script can set, where a request
comes from:

* `Sec-Fetch-Site` (Fetch Metadata; over https and on localhost only): `same-origin`, or `none` for a person's doing;
* `Origin`: with every method but GET and HEAD, with WebSocket handshakes and with readable cross-origin requests;
* `Referer`, unless the page has switched it off. In the forms where sandboxes share an origin it has to lie under the
  port's own prefix. WebSocket handshakes have none, so there the origin has to do.

A navigation of a whole window (not of a frame) by GET is let through wherever it comes from: that is how a person
follows a link. Where the browser does not tell a frame from a window, over plain http, the answer forbids the frame.

In a shared origin this stops pages that do not try: whoever has the origin can open the other's page and use its
scripts. Only the host form keeps sandboxes apart. Pure functions on heads.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final

from gateway.addressing.path_prefix import page_of
from gateway.addressing.routing import AddressForm, Route, Router
from gateway.http.error_responses import prefers_html

if TYPE_CHECKING:
    from gateway.http.request_head import RequestHead

_READING: Final = frozenset((b"GET", b"HEAD"))
_ORIGIN: Final = re.compile(rb"(https?)://([^/?#@]+)").fullmatch
_DEFAULT_PORT: Final = {b"http": b":80", b"https": b":443"}


class Asker(enum.Enum):
    """Who makes a browser send a request."""

    OWN = enum.auto()
    """A page of the very port that it is for, or a person."""
    PERSON_OR_FRAME = enum.auto()
    """A navigation, of which the browser does not say whether a window or a frame of any page shows it."""
    OTHER = enum.auto()
    """Any other page, or unknown."""


def asker(router: Router, request: RequestHead, address: Route, scheme: bytes, host: bytes) -> Asker:
    """Who sends this request for `address`; `scheme` and `host` are what the client itself used."""
    reads = request.method in _READING and not request.upgrade
    site = request.find(b"sec-fetch-site")
    if site is not None:
        if reads and (site == b"none" or _is_window(request)):
            return Asker.OWN
        if site != b"same-origin":
            return Asker.OTHER
        return _by_page(router, request, address, host)
    origin = request.find(b"origin")
    if origin is not None:
        return _by_page(router, request, address, host) if is_origin(origin, scheme, host) else Asker.OTHER
    if not reads:
        return Asker.OTHER
    if _is_own_page(router, request, address, host):
        return Asker.OWN
    # Scripts cannot add this line to a cross-origin request without asking first, and a preflight has no cookie.
    navigates = request.find(b"upgrade-insecure-requests") == b"1" and prefers_html(request.find(b"accept"))
    return Asker.PERSON_OR_FRAME if navigates else Asker.OTHER


def is_origin(origin: bytes, scheme: bytes, host: bytes) -> bool:
    """Whether an Origin is that of the host.

    A page of http: is none of https:. The other way round a proxy that we do not know may speak TLS in front of us.
    """
    match = _ORIGIN(origin.lower())
    if match is None or (scheme == b"https" and match[1] != b"https"):
        return False
    port = _DEFAULT_PORT[match[1]]
    return match[2].removesuffix(port) == host.lower().removesuffix(port)


def _is_window(request: RequestHead) -> bool:
    return request.find(b"sec-fetch-mode") == b"navigate" and request.find(b"sec-fetch-dest") == b"document"


def _by_page(router: Router, request: RequestHead, address: Route, host: bytes) -> Asker:
    """The origin is right: in the host form that is all, elsewhere the page has to be under the prefix."""
    if address.form is AddressForm.HOST or request.upgrade or _is_own_page(router, request, address, host):
        return Asker.OWN
    return Asker.OTHER


def _is_own_page(router: Router, request: RequestHead, address: Route, host: bytes) -> bool:
    page = page_of(host, request.find(b"referer"))
    if page is None or address.form is AddressForm.HOST:
        return page is not None
    found = router.under_prefix(page)
    return found is not None and found.id == address.id and found.port == address.port
