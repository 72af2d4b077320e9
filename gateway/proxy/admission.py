"""Admission: which address a request means, whether it may enter, and whether a browser should come back by another.

Programs pass through here with a look at two fields. The redirects are for people: a signed link becomes a cookie and a
clean address, `/sb/8080` gets its slash, and a page under a prefix that asks for `/static/x` is sent to its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from gateway import signing
from gateway.access import cors, credentials
from gateway.access.api_keys import bearer
from gateway.addressing import path_prefix, signed_links
from gateway.addressing.own_pages import Asker, asker
from gateway.addressing.routing import AddressForm, Route
from gateway.errors import (
    AccessDenied,
    ApiKeyRequired,
    BadRoute,
    BodyTooLarge,
    GatewayError,
    SandboxBusy,
    SandboxNotFound,
    TooManyGuesses,
)
from gateway.http.error_responses import prefers_html
from gateway.http.forwarded import effective_scheme
from gateway.http.request_head import RequestHead
from gateway.metrics import FORM_API, FORM_NONE
from gateway.proxy.resolve import for_state
from gateway.signing import Signature
from gateway.table import RouteState

if TYPE_CHECKING:
    from gateway.http.response_head import ResponseHead
    from gateway.proxy.client import Client
    from gateway.proxy.state import ServerState
    from gateway.table import SandboxRoute

_URI = AddressForm.URI
PROXY = AddressForm.PROXY
_RUNNING = RouteState.RUNNING


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


class Wait(Exception):
    """Raised when something has to happen first; once `work` is done, the request is to be admitted anew."""

    def __init__(self, work: Coroutine[Any, Any, object]) -> None:
        super().__init__()
        self.work = work


class Admission:
    """What is decided about each request of one client connection, and in which order.

    After `admit` the attributes hold the decision about that request. One object serves all requests of a connection,
    since a new one for each would cost what it saves.
    """

    __slots__ = (
        "_client",
        "_found",
        "_lacks_slash",
        "_method",
        "_plane",
        "_request",
        "address",
        "changes_answers",
        "form",
        "keep_prefix",
        "keys",
        "may_be_framed",
        "outside",
        "scheme",
    )

    def __init__(self, plane: ServerState, client: Client) -> None:
        self._plane = plane
        self._client = client
        # The last head whose address was found, and that address. A client that repeats its head gets the same object
        # with the same method object, and any other request has a method object of its own (RequestReader.read).
        self._request: RequestHead | None = None
        self._method = b""
        self._found: Route | None = None
        self._lacks_slash = False
        """Whether it asks for a prefix without the slash behind it."""
        self.address: Route | None = None
        """The sandbox port it is for, as that sandbox reads it; None when it is for our own API."""
        self.form = FORM_NONE
        """By which way it is addressed, as an index of `metrics.FORMS`."""
        self.keys: tuple[bytes, ...] = ()
        """What let it in and may be taken back: the id of the key that has signed its address, a key of our API."""
        self.keep_prefix = False
        """Whether the sandbox is to see the public path prefix."""
        self.changes_answers = False
        """Whether answers to it are changed for more than their framing, whatever is in them."""
        self.outside = False
        """Whether the request is for a path outside the prefix: its sandbox was found by Referer or cookie."""
        self.may_be_framed = False
        """Whether a cookie let it in and nobody knows whether a frame of another page shows what is answered."""
        self.scheme = b""
        """What the client itself speaks, in front of any proxy that we trust."""

    def admit(self, request: RequestHead) -> SandboxRoute:
        """The route that the request may use; `address` is None for that of our own API.

        Raises GatewayError when it is refused, Redirect, and Wait. The order decides who learns what: nobody hears of
        a sandbox before he may know of it, and of its state only who may enter it.
        """
        plane = self._plane
        route: SandboxRoute | None
        self.keys = ()
        if request is self._request and request.method is self._method:
            self.address = address = self._found
        else:
            self.address = address = self._locate(request)
        if address is None:
            if plane.api is None:
                raise SandboxNotFound("This is not the address of a sandbox.")
            return plane.api
        if plane.options.proxy_needs_key and address.form is PROXY:
            route = self._route_for_key(request, address)
        else:
            route = plane.table.get(address.id)
            if route is None:
                raise self._absent(address, None)
        if route.access is not None:
            self._check_credentials(route.access, address, request)
        elif address.unsigned is not None:
            # An open sandbox asks for no signature: what looks like one belongs to its application's path.
            self.address = address = address.unsigned
        if address.prefix:
            kept = route.keep_prefix
            self.keep_prefix = bool(kept) and (address.port in kept or 0 in kept)
            if self._lacks_slash and not self.keep_prefix:
                self._add_slash(address, request)
        if route.state is not _RUNNING:
            self._look_at_state(route, address)
        limits = plane.limits
        if len(route.live) >= limits.max_sandbox_exchanges:
            raise SandboxBusy
        if request.length and 0 < limits.max_body_bytes < request.length:
            raise BodyTooLarge
        if route.quota is not None:
            # Last, since it counts the request: one that is refused for another reason uses nothing up.
            now = plane.clock()
            route.quota.admit(address.port, request.method, address.target, request.length, route.open, now)
        return route

    def decline(self, request: RequestHead) -> None:
        """The request is refused before anybody looks where it goes; of one like the last this is known."""
        self.address = None
        self.keys = ()
        if request is not self._request or request.method is not self._method:
            self.forget()

    def forget(self) -> None:
        """Lets the last request go."""
        self._request = self._found = None
        self._method = b""
        self.form = FORM_NONE

    def cors_lines(self, origin: bytes) -> bytes:
        """The lines that let a page of this origin read an answer of our own to the request."""
        found, rule = self._found, None
        if found is not None:
            route = self._plane.table.get(found.id)
            rule = None if route is None else route.cors
        return cors.readable(self._plane.options.cors_origins, rule, origin)

    # Where is it for?

    def _locate(self, request: RequestHead) -> Route | None:
        """Finds the address and remembers it. Raises BadRoute, Redirect."""
        plane = self._plane
        # Should it raise, nothing is known of this request.
        self.address = self._request = self._found = None
        self.form = FORM_NONE
        self.keep_prefix = self.outside = False
        self.changes_answers = plane.amends_answers
        self.scheme = effective_scheme(self._client.peer, request.forwarded)
        if request.origin is not None and cors.is_preflight(request):
            address = self._answer_preflight(request, request.origin)
        else:
            address = self._find(request)
        if address is not None:
            self.form = address.form.value
            self.changes_answers |= address.prefix != b""
            self._lacks_slash = path_prefix.slash_redirect(request.target, address.prefix) is not None
        elif plane.api is not None:
            self.form = FORM_API
        self._request, self._method, self._found = request, request.method, address
        return address

    def _answer_preflight(self, request: RequestHead, origin: bytes) -> Route | None:
        """The address of a preflight that is the sandbox's business; raises Allowed where we answer that it may."""
        rule: cors.CorsRule | None = None
        if request.ingress_to is None and cors.names_the_routing_header(request):
            address, marked = None, True
        else:
            address = self._find(request)
            route = None if address is None else self._plane.table.get(address.id)
            rule = None if route is None else route.cors
            marked = address is not None and cors.is_marked(rule, address.port)
        lines = cors.allowed(self._plane.options.cors_origins, rule, origin) if marked else b""
        if lines:
            raise Allowed(lines)
        return address or self._find(request)

    def _find(self, request: RequestHead) -> Route | None:
        plane = self._plane
        try:
            address = plane.router.route(request.target, request.host, request.ingress_to)
        except BadRoute:
            found = self._fallback(request)
            if found is None:
                raise
            return found
        if address is None or (address.form is _URI and plane.table.get(address.id) is None):
            return self._fallback(request) or address
        return address

    def _fallback(self, request: RequestHead) -> Route | None:
        """The sandbox whose page has asked for something outside its prefix, going by Referer or cookie."""
        plane = self._plane
        if not plane.options.referer_fallback or request.ingress_to is not None:
            return None
        referer, cookies = request.find(b"referer"), request.find(b"cookie")
        if referer is None and cookies is None:
            return None
        upgrade = request.upgrade != b""
        address = path_prefix.fallback(plane.router, request.target, request.host, referer, cookies, upgrade=upgrade)
        if address is None or plane.table.get(address.id) is None:
            return None
        self.outside = True
        if upgrade or request.find(b"service-worker") is not None:
            return address  # neither of them follows a redirect
        raise Redirect(address.prefix + request.target, (self._last_cookie(address),))

    # May it enter?

    def _absent(self, address: Route, viewer: str | None) -> GatewayError | Wait:
        """What to raise where there is no route: a refusal, or to wait while nobody knows yet what there is."""
        resolving = self._plane.resolving
        if self._plane.table.synced:
            return resolving.missing(address.id, viewer)
        return Wait(resolving.resolve(address.id, viewer))

    def _route_for_key(self, request: RequestHead, address: Route) -> SandboxRoute:
        """The route that the key of the request may use. Raises as `admit`."""
        # Before the table is looked at: who has no key must not learn from the answer which sandboxes there are.
        viewer = self._identify(request)
        route = self._plane.table.get(address.id)
        if route is None:
            raise self._absent(address, viewer)
        if viewer is not None and route.owner != viewer:
            # The same answer as for an id that does not exist, hence before everything that depends on the route.
            raise SandboxNotFound
        return route

    def _identify(self, request: RequestHead) -> str | None:
        """The name of the key that the request holds, if that key sees only what was made with it; None for another.

        Raises ApiKeyRequired unless it holds a key of our API that may change things, and TooManyGuesses.
        """
        plane = self._plane
        sent = [request.find(b"open-sandbox-api-key"), bearer(request.authorization)]
        if not any(sent):
            raise ApiKeyRequired
        key = plane.own_keys.opening(sent)
        caller = plane.trusted.caller(self._client.peer, request.forwarded)
        wait = plane.guesses.attempt(caller.decode("latin-1"), key, plane.clock())
        if wait:
            raise TooManyGuesses(retry_after=math.ceil(wait))
        if key is None:
            raise ApiKeyRequired
        self.keys = (key,)
        return plane.own_keys.viewer(key)

    def _check_credentials(self, rule: credentials.AccessRule, address: Route, request: RequestHead) -> None:
        """Raises AccessDenied, NoKeys, TooManyFailures unless it may enter; Redirect for a person who need not sign."""
        plane = self._plane
        link_cookies = plane.options.link_cookies
        now = time.time()
        self.may_be_framed = False
        signature = (signed_links.entering(address) if link_cookies else None) or address.signature
        held: list[Signature] = []
        if link_cookies and request.has_our_cookies and request.token is None and signature is None:
            held = self._held(address, request)
        used = credentials.check(
            rule,
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
        if used is not None:
            self.keys += (signing.key_id(used),)
        if link_cookies and request.token is None and _is_person(request):
            self._leave_signature(address, request, now)

    def _held(self, address: Route, request: RequestHead) -> list[Signature]:
        """The signatures in the cookies, if they count for who sends this. Raises AccessDenied when they do not."""
        secure = self.scheme == b"https"
        found = signed_links.signatures(request.find(b"cookie"), address.id, address.port, secure=secure)
        if found:
            host = request.host
            if self._client.peer.trusted and request.forwarded:
                host = request.forwarded.get(b"x-forwarded-host", host)
            by = asker(self._plane.router, request, address, self.scheme, host)
            if by is Asker.OTHER:
                raise AccessDenied(_FOREIGN)
            self.may_be_framed = by is Asker.PERSON_OR_FRAME
        return found

    def _look_at_state(self, route: SandboxRoute, address: Route) -> None:
        """Raises what refuses a request for a sandbox that does not run, or Wait while it is woken."""
        if route.state is RouteState.PAUSED and route.wakes:
            raise Wait(self._plane.resolving.wake(address.id))
        refusal = for_state(route.state)
        if refusal is not None:
            raise refusal

    # Should a browser come back by another address?

    def _leave_signature(self, address: Route, request: RequestHead, now: float) -> None:
        step = signed_links.without_signature(address, request.host, self.scheme)
        if step is None:
            return
        location, signature = step
        cookies: list[bytes] = []
        if signature is not None:
            secure = self.scheme == b"https"
            cookies.append(signed_links.access_cookie(address.id, address.port, signature, now, secure=secure))
        if address.unsigned is not None:
            cookies.append(self._last_cookie(address.unsigned))
        raise Redirect(location, tuple(cookies))

    def _add_slash(self, address: Route, request: RequestHead) -> None:
        """Raises Redirect for a browser that asks for a prefix without the slash behind it."""
        if not self._plane.options.rewrite_prefix:
            return
        location = path_prefix.slash_redirect(request.target, address.prefix)
        if location is not None and _is_person(request):
            raise Redirect(location, (self._last_cookie(address),))

    def _last_cookie(self, address: Route) -> bytes:
        return signed_links.last_cookie(address.prefix, secure=self.scheme == b"https")

    def guard(self, address: Route, response: ResponseHead) -> bytes:
        """Lines behind the answer to a request that a signature has let in.

        An address that holds a signature must not travel on to other sites as their Referer, of which in the host form
        even the origin gives it away. The last policy counts.
        """
        if self.may_be_framed:
            return _UNFRAMED
        if address.form is AddressForm.HEADER or (address.signature is None and signed_links.entering(address) is None):
            return b""
        own = response.find(b"referrer-policy")
        return b"" if own is not None and own.lower() in _STRICT_REFERRERS else _REFERRER


def _is_person(request: RequestHead) -> bool:
    """Whether a browser asks for a page, going by what it says it would like."""
    return request.method == b"GET" and not request.upgrade and prefers_html(request.find(b"accept"))


_FOREIGN = (
    "The cookie of a signed link lets in people who open an address, and what a page of this very port asks for. "
    "Open the link, or send the token in the OpenSandbox-Secure-Access header."
)
_REFERRER = b"Referrer-Policy: same-origin\r\n"
_UNFRAMED = b"Content-Security-Policy: frame-ancestors 'self'\r\n"
_STRICT_REFERRERS = (b"no-referrer", b"same-origin")
