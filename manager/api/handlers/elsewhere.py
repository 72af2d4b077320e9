"""Routes that only another runtime serves: they answer the code that clients know, never 404."""

from __future__ import annotations

from aiohttp import web

from manager.api.call import Call, NoBody, NoQuery
from manager.domain.errors import Unsupported

POOLS = "KUBERNETES::POOL_NOT_SUPPORTED"
TEMPLATES = "FSB::API_NOT_SUPPORTED"


async def pools(call: Call[NoQuery, NoBody]) -> web.Response:
    """Manages pools on Kubernetes."""
    raise Unsupported(POOLS, "Pool management requires the kubernetes runtime.")


async def templates(call: Call[NoQuery, NoBody]) -> web.Response:
    """Manages templates on Kubernetes."""
    raise Unsupported(TEMPLATES, "Template management requires the kubernetes runtime.")
