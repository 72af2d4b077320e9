"""`/sandboxes`: create, list, look, delete, renew, pause, resume, metadata, endpoints."""

from __future__ import annotations

from aiohttp import web
from pydantic import RootModel

from manager.api import present
from manager.api.call import Call, NoBody, NoQuery, json_answer
from manager.api.schemas.create import CreateSandboxRequest
from manager.api.schemas.sandbox import EndpointQuery, ListQuery, RenewAnswer, RenewRequest
from manager.api.translate import create_request
from manager.services.endpoints import Caller
from manager.services.filters import Paging, SandboxFilter, parse_metadata


class MetadataPatch(RootModel[dict[str, str | None]]):
    """Keys to set, and with null keys to delete."""


async def create(call: Call[NoQuery, CreateSandboxRequest]) -> web.Response:
    """Creates a sandbox and answers when it runs."""
    sandbox = await call.services.creation.create(create_request(call.body))
    return json_answer(present.created_view(sandbox), 202)


async def list_all(call: Call[ListQuery, NoBody]) -> web.Response:
    """Lists sandboxes, newest first."""
    query = call.query
    wanted = SandboxFilter(
        states=frozenset(state.lower() for state in query.state),
        metadata=parse_metadata(query.metadata or ""),
    )
    page = await call.services.sandboxes.list(wanted, Paging(query.page, query.page_size))
    return json_answer(present.sandbox_list(page))


async def get(call: Call[NoQuery, NoBody]) -> web.Response:
    """Shows one sandbox."""
    sandbox = await call.services.sandboxes.get(call.sandbox_id())
    return json_answer(present.sandbox_view(sandbox))


async def delete(call: Call[NoQuery, NoBody]) -> web.Response:
    """Deletes a sandbox; its addresses stop answering at once."""
    await call.services.sandboxes.delete(call.sandbox_id())
    return web.Response(status=204)


async def renew(call: Call[NoQuery, RenewRequest]) -> web.Response:
    """Moves the expiry of a sandbox to any moment in the future."""
    expires_at = await call.services.sandboxes.renew(call.sandbox_id(), call.body.expires_at)
    return json_answer(RenewAnswer(expires_at=expires_at))


async def pause(call: Call[NoQuery, NoBody]) -> web.Response:
    """Freezes a running sandbox; its time goes on."""
    await call.services.sandboxes.pause(call.sandbox_id())
    return web.Response(status=202)


async def resume(call: Call[NoQuery, NoBody]) -> web.Response:
    """Lets a paused sandbox go on."""
    await call.services.sandboxes.resume(call.sandbox_id())
    return web.Response(status=202)


async def patch_metadata(call: Call[NoQuery, MetadataPatch]) -> web.Response:
    """Merges the body into the metadata; null deletes a key."""
    sandbox = await call.services.sandboxes.patch_metadata(call.sandbox_id(), call.body.root)
    return json_answer(present.sandbox_view(sandbox))


async def endpoint(call: Call[EndpointQuery, NoBody]) -> web.Response:
    """Tells where a port of a sandbox is reached."""
    endpoint = await call.services.endpoints.locate(
        call.sandbox_id(),
        call.number("port"),
        Caller(call.request.headers.get("Host", ""), call.versioned),
        server_proxy=call.query.use_server_proxy,
        expires=call.query.expires,
    )
    return json_answer(present.endpoint_view(endpoint))
