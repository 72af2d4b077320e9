"""`/sandboxes/{id}/diagnostics`: as text for people; with `scope`, in the descriptor clients read."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from manager.api.call import Call, NoBody, NoQuery, json_answer
from manager.api.schemas.diagnostics import DiagnosticsView, EventsQuery, LogsQuery, SummaryQuery
from manager.domain.errors import Invalid
from manager.services.diagnostics import Text, parse_since

SCOPE_UNSUPPORTED = "DIAGNOSTICS_SCOPE_UNSUPPORTED"

_SCOPES = {"logs": ("container", "all"), "events": ("runtime", "all")}
_SCOPED_LINES = {"logs": 100, "events": 50}
_DEPRECATED = {"Deprecation": "true"}


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
    lines = await call.services.diagnostics.follow(call.sandbox_id(), call.query.tail)
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"})
    await response.prepare(call.request)
    try:
        async for line in lines:
            await response.write(line)
    except ConnectionResetError:
        return response  # the reader has left; nobody is there to be told
    await response.write_eof()
    return response


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
