"""All routes in one table: what is served, what is documented and what is authorised are read from these rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

from manager.api.call import PREFIX, Handler
from manager.api.handlers import (
    diagnostics,
    events,
    kubernetes_only,
    lifecycle_events,
    policy,
    sandboxes,
    server,
    snapshots,
)
from manager.api.ownership import About
from manager.api.schemas.create import PolicyState
from manager.api.schemas.diagnostics import DiagnosticsView
from manager.api.schemas.events import EventList
from manager.api.schemas.sandbox import (
    AccessView,
    CreatedSandbox,
    EndpointView,
    RenewAnswer,
    SandboxList,
    SandboxView,
    TrafficView,
)
from manager.api.schemas.server import Description, Health, Readiness, Version
from manager.api.schemas.snapshot import SnapshotList, SnapshotView

EVERYWHERE = ("", PREFIX)


@dataclass(frozen=True)
class Route:
    """One operation. `about` says how keys that see only their own are held to that.

    `answer` is the model of the answer with status `status`; None is an empty body.

    `media` is the type of its body, `errors` the statuses it can fail with beside those of every route and those of
    reading the request; `open` routes ask for no key; `under` are the prefixes it is served at. What query and body
    are, the handler's own signature says.
    """

    method: str
    path: str
    handler: Handler[Any, Any]
    status: int
    about: About = field(kw_only=True)
    answer: type[BaseModel] | None = None
    tag: str = ""
    errors: tuple[int, ...] = ()
    open: bool = False
    media: str = "application/json"
    under: tuple[str, ...] = EVERYWHERE

    @property
    def paths(self) -> tuple[str, ...]:
        """Where it is served: bare and under `/v1`, with the exceptions released servers make."""
        return tuple(prefix + self.path for prefix in self.under)

    @cached_property
    def models(self) -> tuple[type[BaseModel], type[BaseModel]]:
        """The models of query and body."""
        query, body = get_args(get_type_hints(self.handler)["call"])
        return query, body


def _table() -> Iterable[Route]:
    box, one = "/sandboxes", "/sandboxes/{id}"
    tag = "Sandboxes"
    about_one, about_own = partial(Route, about=About.SANDBOX), partial(Route, about=About.OWN)
    about_snapshot, about_server = partial(Route, about=About.SNAPSHOT), partial(Route, about=About.SERVER)
    about_nobody = partial(Route, about=About.NOBODY)
    yield about_own("POST", box, sandboxes.create, 202, CreatedSandbox, tag=tag,
               errors=(404, 409, 429, 500, 503, 504))  # fmt: skip
    yield about_own("GET", box, sandboxes.list_all, 200, SandboxList, tag=tag, errors=(503,))
    yield about_own("GET", f"{box}/events", events.follow, 200, tag=tag, media="text/event-stream")
    yield about_one("GET", one, sandboxes.get, 200, SandboxView, tag=tag, errors=(404, 503))
    yield about_one("DELETE", one, sandboxes.delete, 204, tag=tag, errors=(404, 409, 500, 503))
    yield about_one("PATCH", f"{one}/metadata", sandboxes.patch_metadata, 200, SandboxView,
               tag=tag, errors=(404, 503))  # fmt: skip
    yield about_one("POST", f"{one}/pause", sandboxes.pause, 202, tag=tag, errors=(404, 409, 500, 503))
    yield about_one("POST", f"{one}/resume", sandboxes.resume, 202, tag=tag, errors=(404, 409, 500, 503))
    yield about_one("POST", f"{one}/renew-expiration", sandboxes.renew, 200, RenewAnswer, tag=tag,
               errors=(404, 409, 503))  # fmt: skip
    yield about_one("GET", f"{one}/endpoints/{{port}}", sandboxes.endpoint, 200, EndpointView, tag=tag,
               errors=(404, 500, 503))  # fmt: skip
    yield about_one("GET", f"{one}/access", sandboxes.access, 200, AccessView, tag=tag, errors=(404, 503))
    yield about_one("PATCH", f"{one}/access", sandboxes.patch_access, 200, AccessView, tag=tag, errors=(404, 503))
    yield about_one("GET", f"{one}/traffic", sandboxes.traffic, 200, TrafficView, tag=tag, errors=(404, 503))

    tag = "Events"
    yield about_own("GET", "/events", lifecycle_events.events, 200, EventList, tag=tag, under=(PREFIX,),
               errors=(503,))  # fmt: skip

    tag = "Network policy"
    rules = f"{one}/networkpolicy"
    for method, handler in (("GET", policy.show), ("PUT", policy.replace), ("PATCH", policy.merge),
                            ("DELETE", policy.remove)):  # fmt: skip
        yield about_one(method, rules, handler, 200, PolicyState, tag=tag, errors=(400, 404, 502, 503, 504))

    tag = "Snapshots"
    yield about_one("POST", f"{one}/snapshots", snapshots.create, 202, SnapshotView, tag=tag,
                errors=(404, 409, 503))  # fmt: skip
    yield about_own("GET", "/snapshots", snapshots.list_all, 200, SnapshotList, tag=tag)
    yield about_snapshot("GET", "/snapshots/{id}", snapshots.get, 200, SnapshotView, tag=tag, errors=(404,))
    yield about_snapshot("DELETE", "/snapshots/{id}", snapshots.delete, 204, tag=tag, errors=(404, 409, 500, 503))

    tag = "Diagnostics"
    look = f"{one}/diagnostics"
    yield about_one("GET", f"{look}/logs", diagnostics.logs, 200, DiagnosticsView, media="text/plain", tag=tag,
                errors=(404, 503))  # fmt: skip
    yield about_one("GET", f"{look}/events", diagnostics.events, 200, DiagnosticsView, media="text/plain", tag=tag,
                errors=(404, 503))  # fmt: skip
    yield about_one("GET", f"{look}/inspect", diagnostics.inspect, 200, tag=tag, media="text/plain", errors=(404, 503))
    yield about_one("GET", f"{look}/summary", diagnostics.summary, 200, tag=tag, media="text/plain", errors=(404, 503))

    tag, bare = "Server", ("",)
    yield about_nobody("GET", "/health", server.health, 200, Health, tag=tag, open=True, under=bare)
    yield about_nobody("GET", "/ready", server.ready, 200, Readiness, tag=tag, open=True, under=bare, errors=(503,))
    yield about_nobody("GET", "/version", server.show_version, 200, Version, tag=tag, open=True, under=bare)
    yield about_server("GET", "/metrics", server.metrics, 200, tag=tag, media="text/plain", under=bare, errors=(404,))
    yield about_nobody("POST", "/metrics/events", server.metrics_event, 204, tag=tag, under=(PREFIX,))
    yield about_nobody("GET", "/openapi.json", server.openapi, 200, Description, tag=tag, open=True, under=bare)
    yield about_nobody("GET", "/docs", server.reference, 200, tag=tag, open=True, media="text/html", under=bare)
    yield about_nobody("GET", "/redoc", server.reference, 200, tag=tag, open=True, media="text/html", under=bare)

    tag = "Kubernetes only"
    for method, path, absent in (("GET", "/pools", kubernetes_only.pools),
                                 ("POST", "/pools", kubernetes_only.make_pool),
                                 ("GET", "/pools/{name}", kubernetes_only.pools),
                                 ("PUT", "/pools/{name}", kubernetes_only.change_pool),
                                 ("DELETE", "/pools/{name}", kubernetes_only.pools),
                                 ("GET", "/templates", kubernetes_only.list_templates),
                                 ("POST", "/templates", kubernetes_only.make_template),
                                 ("GET", "/templates/{id}", kubernetes_only.templates),
                                 ("DELETE", "/templates/{id}", kubernetes_only.templates)):  # fmt: skip
        yield about_nobody(method, path, absent, 501, tag=tag, errors=(501,))


ROUTES: tuple[Route, ...] = tuple(_table())

OPEN_PATHS = frozenset(route.path for route in ROUTES if route.open)
"""Paths that ask for no key: exactly these."""
