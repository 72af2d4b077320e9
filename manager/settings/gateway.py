"""The data plane: `[gateway]`, and `[gateway.limits]` made from the fields of `gateway.limits.Limits`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from gateway.limits import Limits
from manager.settings.callers import Origin
from manager.settings.table import Table, option
from manager.settings.values import Lower


def _limits_table() -> type[Table]:
    declared: dict[str, Any] = {}
    for limit in dataclasses.fields(Limits):
        doc = limit.metadata["doc"] + ("; 0 means no limit" if limit.metadata["off"] else "")
        declared[limit.name] = (
            type(limit.default),
            option(limit.default, least=limit.metadata["least"], doc=doc),
        )
    return create_model("LimitsTable", __base__=Table, __doc__="`[gateway.limits]`", **declared)


LimitsTable = _limits_table()


class AsLimits:
    """Validates by the generated table and hands on the record the data plane takes."""

    table = LimitsTable

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            lambda table: Limits(**table.model_dump()),
            handler.generate_schema(LimitsTable),
            serialization=core_schema.plain_serializer_function_ser_schema(dataclasses.asdict),
        )


class GatewaySettings(Table):
    """`[gateway]`"""

    access_log: bool = option(False, doc="One line per request in the log")
    access_log_sample: float = option(1.0, least=0, most=1, doc="Share of requests that get a line")
    upstream_host: Annotated[Literal["public", "upstream"], Lower] = option(
        "public", doc="Which Host a sandbox sees: the one its client asked for, or the address it is dialled at"
    )
    forwarded: bool = option(False, doc="Whether the header Forwarded (RFC 7239) is sent beside X-Forwarded-*")
    cors_origins: tuple[Origin, ...] = option(
        (),
        allowed='a list of origins such as ["https://app.example.com"], or of "*"',
        doc="Origins of pages that may use every sandbox's execd and marked ports and read our refusals; "
        '"*" is any, without cookies. For the REST API see server.cors_origins',
    )
    rewrite_prefix: bool = option(
        True, doc="Whether redirects and cookies of a sandbox reached by a path are confined to that path"
    )
    referer_fallback: bool = option(
        True,
        doc="Whether a request for /asset that comes from a page under a sandbox's path is sent to that sandbox, "
        "by its Referer or a cookie",
    )
    link_cookies: bool = option(
        True,
        doc="Whether a browser that opens a signed link gets a short-lived cookie for that port, so that what the page "
        "loads needs no signature",
    )
    limits: Annotated[Limits, AsLimits] = option(Limits, doc="Sizes, counts and timeouts of the data plane")
