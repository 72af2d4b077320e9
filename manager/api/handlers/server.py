"""What the server says of itself: health, readiness, version; and the clients' measurements."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version

from aiohttp import web

from manager.api.call import DOCUMENT, PAGE, SCRAPE, Call, NoBody, NoQuery, json_answer
from manager.api.reference import SECURITY_POLICY
from manager.api.schemas.server import Health, MetricsEvent, Readiness, Version
from manager.domain.codes import GENERAL_NOT_FOUND
from manager.domain.errors import NotFound

DISTRIBUTION = "opensandbox-gateway"

_logger = logging.getLogger(__name__)


def server_version() -> str:
    """The version of the installed distribution."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0.0.0-dev"


async def health(call: Call[NoQuery, NoBody]) -> web.Response:
    """Says whether the server can do all of its work; the status is 200 either way, since the process is alive."""
    reason = call.services.degraded()
    return json_answer(Health(status="healthy" if reason is None else "degraded", reason=reason))


async def ready(call: Call[NoQuery, NoBody]) -> web.Response:
    """Says whether requests should be sent here: 503 while degraded or draining."""
    reason = call.services.degraded()
    if call.services.creation.draining:
        return json_answer(Readiness(status="draining", reason="the server is stopping"), 503)
    if reason is not None:
        return json_answer(Readiness(status="degraded", reason=reason), 503)
    return json_answer(Readiness(status="ready"))


async def show_version(call: Call[NoQuery, NoBody]) -> web.Response:
    """Tells the version of the server."""
    return json_answer(Version(version=server_version()))


async def metrics_event(call: Call[NoQuery, MetricsEvent]) -> web.Response:
    """Takes a client's measurement of a create."""
    event = call.body
    _logger.debug("a client's create took %d ms, success: %s", event.create_duration_ms, event.success)
    return web.Response(status=204)


async def metrics(call: Call[NoQuery, NoBody]) -> web.Response:
    """Shows every metric in the text format of Prometheus."""
    scrape = call.request.app.get(SCRAPE)
    if scrape is None:
        raise NotFound(GENERAL_NOT_FOUND, "This server renders no metrics here.")
    return web.Response(body=scrape(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def openapi(call: Call[NoQuery, NoBody]) -> web.Response:
    """Describes every operation in OpenAPI 3.1."""
    return web.Response(body=call.request.app[DOCUMENT], content_type="application/json")


async def reference(call: Call[NoQuery, NoBody]) -> web.Response:
    """Describes every operation for people."""
    headers = {"Content-Security-Policy": SECURITY_POLICY}
    return web.Response(text=call.request.app[PAGE], content_type="text/html", headers=headers)
