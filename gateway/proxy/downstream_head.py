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
    plane: ServerState, admitted: Admission, address: Route, request: RequestHead, response: ResponseHead, added: bytes
) -> bytes:
    """The head of a final answer from under a path prefix. A page's says where the page is, for what it opens without a
    Referer: WebSockets."""
    if request.method == b"GET" and plane.options.rewrite_prefix and response.is_page():
        cookie = signed_links.last_cookie(address.prefix, secure=admitted.scheme == b"https")
        added += b"Set-Cookie: %b\r\n" % cookie
    return answer_head(plane, admitted, request, response, added)


def answer_head(
    plane: ServerState, admitted: Admission, request: RequestHead | None, response: ResponseHead, added: bytes
) -> bytes:
    """The head of any answer: of a final one, an interim one, or one that switches; `added` are lines behind it."""
    address = admitted.address
    if address is None or request is None or address.form is _HOST:
        return build_response(response, added)
    path = address.prefix
    if not path:
        return build_response(response, added, shared=True)
    outside = admitted.outside
    if outside or (response.origin_wide and response.find(b"service-worker-allowed") is not None):
        # A worker's script may name a scope up to here, wherever it was loaded from, and no further.
        added += b"Service-Worker-Allowed: %b/\r\n" % path
    if not plane.options.rewrite_prefix:
        return build_response(response, added, shared=True)
    change = partial(path_prefix.rewrite, prefix=path, host=request.host, outside=outside)
    return build_rewritten(response, added, change)
