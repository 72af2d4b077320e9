"""What stands between a parsed request and its sandbox: which address it means, whether it may enter, and whether a
browser should rather come back by another address.

Programs pass through here with a look at two fields. The detours are for people: a signed link becomes a cookie and a
clean address, `/sb/8080` gets its slash, and a page under a prefix that asks for `/static/x` is sent to its own.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from gateway.access import cors, credentials
from gateway.access.api_keys import bearer
from gateway.access.own_pages import Asker, asker
from gateway.addressing import path_prefix, signed_links, signing
from gateway.addressing.routing import AddressForm, Route, Signature
from gateway.errors import AccessDenied, ApiKeyRequired, BadRoute, TooManyGuesses
from gateway.http.error_responses import prefers_html
from gateway.http.request_head import RequestHead

if TYPE_CHECKING:
    from gateway.http.response_head import ResponseHead
    from gateway.proxy.state import ServerState
    from gateway.proxy.upstream_head import Sender
    from gateway.table import SandboxRoute

_URI = AddressForm.URI
PROXY = AddressForm.PROXY


class Redirect(Exception):
    """Raised when a browser should come back by another address; `cookies` are set on the way."""

    def __init__(self, location: bytes, cookies: tuple[bytes, ...] = ()) -> None:
        super().__init__(location)
        self.location = location
        self.cookies = cookies


class Allowed(Redirect):
    """Raised for a browser's question whether a page may send a request, when it may; `lines` say so."""

    def __init__(self, lines: bytes) -> None:
        super().__init__(b"")
        self.lines = lines


def find(plane: ServerState, request: RequestHead, scheme: bytes) -> Route | None:
    """The sandbox port that the request is for, or None when it is for the manager. Raises BadRoute, Detour."""
    if request.origin is None or not cors.is_preflight(request):
        return _find(plane, request, scheme)
    route = None
    if request.ingress_to is None and cors.names_the_routing_header(request):
        address, marked = None, True
    else:
        address = _find(plane, request, scheme)
        route = None if address is None else plane.table.get(address.id)
        marked = address is not None and cors.is_marked(route, address.port)
    lines = cors.allowed(plane, route, request.origin) if marked else b""
    if lines:
        raise Allowed(lines)
    return address or _find(plane, request, scheme)


def _find(plane: ServerState, request: RequestHead, scheme: bytes) -> Route | None:
    try:
        address = plane.router.route(request.target, request.host, request.ingress_to)
    except BadRoute:
        found = _fallback(plane, request, scheme)
        if found is None:
            raise
        return found
    if address is None or (address.form is _URI and plane.table.get(address.id) is None):
        return _fallback(plane, request, scheme) or address
    return address


def _fallback(plane: ServerState, request: RequestHead, scheme: bytes) -> Route | None:
    """The sandbox whose page has asked for something outside its prefix, going by Referer or cookie."""
    if not plane.options.referer_fallback or request.ingress_to is not None:
        return None
    referer, cookies = request.find(b"referer"), request.find(b"cookie")
    if referer is None and cookies is None:
        return None
    upgrade = request.upgrade != b""
    address = path_prefix.fallback(plane.router, request.target, request.host, referer, cookies, upgrade=upgrade)
    if address is None or plane.table.get(address.id) is None:
        return None
    if upgrade or request.find(b"service-worker") is not None:
        return address  # neither of them follows a redirect
    raise Redirect(
        address.prefix + request.target, (signed_links.last_cookie(address.prefix, secure=scheme == b"https"),)
    )


def admit(
    plane: ServerState, route: SandboxRoute, address: Route, request: RequestHead, scheme: bytes, *, trusted: bool
) -> Route:
    """The address as this sandbox reads it, if the request may enter.

    Raises AccessDenied, NoKeys, TooManyFailures, Detour.
    """
    if route.access is None:
        return address if address.unsigned is None else address.unsigned
    now = time.time()
    request.may_be_framed = False
    signature = (signed_links.entering(address) if plane.options.link_cookies else None) or address.signature
    held: list[Signature] = []
    if plane.options.link_cookies and request.has_our_cookies and request.token is None and signature is None:
        held = _held(plane, address, request, scheme, trusted=trusted)
    used = credentials.check(
        route.access,
        plane.keyring,
        address.id,
        address.port,
        request.token,
        signature,
        now,
        method=request.method,
        target=address.target,
        throttle=plane.throttle,
        cookies=held,
    )
    request.key = None if used is None else signing.key_id(used)
    if plane.options.link_cookies and request.token is None and _is_person(request):
        _leave_signature(address, request, scheme, now)
    return address


