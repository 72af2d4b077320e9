"""Templates of the Kubernetes runtime, as requests ask for them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from manager.api.schemas.base import Request, Text
from manager.api.schemas.sandbox import PageQuery


class TemplateReadiness(Request):
    """When what is built counts as ready."""

    probe: str | None = Field(default=None, examples=["tcp://127.0.0.1:44772"])
    warmup_seconds: Annotated[int, Field(ge=0)] | None = None


class TemplateRequest(Request):
    """A template to build. Alone among the requests it takes no field that nobody knows."""

    model_config = ConfigDict(extra="forbid")

    image: Text = Field(examples=["python:3.11-slim"])
    publish: Text = Field(description="Where what is built goes.", examples=["s3://bucket/publish"])
    resource_limits: dict[str, str] | None = None
    entrypoint: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, str] = Field(default_factory=dict)
    readiness: TemplateReadiness | None = None
    format: Literal["native", "overlaybd"] = "overlaybd"


class TemplateQuery(PageQuery):
    """Which templates."""

    metadata: str | None = Field(default=None, examples=["team=search"])
