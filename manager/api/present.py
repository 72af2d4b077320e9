"""Domain → schema: the models of responses. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from gateway.table import SandboxRoute
from manager.api.schemas.sandbox import (
    CreatedSandbox,
    EndpointView,
    ImageView,
    Pagination,
    PlatformView,
    SandboxList,
    SandboxView,
    StatusView,
    TrafficView,
)
from manager.api.schemas.snapshot import SnapshotList, SnapshotView
from manager.domain import extensions
from manager.domain.sandbox import Platform, Sandbox, SandboxStatus
from manager.domain.snapshot import Snapshot
from manager.services.endpoints import INGRESS_HEADER, Endpoint
from manager.services.filters import Page


def sandbox_view(sandbox: Sandbox) -> SandboxView:
    """One sandbox; a restored one shows its snapshot instead of an image."""
    return SandboxView(
        id=sandbox.id,
        status=status_view(sandbox.status),
        metadata=dict(sandbox.metadata) or None,
        extensions=extensions.echoed(sandbox.extensions) or None,
        platform=_platform(sandbox.platform),
        expires_at=sandbox.expires_at,
        created_at=sandbox.created_at,
        entrypoint=list(sandbox.entrypoint),
        image=ImageView(uri=sandbox.image) if sandbox.image and not sandbox.snapshot_id else None,
        snapshot_id=sandbox.snapshot_id,
    )


def created_view(sandbox: Sandbox) -> CreatedSandbox:
    """The answer to a create."""
    return CreatedSandbox(
        id=sandbox.id,
        status=status_view(sandbox.status),
        metadata=dict(sandbox.metadata) or None,
        extensions=extensions.echoed(sandbox.extensions) or None,
        platform=_platform(sandbox.platform),
        expires_at=sandbox.expires_at,
        created_at=sandbox.created_at,
        entrypoint=list(sandbox.entrypoint),
    )


def status_view(status: SandboxStatus) -> StatusView:
    """State and why."""
    return StatusView(
        state=status.state.value,
        reason=status.reason,
        message=status.message,
        last_transition_at=status.last_transition_at,
    )


def sandbox_list(page: Page[Sandbox]) -> SandboxList:
    """One page of sandboxes."""
    return SandboxList(items=[sandbox_view(sandbox) for sandbox in page.items], pagination=pagination(page))


def pagination(page: Page[Any]) -> Pagination:
    """Where in the list the page is."""
    return Pagination(
        page=page.paging.page,
        page_size=page.paging.size,
        total_items=page.total,
        total_pages=page.pages,
        has_next_page=page.has_next,
    )


def endpoint_view(endpoint: Endpoint, *, credentials: bool = True) -> EndpointView:
    """An address with its headers, if there are any; without `credentials` only those that say where."""
    headers = {name: value for name, value in endpoint.headers.items() if credentials or name == INGRESS_HEADER}
    return EndpointView(endpoint=endpoint.address, headers=headers or None)


def traffic_view(route: SandboxRoute, loop_now: float, now: datetime) -> TrafficView:
    """The gateway's counters of one sandbox; loop times become wall-clock times."""
    last = now - timedelta(seconds=loop_now - route.last_active) if route.last_active else None
    bytes_in, bytes_out = route.moved()
    return TrafficView(
        requests=route.requests,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        open_connections=route.open,
        last_activity_at=last,
    )


def snapshot_view(snapshot: Snapshot) -> SnapshotView:
    """One snapshot; the image behind it is the runtime's own business."""
    return SnapshotView(
        id=snapshot.id,
        sandbox_id=snapshot.sandbox_id,
        name=snapshot.name,
        status=StatusView(
            state=snapshot.state.value,
            reason=snapshot.reason,
            message=snapshot.message,
            last_transition_at=snapshot.last_transition_at,
        ),
        created_at=snapshot.created_at,
    )


def snapshot_list(page: Page[Snapshot]) -> SnapshotList:
    """One page of snapshots."""
    return SnapshotList(items=[snapshot_view(snapshot) for snapshot in page.items], pagination=pagination(page))


def _platform(platform: Platform | None) -> PlatformView | None:
    return None if platform is None else PlatformView(os=platform.os, arch=platform.arch)
