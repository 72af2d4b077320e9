"""Diagnostics: how much of it, and the descriptor in which today's clients read it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from manager.api.schemas.base import Wire

_SCOPE = "Asks for the JSON descriptor instead of text: {scopes}."


class LogsQuery(Wire):
    """Which lines."""

    scope: str | None = Field(default=None, description=_SCOPE.format(scopes="container or all"))
    tail: Annotated[int, Field(ge=1, le=10000)] = 100
    since: str | None = Field(default=None, examples=["10m"])
    container: str | None = Field(default=None, description="Kubernetes only.")
    follow: bool = Field(default=False, description="Keeps the answer open and sends lines as they come.")


class EventsQuery(Wire):
    """How many events."""

    scope: str | None = Field(default=None, description=_SCOPE.format(scopes="runtime or all"))
    limit: Annotated[int, Field(ge=1, le=500)] = 50


class SummaryQuery(Wire):
    """How much of the summary's parts."""

    tail: Annotated[int, Field(ge=1, le=10000)] = 50
    event_limit: Annotated[int, Field(ge=1, le=500, alias="event_limit")] = 20


class DiagnosticsView(Wire):
    """A text with what it is."""

    sandbox_id: str
    kind: str = Field(examples=["logs"])
    scope: str
    delivery: str = "inline"
    content_type: str = "text/plain; charset=utf-8"
    content: str
    content_length: int
    truncated: bool
    warnings: list[str] | None = None
