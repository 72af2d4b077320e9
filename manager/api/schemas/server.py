"""What the server says of itself, and what clients report to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel

from manager.api.schemas.base import Json, Request, Wire


class ErrorView(Wire):
    """Every failure: a code for programs, a message for people that says what to do next."""

    code: str = Field(examples=["SANDBOX::INVALID_PARAMETER"])
    message: str


class Health(Wire):
    """`healthy`, or `degraded` with the reason."""

    status: Literal["healthy", "degraded"]
    reason: str | None = None


class Readiness(Wire):
    """Whether requests should be sent here."""

    status: Literal["ready", "degraded", "draining"]
    reason: str | None = None


class Version(Wire):
    """The version of the server."""

    version: str


class Description(RootModel[Json]):
    """This document."""


class MetricsEvent(Request):
    """What a client measured when it created a sandbox."""

    event_type: Literal["sandbox.create"]
    create_duration_ms: Annotated[int, Field(ge=0)]
    success: bool
    sandbox_id: str | None = None
    image: str | None = None
