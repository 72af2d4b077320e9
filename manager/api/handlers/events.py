"""`GET /sandboxes/events`: every change as it happens, as server-sent events.

A stream begins with `reset`, which says "forget what you knew", then one `sandbox` event for each that exists, then
`synced`; after that come changes: `sandbox` with the whole of it, `gone` with the reason. A client that reconnects with
the id of the last event it saw gets what it missed; if that is no longer known the stream begins with `reset` again.

Everything is written in slices, since there may be thousands. What changes meanwhile comes after `synced`, also where
the slice has shown it already.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator

from aiohttp import web

from manager.api import present
from manager.api.call import Call, NoBody, NoQuery
from manager.domain.sandbox import Sandbox
from manager.services.inventory import Inventory
from manager.services.journal import Entry, Journal

HEARTBEAT_SECONDS = 15.0
"""A comment goes out after so long without news, so that a dead connection is noticed."""

SLICE = 50
"""Events that are written at a time: a slice must not keep others waiting for more than a few milliseconds."""

_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_HEARTBEAT = b": still here\n\n"


async def follow(call: Call[NoQuery, NoBody]) -> web.StreamResponse:
    """Streams every change of every sandbox."""
    journal, inventory = call.services.journal, call.services.inventory
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(call.request)
    if call.request.method == "HEAD":
        return response
    number = _seen(call.request.headers.get("Last-Event-ID", ""), journal.era)
    try:
        while not journal.closed:
            entries = None if number is None else journal.since(number, SLICE)
            if number is None or entries is None:
                number = journal.last
                await _show_everything(response, inventory, journal)
            elif entries:
                number = entries[-1].number
                await _write(response, _changes(entries, journal.era))
            elif not await journal.wait(number, HEARTBEAT_SECONDS):
                await response.write(_HEARTBEAT)
    except ConnectionResetError:
        return response  # the follower has left
    await response.write_eof()
    return response


def _seen(last_event_id: str, era: str) -> int | None:
    known, _, number = last_event_id.partition(".")
    return int(number) if known == era and number.isascii() and number.isdigit() and len(number) < 16 else None


async def _show_everything(response: web.StreamResponse, inventory: Inventory, journal: Journal) -> None:
    number, ids = journal.last, inventory.ids_newest_first()
    await response.write(_event("reset", "{}"))
    for start in range(0, len(ids), SLICE):
        boxes = (inventory.get(name) for name in ids[start : start + SLICE])
        await _write(response, (_sandbox_event(box) for box in boxes if box is not None))
    # Only here is the picture complete: who loses the connection earlier begins anew.
    await response.write(_event("synced", "{}", f"{journal.era}.{number}"))


async def _write(response: web.StreamResponse, events: Iterable[bytes]) -> None:
    """Writes one slice, and lets others have their turn."""
    await response.write(b"".join(events))
    await asyncio.sleep(0)


def _changes(entries: Iterable[Entry], era: str) -> Iterator[bytes]:
    for entry in entries:
        number = f"{era}.{entry.number}"
        if entry.sandbox is not None:
            yield _sandbox_event(entry.sandbox, number)
        else:
            reason = entry.ending.value if entry.ending else "deleted"
            yield _event("gone", json.dumps({"id": entry.sandbox_id, "reason": reason}), number)


def _sandbox_event(sandbox: Sandbox, number: str | None = None) -> bytes:
    return _event("sandbox", present.sandbox_view(sandbox).to_json(), number)


def _event(kind: str, data: str, number: str | None = None) -> bytes:
    identity = f"id: {number}\n" if number else ""
    return f"event: {kind}\n{identity}data: {data}\n\n".encode()
