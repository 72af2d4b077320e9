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
from manager.runtime.base import Feature

_REFUSALS = {
    Feature.POOL_MANAGEMENT: (POOL_NOT_SUPPORTED, "Pool management requires the kubernetes runtime."),
    Feature.TEMPLATES: (TEMPLATES_NOT_SUPPORTED, "Template management requires the kubernetes runtime."),
}


async def pools(call: Call[NoQuery, NoBody]) -> web.Response:
    """Manages pools on Kubernetes."""
    _refuse(call, Feature.POOL_MANAGEMENT)


async def make_pool(call: Call[NoQuery, PoolRequest]) -> web.Response:
    """Makes a pool on Kubernetes."""
    _refuse(call, Feature.POOL_MANAGEMENT)


async def change_pool(call: Call[NoQuery, PoolUpdate]) -> web.Response:
    """Changes the capacity of a pool on Kubernetes."""
    _refuse(call, Feature.POOL_MANAGEMENT)


async def templates(call: Call[NoQuery, NoBody]) -> web.Response:
    """Manages templates on Kubernetes."""
    _refuse(call, Feature.TEMPLATES)


async def make_template(call: Call[NoQuery, TemplateRequest]) -> web.Response:
    """Makes a template on Kubernetes."""
    _refuse(call, Feature.TEMPLATES)


async def list_templates(call: Call[TemplateQuery, NoBody]) -> web.Response:
    """Lists templates on Kubernetes."""
    _refuse(call, Feature.TEMPLATES)


def _refuse(call: Call[Any, Any], feature: Feature) -> NoReturn:
    """Raises Unsupported, which every runtime without the feature answers."""
    if feature in call.services.runtime.features:
        raise NotImplementedError(f"the runtime offers {feature.value}, which no handler serves")
    raise Unsupported(*_REFUSALS[feature])
