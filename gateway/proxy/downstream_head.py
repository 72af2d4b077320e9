"""The heads of responses as sent to clients: which lines are removed and added, by address form."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gateway.addressing import path_prefix, signed_links
from gateway.addressing.routing import AddressForm, Route
from gateway.http.request_head import RequestHead
from gateway.http.response_head import ResponseHead, build_response, build_rewritten

if TYPE_CHECKING:
    from gateway.proxy.admission import Admission
    from gateway.proxy.state import ServerState

_HOST = AddressForm.HOST


def final_head(
    plane: ServerState,
    admitted: Admission,
    address: Route,
    request: RequestHead,
    response: ResponseHead,
    added: bytes,
    sent_host: bytes,
) -> bytes:
    """The head of a final answer from under a path prefix. A page's says where the page is, for what it opens without a
    Referer: WebSockets."""
    if request.method == b"GET" and plane.options.rewrite_prefix and response.is_page():
        cookie = signed_links.last_cookie(address.prefix, secure=admitted.scheme == b"https")
        added += b"Set-Cookie: %b\r\n" % cookie
    return answer_head(plane, admitted, request, response, added, sent_host)


def answer_head(
    plane: ServerState,
    admitted: Admission,
    request: RequestHead | None,
    response: ResponseHead,
    added: bytes,
    sent_host: bytes,
) -> bytes:
    """The head of any answer: of a final one, an interim one, or one that switches; `added` are lines behind it.

    `sent_host` is the Host that the sandbox was sent in place of the client's, or empty: what it says of that address
    is meant for the public one.
    """
    address = admitted.address
    if address is None or request is None:
        return build_response(response, added)
    shared = address.form is not _HOST
    path = address.prefix
    if not path:
        if not sent_host:
            return build_response(response, added, shared=shared)
        return build_rewritten(response, added, partial(path_prefix.come_home, sent=sent_host), shared=shared)
    outside = admitted.outside
    if outside or (response.origin_wide and response.find(b"service-worker-allowed") is not None):
        # A worker's script may name a scope up to here, wherever it was loaded from, and no further.
        added += b"Service-Worker-Allowed: %b/\r\n" % path
    if not plane.options.rewrite_prefix:
        return build_response(response, added, shared=True)
    change = partial(path_prefix.rewrite, prefix=path, host=request.host, outside=outside, sent=sent_host)
    return build_rewritten(response, added, change)
