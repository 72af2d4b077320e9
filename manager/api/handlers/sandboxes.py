"""`/sandboxes`: create, list, look, delete, renew, pause, resume, metadata, endpoints."""

from __future__ import annotations

import asyncio
import hashlib
import re
from datetime import UTC, datetime

from aiohttp import web
from pydantic import RootModel

from manager.api import present
from manager.api.auth import READ_ONLY
from manager.api.call import PREFIX, SUBJECT, Call, NoBody, NoQuery, json_answer
from manager.api.schemas.create import CreateSandboxRequest
from manager.api.schemas.sandbox import (
    AccessPatch,
    AccessView,
    EndpointQuery,
    ListQuery,
    RenewAnswer,
    RenewRequest,
    TrafficView,
    WaitQuery,
)
from manager.api.translate import create_request
from manager.domain.codes import INVALID_PARAMETER
from manager.domain.errors import Forbidden, Invalid
from manager.domain.sandbox import Sandbox, SandboxState
from manager.services.endpoints import Caller, Signing
from manager.services.filters import Paging, SandboxFilter, parse_metadata
from manager.services.idempotency import KeyUse
from manager.services.limits import limits_in


class MetadataPatch(RootModel[dict[str, str | None]]):
    """Keys to set, and with null keys to delete."""


async def create(call: Call[NoQuery, CreateSandboxRequest]) -> web.Response:
    """Creates a sandbox and answers when it runs; with `Prefer: respond-async` at once, while it is Pending.

    With an `Idempotency-Key` that was used before, answers with the sandbox that was made then.
    """
    creation, request = call.services.creation, create_request(call.body)
    key = _key_use(call)
    if not _prefers_async(call.request):
        sandbox = await creation.create(request, key, call.caller, call.viewer)
        call.request[SUBJECT] = sandbox.id
        return json_answer(present.created_view(sandbox), 202)
    sandbox = await creation.begin(request, key, call.caller, call.viewer, durable=True)
    call.request[SUBJECT] = sandbox.id
    response = json_answer(present.created_view(sandbox), 202)
    response.headers["Location"] = f"{PREFIX}/sandboxes/{sandbox.id}"
    response.headers["Preference-Applied"] = "respond-async"
    return response


async def list_all(call: Call[ListQuery, NoBody]) -> web.Response:
    """Lists sandboxes, newest first."""
    query = call.query
    wanted = SandboxFilter(
        states=frozenset(state.lower() for state in query.state),
        metadata=parse_metadata(query.metadata or ""),
    )
    page = await call.services.sandboxes.list(wanted, Paging(query.page, query.page_size), call.viewer)
    return json_answer(present.sandbox_list(page))


async def get(call: Call[WaitQuery, NoBody]) -> web.Response:
    """Shows one sandbox; with `wait` once it has reached that state, has ended, or the timeout is over."""
    sandbox = await call.services.sandboxes.get(call.sandbox_id())
    if call.query.wait is not None:
        wanted = call.query.wait
        await call.services.waiting.until(
            sandbox.id, sandbox, lambda now: now is None or _settled(now, wanted), call.query.timeout
        )
        sandbox = await call.services.sandboxes.get(sandbox.id)
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


async def access(call: Call[NoQuery, NoBody]) -> web.Response:
    """Shows the limits of a sandbox at the gateway."""
    sandbox = await call.services.sandboxes.get(call.sandbox_id())
    return json_answer(AccessView(limits=limits_in(sandbox.extensions)))


async def patch_access(call: Call[NoQuery, AccessPatch]) -> web.Response:
    """Changes the limits of a sandbox at the gateway, for requests that come from now on; null lifts one."""
    sandbox = await call.services.sandboxes.patch_limits(call.sandbox_id(), call.body.limits)
    return json_answer(AccessView(limits=limits_in(sandbox.extensions)))


async def endpoint(call: Call[EndpointQuery, NoBody]) -> web.Response:
    """Tells where a port of a sandbox is reached."""
    query = call.query
    signed = None
    if query.expires is not None and call.read_only:
        raise Forbidden(READ_ONLY, "A signed address is a credential, which this API key may not see.")
    if query.expires is not None:
        signed = Signing(query.expires, query.signature == "long", tuple(query.method), query.path)
    endpoint = await call.services.endpoints.locate(
        call.sandbox_id(),
        call.number("port"),
        Caller(call.request.headers.get("Host", ""), call.versioned),
        server_proxy=query.use_server_proxy,
        signed=signed,
    )
    return json_answer(present.endpoint_view(endpoint, credentials=not call.read_only))


async def traffic(call: Call[NoQuery, NoBody]) -> web.Response:
    """Tells what has passed through the gateway to a sandbox since its container started."""
    sandbox = await call.services.sandboxes.get(call.sandbox_id())
    route = call.services.table.get(sandbox.id.encode())
    if route is None:
        return json_answer(TrafficView())
    return json_answer(present.traffic_view(route, asyncio.get_running_loop().time(), datetime.now(UTC)))


_ENDED = frozenset({SandboxState.FAILED, SandboxState.TERMINATED})
_LONGEST_PREFER = 1024
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def _settled(sandbox: Sandbox, wanted: str) -> bool:
    return sandbox.status.state.value.lower() == wanted or sandbox.status.state in _ENDED


def _prefers_async(request: web.Request) -> bool:
    preferences = ",".join(request.headers.getall("Prefer", []))[:_LONGEST_PREFER]
    return "respond-async" in (item.strip().lower() for item in re.split("[,;]", preferences))


def _key_use(call: Call[NoQuery, CreateSandboxRequest]) -> KeyUse | None:
    key = call.request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if _KEY.fullmatch(key) is None:
        raise Invalid(INVALID_PARAMETER, "Idempotency-Key: must be 1 to 255 printable ASCII characters without spaces")
    digest = hashlib.sha256(call.body.model_dump_json().encode()).hexdigest()
    return KeyUse(call.caller, key, digest)
