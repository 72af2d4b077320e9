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
from manager.domain.ownership import sees
from manager.domain.sandbox import Sandbox
from manager.services.journal import Entry

HEARTBEAT_SECONDS = 15.0
"""A comment goes out after so long without news, so that a dead connection is noticed."""

SLICE = 50
"""Events that are written at a time: a slice must not keep others waiting for more than a few milliseconds."""

HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
HEARTBEAT = b": still here\n\n"


async def follow(call: Call[NoQuery, NoBody]) -> web.StreamResponse:
    """Streams every change of every sandbox that the caller sees."""
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(call.request)
    if call.request.method == "HEAD":
        return response
    try:
        await _Follower(call, response).run()
    except ConnectionResetError:
        return response  # the follower has left
    await response.write_eof()
    return response


class _Follower:
    """One stream. Numbers of changes are those of what the follower sees: gaps would tell of the rest."""

    def __init__(self, call: Call[NoQuery, NoBody], response: web.StreamResponse) -> None:
        self._call = call
        self._response = response
        self._viewer = call.viewer
        self._journal, self._inventory = call.services.journal, call.services.inventory
        self._clock = asyncio.get_running_loop().time
        self._silent_since = self._clock()

    async def run(self) -> None:
        """Until the server stops, the follower leaves or its key is taken away."""
        journal = self._journal
        seen = _seen(self._call.request.headers.get("Last-Event-ID", ""), journal.epoch)
        number = None if seen is None else journal.place(self._viewer, seen)
        while not journal.closed and self._call.is_welcome:
            entries = None if number is None else journal.since(number, SLICE)
            if number is None or entries is None:
                number = journal.last
                await self._show_everything()
            elif entries:
                number = entries[-1].number
                await self._write(self._changes(entries))
            else:
                await self._wait(number)

    async def _show_everything(self) -> None:
        count, ids = self._journal.count(self._viewer), self._inventory.ids_newest_first()
        await self._write([sse_event("reset", "{}")])
        for start in range(0, len(ids), SLICE):
            boxes = (self._inventory.get(name) for name in ids[start : start + SLICE])
            await self._write(_sandbox_event(box) for box in boxes if box is not None and sees(self._viewer, box.owner))
        # Only here is the picture complete: who loses the connection earlier begins anew.
        await self._write([sse_event("synced", "{}", f"{self._journal.epoch}.{count}")])

    async def _wait(self, number: int) -> None:
        """For news, and with a comment when there was nothing to tell for long: others' news are none."""
        left = HEARTBEAT_SECONDS - (self._clock() - self._silent_since)
        if left <= 0 or not await self._journal.wait(number, left):
            await self._write([HEARTBEAT])

    async def _write(self, events: Iterable[bytes]) -> None:
        """Writes one slice, and lets others have their turn."""
        written = b"".join(events)
        if written:
            await self._response.write(written)
            self._silent_since = self._clock()
        await asyncio.sleep(0)

    def _changes(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        for entry in entries:
            if not sees(self._viewer, entry.owner):
                continue
            number = f"{self._journal.epoch}.{entry.number if self._viewer is None else entry.own}"
            if entry.sandbox is not None:
                yield _sandbox_event(entry.sandbox, number)
            else:
                reason = entry.ending.value if entry.ending else "deleted"
                yield sse_event("gone", json.dumps({"id": entry.sandbox_id, "reason": reason}), number)


def _seen(last_event_id: str, epoch: str) -> int | None:
    known, _, number = last_event_id.partition(".")
    return int(number) if known == epoch and number.isascii() and number.isdigit() and len(number) < 16 else None


def _sandbox_event(sandbox: Sandbox, number: str | None = None) -> bytes:
    return sse_event("sandbox", present.sandbox_view(sandbox).to_json(), number)


def sse_event(kind: str, data: str, number: str | None = None) -> bytes:
    """One server-sent event."""
    identity = f"id: {number}\n" if number else ""
    return f"event: {kind}\n{identity}data: {data}\n\n".encode()
