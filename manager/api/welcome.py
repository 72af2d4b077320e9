"""The page for a browser that opens the server's bare address: where to go from there, and nothing of the server."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from manager.api.reference import SECURITY_POLICY

_PAGE: Final = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>OpenSandbox gateway</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>:root { color-scheme: light dark; } body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem;
margin: 2rem auto; padding: 0 1rem; }</style>
<h1>OpenSandbox gateway</h1>
<p>The server runs. Programs use its API with a key in <code>OPEN-SANDBOX-API-KEY</code>:</p>
<ul>
<li><a href="/docs">The API</a>, and <a href="/openapi.json">its machine-readable form</a></li>
<li><a href="/health">Whether all is well</a></li>
</ul>
<p>Sandboxes have addresses of their own, which <code>GET /v1/sandboxes/{id}/endpoints/{port}</code> gives.</p>
</html>
"""


def welcome(request: web.Request) -> web.Response | None:
    """The page, where a browser asks for `/`; None for every other request."""
    if (
        request.path != "/"
        or request.method not in ("GET", "HEAD")
        or "text/html" not in request.headers.get("Accept", "")
    ):
        return None
    return web.Response(
        text=_PAGE, content_type="text/html", headers={"Content-Security-Policy": SECURITY_POLICY, "Vary": "Accept"}
    )
