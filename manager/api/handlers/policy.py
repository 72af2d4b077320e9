"""`/sandboxes/{id}/networkpolicy`: checked here, answered by the egress sidecar."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import BaseModel, RootModel

from manager.api.call import Call, NoBody, NoQuery
from manager.api.schemas.base import Text
from manager.api.schemas.create import Policy, Rule


class RuleList(RootModel[list[Rule]]):
    """Rules to add or to replace."""


class TargetList(RootModel[list[Text]]):
    """Targets whose rules are removed."""


async def show(call: Call[NoQuery, NoBody]) -> web.Response:
    """Shows the egress policy that is in force."""
    return await _exchange(call, None)


async def replace(call: Call[NoQuery, Policy]) -> web.Response:
    """Replaces the egress policy."""
    return await _exchange(call, call.body)


async def merge(call: Call[NoQuery, RuleList]) -> web.Response:
    """Adds rules to the egress policy."""
    return await _exchange(call, call.body)


async def remove(call: Call[NoQuery, TargetList]) -> web.Response:
    """Removes the rules of targets from the egress policy."""
    return await _exchange(call, call.body)


async def _exchange(call: Call[Any, Any], body: BaseModel | None) -> web.Response:
    text = None if body is None else body.model_dump_json(exclude_none=True, by_alias=True).encode()
    request = call.request
    method = "GET" if request.method == "HEAD" else request.method
    reply = await call.services.policies.exchange(call.sandbox_id(), method, request.query_string, text)
    return web.Response(status=reply.status, body=reply.body, content_type=reply.content_type)
