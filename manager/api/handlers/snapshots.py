"""`/snapshots`: make, list, look, delete."""

from __future__ import annotations

from aiohttp import web

from manager.api import present
from manager.api.call import PREFIX, Call, NoBody, NoQuery, json_answer
from manager.api.schemas.snapshot import SnapshotQuery, SnapshotRequest
from manager.services.filters import Paging
from manager.services.snapshots import SnapshotFilter


async def create(call: Call[NoQuery, SnapshotRequest]) -> web.Response:
    """Begins to keep the file system of a running sandbox; ask for the snapshot until it is Ready or Failed."""
    asked = call.body.extensions or {}
    snapshot = await call.services.snapshots.create(call.sandbox_id(), call.body.name, asked, call.caller)
    response = json_answer(present.snapshot_view(snapshot), 202)
    response.headers["Location"] = f"{PREFIX}/snapshots/{snapshot.id}"
    return response


async def list_all(call: Call[SnapshotQuery, NoBody]) -> web.Response:
    """Lists snapshots, newest first."""
    query = call.query
    states = frozenset(state.lower() for state in query.state)
    wanted = SnapshotFilter(query.sandbox_id, query.name, states, call.viewer)
    page = call.services.snapshots.list(wanted, Paging(query.page, query.page_size))
    return json_answer(present.snapshot_list(page))


async def get(call: Call[NoQuery, NoBody]) -> web.Response:
    """Shows one snapshot."""
    return json_answer(present.snapshot_view(call.services.snapshots.get(call.request.match_info["id"])))


async def delete(call: Call[NoQuery, NoBody]) -> web.Response:
    """Deletes a snapshot that is Ready or Failed and that no sandbox uses."""
    await call.services.snapshots.delete(call.request.match_info["id"])
    return web.Response(status=204)
