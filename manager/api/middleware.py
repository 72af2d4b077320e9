"""Middleware of every call: request id, error responses, authentication, CORS, audit, ETags."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from manager import logs
from manager.api import cors
from manager.api.auth import FROM_SANDBOX, READING, check_origin, check_scope, identify, presented_key
from manager.api.call import CALLER, KEY, SERVICES, SUBJECT
from manager.api.errors import answer, envelope, status_of
from manager.api.hosts import PROBES, OwnHosts
from manager.api.routes import OPEN_PATHS
from manager.api.welcome import welcome
from manager.domain.codes import GENERAL_METHOD_NOT_ALLOWED, GENERAL_NOT_FOUND, UNKNOWN_ERROR
from manager.domain.errors import Forbidden, ManagerError
from manager.domain.events import Cause, Origin
from manager.services.origin import originating
from manager.services.wiring import Services

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]

PEER_HEADER = "X-Gateway-Peer"
REQUEST_ID = "X-Request-ID"
"""Both are set by the gateway alone: it drops what a client sends under these names."""

NOT_FOR_SANDBOXES = (
    "Code inside a sandbox may not call this API, and your address may be a sandbox's. "
    "server.allow_sandbox_callers = true would allow it; SECURITY.md says which addresses count."
)

_logger = logging.getLogger(__name__)
_audit = logging.getLogger("manager.audit")
_LONGEST_LIST = 2048
"""Characters of `If-None-Match` that are read; a tag has 26."""
_LOOKING = READING | {"OPTIONS"}

_ROUTER_CODES = {404: GENERAL_NOT_FOUND, 405: GENERAL_METHOD_NOT_ALLOWED}


@web.middleware
async def envelopes(request: web.Request, handler: Next) -> web.StreamResponse:
    """Turns every error into the JSON envelope; log lines carry the request id."""
    token = logs.REQUEST_ID.set(request.headers.get(REQUEST_ID, "-"))
    try:
        response = await handler(request)
    except ManagerError as error:
        response = answer(error)
    except web.HTTPException as error:
        response = await _without_slash(request) or _router_answer(request, error)
    except asyncio.CancelledError:
        raise
    except ConnectionResetError:
        _logger.debug("%s %s: the caller has left", request.method, request.path)
        response = envelope(400, UNKNOWN_ERROR, "The request ended before its end.")  # the client is gone
    except Exception:
        _logger.exception("%s %s failed", request.method, request.path)
        response = envelope(500, UNKNOWN_ERROR, "An unexpected error occurred; the server's log holds the details.")
    finally:
        logs.REQUEST_ID.reset(token)
    return response


async def finish_head(request: web.Request, response: web.StreamResponse) -> None:
    """Finishes the head of every response, streams included: request id, CORS, no `Server` header."""
    response.headers.popall("Server", None)
    response.headers["X-Content-Type-Options"] = "nosniff"  # logs are untrusted text, never a page
    if REQUEST_ID in request.headers:
        response.headers[REQUEST_ID] = request.headers[REQUEST_ID]
    services = request.app[SERVICES]
    if services.keys:
        response.headers.update(cors.headers(request.headers, services.origins))


def guard(services: Services, hosts: OwnHosts, *, allow_sandbox_callers: bool) -> Middleware:
    """A middleware that authenticates and authorises the caller, and stores the key on the request."""

    @web.middleware
    async def check(request: web.Request, handler: Next) -> web.StreamResponse:
        if not services.keys and request.path not in PROBES:
            hosts.check(request.host)
        if (page := welcome(request)) is not None:
            return page
        if request.path in OPEN_PATHS:
            return await handler(request)
        if services.keys and cors.is_preflight(request.method, request.headers):
            return web.Response(text="OK", headers=cors.preflight(request.headers, services.origins))
        peer = request.headers.get(PEER_HEADER, "")
        if not allow_sandbox_callers and _is_sandbox(services, peer):
            raise Forbidden(FROM_SANDBOX, NOT_FOR_SANDBOXES)
        if services.keys:
            presented = presented_key(request.headers)
            key = identify(presented, services.keys, services.guesses, peer, time.monotonic())
            check_scope(key, request.method)
            request[KEY], request[CALLER] = key, key.name
        else:
            check_origin(request.headers)
        if request.method in READING:
            return await handler(request)  # whoever looks may see a change first, but has not asked for it
        with originating(Origin(Cause.API, request.get(CALLER, ""), request.headers.get(REQUEST_ID, ""))):
            return await handler(request)

    return check


def _is_sandbox(services: Services, peer: str) -> bool:
    return services.inventory.owns_address(peer) or services.runtime.is_sandbox_address(peer)


@web.middleware
async def audit(request: web.Request, handler: Next) -> web.StreamResponse:
    """The audit log: one line for every change and every refused one, with the caller's key name."""
    if request.method in _LOOKING:
        return await handler(request)
    try:
        response = await handler(request)
    except ManagerError as error:
        _write_audit(request, f"{status_of(error)} {error.code}")
        raise
    _write_audit(request, str(response.status))
    return response


def _write_audit(request: web.Request, outcome: str) -> None:
    if request.match_info.http_exception is None:
        _audit.info(
            "%s %s by key %s from %s: %s%s",
            request.method,
            request.rel_url.raw_path,  # as it was sent: blanks in it would pass for the words behind it
            request.get(CALLER) or "-",
            request.headers.get(PEER_HEADER, "-"),
            outcome,
            f" {request[SUBJECT]}" if SUBJECT in request else "",
        )


@web.middleware
async def etags(request: web.Request, handler: Next) -> web.StreamResponse:
    """Adds an ETag to responses of GET, and answers 304 to a matching `If-None-Match`."""
    response = await handler(request)
    if request.method not in READING or response.status != 200 or not isinstance(response, web.Response):
        return response
    body = response.body
    if not isinstance(body, bytes):
        return response
    tag = hashlib.blake2b(body, digest_size=12).hexdigest()
    # Parsing thousands of tags would take milliseconds; such a client gets the whole response.
    wanted = request.if_none_match if len(request.headers.get("If-None-Match", "")) <= _LONGEST_LIST else None
    if wanted is not None and any(item.value in (tag, "*") for item in wanted):
        response = web.Response(status=304)
    response.etag = tag
    response.headers["Cache-Control"] = "private, no-cache"  # caches must revalidate it
    return response


async def _without_slash(request: web.Request) -> web.Response | None:
    """Redirects a path with one trailing slash too many to the path without it."""
    path = request.path.rstrip("/")
    if path == request.path or not path:
        return None
    meant = request.clone(rel_url=request.rel_url.with_path(path, keep_query=True))
    found = await request.app.router.resolve(meant)
    if isinstance(found.http_exception, web.HTTPNotFound):
        return None
    return web.Response(status=307, headers={"Location": str(meant.rel_url)})


def _router_answer(request: web.Request, error: web.HTTPException) -> web.Response:
    code = _ROUTER_CODES.get(error.status, UNKNOWN_ERROR)
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        response = envelope(405, code, f"{request.method} is not allowed here; {allowed} is.")
        response.headers["Allow"] = allowed
        return response
    if error.status == 404:
        return envelope(404, code, f"There is nothing at {request.path[:200]}; /openapi.json lists every path.")
    return envelope(error.status, code, error.reason)
