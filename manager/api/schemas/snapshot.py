"""Snapshots as requests ask for them and answers show them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from manager.api.schemas.base import OptionalBody, Printable, Timestamp, Wire
from manager.api.schemas.sandbox import PageQuery, Pagination, StatusView


class SnapshotRequest(OptionalBody):
    """What to call the snapshot, and whether it may leave anything out."""

    name: Annotated[Printable, StringConstraints(min_length=1, max_length=253)] | None = Field(
        default=None, examples=["before-upgrade"]
    )
    extensions: dict[str, str] | None = Field(
        default=None,
        description='`"snapshot.strict": "true"` refuses a snapshot that would not keep what is in volumes and mounts.',
    )


class SnapshotView(Wire):
    """One snapshot: Creating, then Ready or Failed."""

    id: str
    sandbox_id: str
    name: str | None = None
    status: StatusView
    created_at: Timestamp


class SnapshotList(Wire):
    """One page of snapshots, newest first."""

    items: list[SnapshotView]
    pagination: Pagination


class SnapshotQuery(PageQuery):
    """Which snapshots."""

    sandbox_id: str | None = None
    name: str | None = None
    state: list[str] = Field(default_factory=list, description="May be repeated: any of them. Case does not matter.")
