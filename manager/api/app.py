"""The REST application, built from the route table. It never listens: the gateway speaks to it over socket pairs."""

from __future__ import annotations

import json
from collections.abc import Callable

from aiohttp import web

from gateway.limits import Limits
from manager.api.body import MAX_BODY_BYTES, ask_later
from manager.api.call import DOCUMENT, PAGE, SCRAPE, SERVICES, read_call
from manager.api.handlers.server import server_version
from manager.api.hosts import own_hosts
from manager.api.middleware import audit, envelopes, etags, finish_head, guard
from manager.api.openapi import document
from manager.api.ownership import check_ownership
from manager.api.reference import page
from manager.api.routes import ROUTES, Route
from manager.services.wiring import Services
from manager.settings.model import Settings

KEEP_ALIVE = 3600.0
"""Seconds: the application never closes an idle pair first; the gateway's pool does."""
OUR_LINES = 8
"""Header lines that the gateway may put beside those it was sent."""


def build_app(services: Services, settings: Settings, *, scrape: Callable[[], bytes] | None = None) -> web.Application:
    """The application. `scrape` renders the metrics for `/metrics`."""
    server = settings.server
    app = web.Application(
        client_max_size=MAX_BODY_BYTES,
        middlewares=[
            envelopes,
            etags,
            audit,
            guard(services, own_hosts(settings), allow_sandbox_callers=server.allow_sandbox_callers),
        ],
    )
    app.on_response_prepare.append(finish_head)
    app[SERVICES] = services
    if scrape is not None:
        app[SCRAPE] = scrape
    description = document(ROUTES, server_version())
    app[DOCUMENT], app[PAGE] = json.dumps(description).encode(), page(description)
    for route in ROUTES:
        _serve(app, route)
    return app


def runner_of(app: web.Application, limits: Limits) -> web.AppRunner:
    """What serves the application over the gateway's socket pairs."""
    return web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        keepalive_timeout=KEEP_ALIVE,
        max_line_size=limits.max_url_bytes + 64,
        max_field_size=limits.max_head_bytes,
        max_headers=limits.max_headers + OUR_LINES,
        auto_decompress=False,
    )


def _serve(app: web.Application, route: Route) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        call = await read_call(request, *route.models)
        await check_ownership(call, route.about)
        return await route.handler(call)

    for path in route.paths:
        resource = app.router.add_resource(path)
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            resource.add_route(method, handle, expect_handler=ask_later)
