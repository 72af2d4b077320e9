"""Routes that only another runtime serves: they answer the code that clients know, never 404.

A request that no runtime would take is refused for what is wrong with it, as everywhere.
"""

from __future__ import annotations

from typing import Any, NoReturn

from aiohttp import web

from manager.api.call import Call, NoBody, NoQuery
from manager.api.schemas.pool import PoolRequest, PoolUpdate
from manager.api.schemas.template import TemplateQuery, TemplateRequest
from manager.domain.codes import POOL_NOT_SUPPORTED, TEMPLATES_NOT_SUPPORTED
from manager.domain.errors import Unsupported


async def pools(call: Call[NoQuery, NoBody]) -> web.Response:
    """Manages pools on Kubernetes."""
    _no_pools(call)


async def make_pool(call: Call[NoQuery, PoolRequest]) -> web.Response:
    """Makes a pool on Kubernetes."""
    _no_pools(call)


async def change_pool(call: Call[NoQuery, PoolUpdate]) -> web.Response:
    """Changes the capacity of a pool on Kubernetes."""
    _no_pools(call)


async def templates(call: Call[NoQuery, NoBody]) -> web.Response:
    """Manages templates on Kubernetes."""
    _no_templates(call)


async def make_template(call: Call[NoQuery, TemplateRequest]) -> web.Response:
    """Makes a template on Kubernetes."""
    _no_templates(call)


async def list_templates(call: Call[TemplateQuery, NoBody]) -> web.Response:
    """Lists templates on Kubernetes."""
    _no_templates(call)


def _no_pools(call: Call[Any, Any]) -> NoReturn:
    raise Unsupported(POOL_NOT_SUPPORTED, "Pool management requires the kubernetes runtime.")


def _no_templates(call: Call[Any, Any]) -> NoReturn:
    raise Unsupported(TEMPLATES_NOT_SUPPORTED, "Template management requires the kubernetes runtime.")
