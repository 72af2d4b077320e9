"""An error response as one client gets it: HTML or JSON by what it accepts, readable by pages of allowed origins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.access import cors
from gateway.errors import GatewayError
from gateway.http.error_responses import prefers_html, render
from gateway.http.request_head import RequestHead

if TYPE_CHECKING:
    from gateway.proxy.state import ServerState


def error_response(
    plane: ServerState, error: GatewayError, request: RequestHead | None, request_id: bytes, *, close: bool
) -> bytes:
    """The whole response; `request` is None when none could be read."""
    lines = b"" if request is None or request.origin is None else cors.own_answer(plane, request)
    if lines and request is not None and cors.is_preflight(request):
        # A page can only read why its request is refused if it may send it.
        return cors.preflight_answer(request, lines, request_id, close=close)
    return render(
        error,
        html=prefers_html(None if request is None else request.find(b"accept")),
        head=request is not None and request.method == b"HEAD",
        request_id=request_id,
        close=close,
        added=lines,
    )
