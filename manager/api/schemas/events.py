"""Events of sandboxes on the wire."""

from __future__ import annotations

from pydantic import Field

from manager.api.schemas.base import Wire
from manager.domain.events import Cause

MOST = 1000


class EventQuery(Wire):
    """Which events."""

    since: int | None = Field(default=None, ge=0, le=10**15, description="Those after the event of this id.")
    sandbox: str | None = Field(default=None, max_length=64, description="Those of this sandbox only.")
    limit: int = Field(default=100, ge=1, le=MOST, description="Most events of a list.")


class EventView(Wire):
    """One change of a sandbox's state."""

    id: int
    time: str
    sandbox_id: str
    from_: str | None = Field(default=None, alias="from", description="The state before; absent for a new sandbox.")
    to: str | None = Field(default=None, description="The state since then; absent once it is gone.")
    cause: Cause
    message: str | None = None
    actor: str | None = Field(default=None, description="The name of the API key that asked for it.")
    request_id: str | None = None


class EventList(Wire):
    """Events, oldest first."""

    items: list[EventView]
    next: int = Field(description="What `since` has to be for those that come after.")
