"""The heads that one client connection sends upstream: which lines are forwarded, and which are added.

A head is built from the request and from what the connection is (peer, scheme). A client that repeats its request to
the byte gets the same head again but for the request id, so the last one is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.addressing.path_prefix import same_host
from gateway.errors import BadRequest
from gateway.http.fields import HOST, ORIGIN
from gateway.http.forwarded import chained_lines, effective_scheme, forwarded_lines, standard_line
from gateway.http.request_head import RequestHead, build_request
from gateway.http.request_ids import ENDING, ENDINGS

if TYPE_CHECKING:
    from gateway.addressing.routing import Route
    from gateway.proxy.client import Client
    from gateway.proxy.state import ServerState
    from gateway.upstream.pool import Pool

_ONCE = (b"content-type", b"user-agent", b"content-location", b"content-range", b"etag", b"max-forwards", b"server")
"""Lines of which the API's own parser takes one each, beside those that `framing` takes one of from everybody."""


def _clean_prefix(address: Route) -> bytes:
    """The public path prefix without a signature, which is meant for us."""
    return address.prefix if address.unsigned is None else address.unsigned.prefix


def _whole_path(request: RequestHead, address: Route) -> bytes:
    """The public path as the client wrote it, less a signature: a program that knows its path tells `/a` from `/a/`."""
    found = request.target.startswith(address.prefix)
    rest = request.target[len(address.prefix) :] if found else address.target
    return _clean_prefix(address) + rest


class Outgoing:
    """Builds the heads of one client connection's requests."""

    __slots__ = ("_address", "_client", "_head", "_host", "_ids", "_lines", "_plane", "_pool", "id_count")

    def __init__(self, plane: ServerState, client: Client) -> None:
        self._plane = plane
        self._ids = plane.ids
        self._client = client
        # The X-Forwarded lines for the Host they were made for.
        self._host = b""
        self._lines = b""
        # The last head, without request id and end, once it was needed twice. It is for this very address object: a
        # repeated request keeps its address, any other gets a new one.
        self._address: Route | None = None
        self._pool: Pool | None = None
        self._head = b""
        self.id_count = 0
        """The number of the id made for the last request, or 0 when it brought its own."""

    def to_sandbox(self, request: RequestHead, address: Route, pool: Pool, keep_prefix: bool) -> bytes:
        """The whole head for a sandbox port; `keep_prefix` leaves the public path as it is."""
        if address is self._address and pool is self._pool and self._head:
            head = self._head
        else:
            head = self._build(request, address, pool, keep_prefix=keep_prefix)
        if request.request_id is not None:
            return head + b"\r\n"
        ids = self._ids
        ids.count = self.id_count = count = ids.count + 1
        if count > ids.last_of_page:
            ids.turn_page()
        return head + ids.line + ENDINGS[count & ENDING]

    def forget(self) -> None:
        """Lets the remembered head go."""
        self._address = None
        self._pool = None
        self._head = b""

    def _build(self, request: RequestHead, address: Route, pool: Pool, *, keep_prefix: bool) -> bytes:
        target = address.target
        if keep_prefix:
            target = _whole_path(request, address)
        if pool.prefix:
            target = pool.prefix + target
        if pool.host or request.authorization is not None:
            # Depends on what may change between two requests: not kept.
            self._address = None
            return build_request(request, target, self._selected(request, pool), self._forwarding(request, address))
        lines = self._plane.own_keys.without(request.passing())
        head = build_request(request, target, lines, self._forwarding(request, address))
        self._head = head if address is self._address and pool is self._pool else b""
        self._address, self._pool = address, pool
        return head

    def _selected(self, request: RequestHead, pool: Pool) -> bytes:
        """The client's lines where it depends on the settings which of them travel on."""
        keys = self._plane.own_keys
        if not pool.host:
            return keys.without(request.passing())
        if pool.moves_origin and self._is_public(request):
            lines = keys.without(request.passing_without(HOST, ORIGIN))
            return b"Host: %b\r\nOrigin: http://%b\r\n%b" % (pool.host, pool.host, lines)
        return b"Host: %b\r\n%b" % (pool.host, keys.without(request.passing_without(HOST)))

    def _is_public(self, request: RequestHead) -> bool:
        """Whether the Origin is the address that the request was sent to, as its client sees it."""
        scheme, _, authority = (request.origin or b"").lower().partition(b"://")
        host, sent = request.host, request.forwarded
        if self._client.peer.trusted and sent:
            host = sent.get(b"x-forwarded-host", host)
        return scheme == effective_scheme(self._client.peer, sent) and same_host(authority, host, scheme)

    def _forwarding(self, request: RequestHead, address: Route) -> bytes:
        """The lines that say where the request comes from."""
        prefix = _clean_prefix(address)
        if self._client.peer.trusted and request.forwarded:
            lines = self._chained(request)
            prefix = request.forwarded.get(b"x-forwarded-prefix", b"") + prefix
        else:
            if request.host != self._host or not self._lines:
                self._host = request.host
                self._lines = self._own(request.host)
            lines = self._lines
        return b"%bX-Forwarded-Prefix: %b\r\n" % (lines, prefix) if prefix else lines

    def _own(self, host: bytes) -> bytes:
        peer = self._client.peer
        lines = forwarded_lines(peer.address, peer.scheme, host)
        if self._plane.options.standard_forwarded:
            lines += standard_line(peer.address, peer.scheme, host, None)
        return lines

    def _chained(self, request: RequestHead) -> bytes:
        peer, sent = self._client.peer, request.forwarded or {}
        lines = chained_lines(peer.address, peer.scheme, request.host, sent)
        if self._plane.options.standard_forwarded:
            lines += standard_line(peer.address, peer.scheme, request.host, sent.get(b"forwarded"))
        return lines

    def to_application(self, request: RequestHead, scheme: bytes) -> bytes:
        """The whole head for our own API: it alone sees credentials, and learns peer and scheme from us only.

        `scheme` is what the client itself speaks.
        Raises BadRequest for a line that may be there once: which of the two is meant nobody can say.
        """
        names = [line.partition(b":")[0].lower() for line in request.lines]
        if len(names) != len(set(names)) and (twice := [name for name in _ONCE if names.count(name) > 1]):
            raise BadRequest(f"The header {twice[0].decode()} is there more than once.")
        caller = self._plane.trusted.caller(self._client.peer, request.forwarded)
        lines = b"X-Gateway-Peer: %b\r\nX-Gateway-Scheme: %b\r\n" % (caller, scheme)
        if request.request_id is None:
            self.id_count = self._ids.take()
            lines += b"X-Request-ID: %b\r\n" % self._ids.of(self.id_count)
        return build_request(request, request.target, request.passing_to_us(), lines) + b"\r\n"

    def request_id(self, request: RequestHead | None) -> bytes:
        """The id of the request being served: its own, the one made for it, or one made now."""
        if request is not None and request.request_id is not None:
            return request.request_id
        if not self.id_count:
            self.id_count = self._ids.take()
        return self._ids.of(self.id_count)
