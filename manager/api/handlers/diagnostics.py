"""`/sandboxes/{id}/diagnostics`: as text for people; with `scope`, in the descriptor clients read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from aiohttp import web

from manager.api.call import Call, NoBody, NoQuery, json_answer
from manager.api.schemas.diagnostics import DiagnosticsView, EventsQuery, LogsQuery, SummaryQuery
from manager.domain.errors import Invalid, ManagerError
from manager.runtime.base import Output
from manager.services.diagnostics import Text, parse_since

SCOPE_UNSUPPORTED = "DIAGNOSTICS_SCOPE_UNSUPPORTED"

_SCOPES = {"logs": ("container", "all"), "events": ("runtime", "all")}
_SCOPED_LINES = {"logs": 100, "events": 50}
_DEPRECATED = {"Deprecation": "true"}

_STREAM = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}

LOOK_SECONDS = 1.0
"""How often a follower of a silent sandbox is looked at: whether it is still there, and whether we stop."""

_logger = logging.getLogger(__name__)


async def logs(call: Call[LogsQuery, NoBody]) -> web.StreamResponse:
    """Shows the output of a sandbox; with `follow` as it comes."""
    query = call.query
    if query.scope is not None:
        scope = _scope("logs", query.scope)
        text = await call.services.diagnostics.logs(call.sandbox_id(), _SCOPED_LINES["logs"])
        return json_answer(_descriptor(call.sandbox_id(), "logs", scope, text))
    if query.follow:
        return await _follow(call)
    since = None if query.since is None else parse_since(query.since, datetime.now(UTC))
    text = await call.services.diagnostics.logs(call.sandbox_id(), query.tail, since)
    return web.Response(text=text.content, headers=_DEPRECATED)


async def events(call: Call[EventsQuery, NoBody]) -> web.Response:
    """Shows what happened to a sandbox."""
    query = call.query
    if query.scope is not None:
        scope = _scope("events", query.scope)
        text = await call.services.diagnostics.events(call.sandbox_id(), _SCOPED_LINES["events"])
        return json_answer(_descriptor(call.sandbox_id(), "events", scope, text))
    text = await call.services.diagnostics.events(call.sandbox_id(), query.limit)
    return web.Response(text=text.content, headers=_DEPRECATED)


async def inspect(call: Call[NoQuery, NoBody]) -> web.Response:
    """Shows what the runtime says of a sandbox, secrets masked."""
    return web.Response(text=(await call.services.diagnostics.inspect(call.sandbox_id())).content)


async def summary(call: Call[SummaryQuery, NoBody]) -> web.Response:
    """Shows inspection, events and output on one page."""
    query = call.query
    text = await call.services.diagnostics.summary(call.sandbox_id(), query.tail, query.event_limit)
    return web.Response(text=text.content)


async def _follow(call: Call[LogsQuery, NoBody]) -> web.StreamResponse:
    # The runtime's stream ends with its reader, whoever leaves first.
    with contextlib.closing(await call.services.diagnostics.follow(call.sandbox_id(), call.query.tail)) as output:
        response = web.StreamResponse(headers=_STREAM)
        await response.prepare(call.request)
        if call.request.method == "HEAD":
            return response
        try:
            while (piece := await _next(output, lambda: _is_over(call))) is not None:
                await response.write(piece)
            await response.write_eof()
        except ConnectionResetError:
            return response  # the reader has left; nobody is there to be told
        except ManagerError as error:
            _logger.info("following the output of sandbox %s broke off: %s", call.sandbox_id(), error.message)
            _cut(call.request)  # an orderly end would say that this was all
    return response


async def _next(output: Output, is_over: Callable[[], bool]) -> bytes | None:
    """The next piece; None at the end of the output, and when `is_over` says that it is not wanted any more.

    A silent sandbox tells nothing of its reader's leaving, which therefore is looked for.
    """
    piece = asyncio.ensure_future(anext(output, None))
    while not piece.done() and not is_over():
        await asyncio.wait([piece], timeout=LOOK_SECONDS)
    if piece.done():
        return piece.result()
    piece.cancel()
    return None


def _is_over(call: Call[LogsQuery, NoBody]) -> bool:
    transport = call.request.transport
    return transport is None or transport.is_closing() or call.services.journal.closed or not call.is_welcome


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _scope(kind: str, asked: str) -> str:
    scope, supported = asked.strip().lower(), _SCOPES[kind]
    if scope not in supported:
        raise Invalid(
            SCOPE_UNSUPPORTED,
            f"Unsupported {kind} diagnostics scope '{asked[:40]}'. Supported scopes: {', '.join(supported)}.",
        )
    return scope


def _descriptor(sandbox_id: str, kind: str, scope: str, text: Text) -> DiagnosticsView:
    return DiagnosticsView(
        sandbox_id=sandbox_id,
        kind=kind,
        scope=scope,
        content=text.content,
        content_length=len(text.content.encode()),
        truncated=text.truncated,
        warnings=[f"Only the {_SCOPES[kind][0]} part is available with this runtime."] if scope == "all" else None,
    )
