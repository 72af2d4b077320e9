"""An error response as one client gets it: HTML or JSON by what it accepts, readable by pages of allowed origins."""

from __future__ import annotations

from gateway.access import cors
from gateway.errors import GatewayError
from gateway.http.error_responses import prefers_html, render
from gateway.http.request_head import RequestHead


def error_response(
    error: GatewayError, request: RequestHead | None, request_id: bytes, *, close: bool, cors_lines: bytes = b""
) -> bytes:
    """The whole response; `request` is None when none could be read.

    `cors_lines` let a page of another origin read it.
    """
    if cors_lines and request is not None and cors.is_preflight(request):
        # A page can only read why its request is refused if it may send it.
        return cors.preflight_answer(request, cors_lines, request_id, close=close)
    return render(
        error,
        html=prefers_html(None if request is None else request.find(b"accept")),
        head=request is not None and request.method == b"HEAD",
        request_id=request_id,
        close=close,
        added=cors_lines,
    )