def _held(plane: ServerState, address: Route, request: RequestHead, scheme: bytes, *, trusted: bool) -> list[Signature]:
    """The signatures in the cookies, if they count for who sends this. Raises AccessDenied when they do not."""
    secure = scheme == b"https"
    found = signed_links.signatures(request.find(b"cookie"), address.id, address.port, secure=secure)
    if found:
        host = request.host
        if trusted and request.forwarded:
            host = request.forwarded.get(b"x-forwarded-host", host)
        by = asker(plane.router, request, address, scheme, host)
        if by is Asker.OTHER:
            raise AccessDenied(_FOREIGN)
        request.may_be_framed = by is Asker.PERSON_OR_FRAME
    return found


_FOREIGN = (
    "The cookie of a signed link lets in people who open an address, and what a page of this very port asks for. "
    "Open the link, or send the token in the OpenSandbox-Secure-Access header."
)
_REFERRER = b"Referrer-Policy: same-origin\r\n"
_UNFRAMED = b"Content-Security-Policy: frame-ancestors 'self'\r\n"
_STRICT_REFERRERS = (b"no-referrer", b"same-origin")


def guard(address: Route, request: RequestHead, response: ResponseHead) -> bytes:
    """Lines behind the answer to a request that a signature has let in.

    An address that holds a signature must not travel on to other sites as their Referer, of which in the host form even
    the origin gives it away. The last policy counts.
    """
    if request.may_be_framed:
        return _UNFRAMED
    if address.form is AddressForm.HEADER or (address.signature is None and signed_links.entering(address) is None):
        return b""
    own = response.find(b"referrer-policy")
    return b"" if own is not None and own.lower() in _STRICT_REFERRERS else _REFERRER


def _is_person(request: RequestHead) -> bool:
    """Whether a browser asks for a page, going by what it says it would like."""
    return request.method == b"GET" and not request.upgrade and prefers_html(request.find(b"accept"))


def _leave_signature(address: Route, request: RequestHead, scheme: bytes, now: float) -> None:
    step = signed_links.without_signature(address, request.host, scheme)
    if step is None:
        return
    location, signature = step
    secure = scheme == b"https"
    cookies: list[bytes] = []
    if signature is not None:
        cookies.append(signed_links.access_cookie(address.id, address.port, signature, now, secure=secure))
    clean = address.unsigned
    if clean is not None:
        cookies.append(signed_links.last_cookie(clean.prefix, secure=secure))
    raise Redirect(location, tuple(cookies))


def check_key(plane: ServerState, request: RequestHead, client: Sender) -> str | None:
    """The name of the key that the request holds, where that key sees only what was made with it; None for another.

    The key is noted in the request. Raises ApiKeyRequired unless it holds a key of our API that may change things, and
    TooManyGuesses.
    """
    sent = [request.find(b"open-sandbox-api-key"), bearer(request.authorization)]
    if not any(sent):
        raise ApiKeyRequired
    key = plane.own_keys.opening(sent)
    caller = plane.trusted.caller(client.peer, request.forwarded, trusted=client.trusted)
    wait = plane.guesses.attempt(caller.decode("latin-1"), key, plane.clock())
    if wait:
        raise TooManyGuesses(retry_after=math.ceil(wait))
    if key is None:
        raise ApiKeyRequired
    request.own_key = key
    return plane.own_keys.viewer(key)


def with_slash(plane: ServerState, address: Route, request: RequestHead, scheme: bytes) -> None:
    """Raises Detour for a browser that asks for a prefix without the slash behind it."""
    if not plane.options.rewrite_prefix:
        return
    location = path_prefix.slash_redirect(request.target, address.prefix)
    if location is not None and _is_person(request):
        raise Redirect(location, (signed_links.last_cookie(address.prefix, secure=scheme == b"https"),))
