"""`GET /events`: what has happened to sandboxes, as a list, or as it happens where `Accept` asks for an event stream.

A stream without `Last-Event-ID` and `since`, or with a number after which something is no longer kept, begins with a
`snapshot` for each sandbox that exists and `synced`; then comes an `event` for each change. One that falls too far
behind is told so by `dropped`, and ends: the reader begins anew.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from manager.api.call import Call, NoBody, json_answer
from manager.api.handlers.events import HEADERS, HEARTBEAT, HEARTBEAT_SECONDS, SLICE, sse_event
from manager.api.schemas.events import EventList, EventQuery, EventView
from manager.domain.codes import INVALID_PARAMETER
from manager.domain.errors import Invalid, Unavailable
from manager.domain.events import document
from manager.domain.ownership import sees
from manager.domain.sandbox import Sandbox

BEHIND = 10_000
"""Events by which a reader may be behind."""
WRITE_SECONDS = 30.0
"""For so long a reader may take nothing at all; its connection is closed then."""
STREAM = "text/event-stream"


async def events(call: Call[EventQuery, NoBody]) -> web.StreamResponse:
    """Lists what has happened to sandboxes, oldest first, or streams it."""
    if STREAM in call.request.headers.get("Accept", ""):
        return await _stream(call)
    query = call.query
    found = await call.services.events.since(query.since or 0, query.limit, call.viewer, query.sandbox)
    views = [EventView.model_validate(document(event, call.viewer)) for event in found]
    last = found[-1].number(call.viewer) if found else query.since or 0
    return json_answer(EventList(items=views, next=last))


async def _stream(call: Call[EventQuery, NoBody]) -> web.StreamResponse:
    seen = _seen(call)
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(call.request)
    if call.request.method == "HEAD":
        return response
    try:
        await _Reader(call, response).run(seen)
    except (ConnectionResetError, TimeoutError):
        if call.request.transport is not None:
            call.request.transport.abort()  # it reads nothing, so it cannot be told
        return response
    except Unavailable as error:
        await response.write(sse_event("dropped", json.dumps({"reason": error.message})))
    await response.write_eof()
    return response


class _Reader:
    """One stream."""

    def __init__(self, call: Call[EventQuery, NoBody], response: web.StreamResponse) -> None:
        self._call = call
        self._response = response
        self._viewer = call.viewer
        self._sandbox = call.query.sandbox
        self._events, self._inventory = call.services.events, call.services.inventory

    async def run(self, seen: int | None) -> None:
        """Until the server stops, the reader leaves or falls behind, or its key is taken away."""
        number = seen if seen is not None and await self._events.knows(seen, self._viewer) else None
        if number is None:
            number = await self._snapshot()
        while not self._events.closed and self._call.is_welcome:
            if self._events.count(self._viewer) - number > BEHIND:
                reason = f"more than {BEHIND} events behind; begin anew"
                await self._write(sse_event("dropped", json.dumps({"reason": reason})))
                return
            mark, count = self._events.last, self._events.count(self._viewer)
            found = await self._events.since(number, SLICE, self._viewer, self._sandbox)
            for event in found:
                told = json.dumps(document(event, self._viewer))
                await self._write(sse_event("event", told, str(event.number(self._viewer))))
            number = found[-1].number(self._viewer) if len(found) == SLICE else max(number, count)
            if len(found) < SLICE and not await self._events.wait(mark, HEARTBEAT_SECONDS):
                await self._write(HEARTBEAT)

    async def _snapshot(self) -> int:
        """Everything that exists; what changes meanwhile comes after it. Returns the number to go on from."""
        count, ids = self._events.count(self._viewer), self._inventory.ids_newest_first()
        for start in range(0, len(ids), SLICE):
            boxes = (self._inventory.get(name) for name in ids[start : start + SLICE])
            shown = [box for box in boxes if box is not None and self._concerns(box)]
            told = (json.dumps({"sandboxId": box.id, "state": box.status.state.value}) for box in shown)
            await self._write(b"".join(sse_event("snapshot", text) for text in told))
        await self._write(sse_event("synced", "{}", str(count)))
        return count

    def _concerns(self, box: Sandbox) -> bool:
        return sees(self._viewer, box.owner) and self._sandbox in (None, box.id)

    async def _write(self, data: bytes) -> None:
        if data:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._response.write(data)


def _seen(call: Call[EventQuery, NoBody]) -> int | None:
    """The number after which the reader wants to go on. Raises Invalid."""
    last = call.request.headers.get("Last-Event-ID")
    if last is None:
        return call.query.since
    if not (last.isascii() and last.isdigit() and len(last) < 16):
        raise Invalid(INVALID_PARAMETER, f"Last-Event-ID: must be the id of an event, got {last[:40]!r}")
    return int(last)
