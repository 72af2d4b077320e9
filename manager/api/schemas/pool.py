"""Pools of the Kubernetes runtime, as requests ask for them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from manager.api.schemas import patterns
from manager.api.schemas.base import Json, Request

Count = Annotated[int, Field(ge=0)]


class PoolCapacity(Request):
    """How many sandboxes wait, and how many there may be in all."""

    buffer_max: Count
    buffer_min: Count
    pool_max: Count
    pool_min: Count


class PoolRequest(Request):
    """A pool to make."""

    name: Annotated[str, StringConstraints(pattern=patterns.LABEL, max_length=253)]
    template: Json = Field(description="What each sandbox is made of: a PodTemplateSpec.")
    capacity_spec: PoolCapacity


class PoolUpdate(Request):
    """The capacity a pool is to have."""

    capacity_spec: PoolCapacity
