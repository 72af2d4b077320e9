"""Every route of the released server at each of its paths: parameters, statuses, codes and headers as its clients know.

Over the whole server with a key, the way requests really come. A row names what stands before the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import requests

from manager.api.examples import REQUESTS
from manager.api.routes import ROUTES, Route
from tests.manager.api.conftest import plain
from tests.manager.served import Served, serve
from tests.server_process import wait_until

KEY = "the-key-of-tests"
HEADERS = {"OPEN-SANDBOX-API-KEY": KEY}
NOBODY = "00000000-0000-4000-8000-000000000000"
PAST, FUTURE = {"expiresAt": "2020-01-01T00:00:00Z"}, {"expiresAt": "2030-01-01T00:00:00Z"}
PATIENCE = 10.0
POOL, TEMPLATE = REQUESTS["POST", "/pools"], REQUESTS["POST", "/templates"]
EVENT = REQUESTS["POST", "/metrics/events"]

BOX = "/sandboxes/{box}"
PARAMETER, NOT_FOUND = "SANDBOX::INVALID_PARAMETER", "DOCKER::SANDBOX_NOT_FOUND"
EXPIRATION, SNAPSHOT_NOT_FOUND = "DOCKER::INVALID_EXPIRATION", "SNAPSHOT::NOT_FOUND"
NO_POOLS, NO_TEMPLATES = "KUBERNETES::POOL_NOT_SUPPORTED", "FSB::API_NOT_SUPPORTED"
NO_SCOPE, BAD_FILTER = "DIAGNOSTICS_SCOPE_UNSUPPORTED", "INVALID_METADATA_FORMAT"
NOT_SUPPORTED = "SANDBOX::API_NOT_SUPPORTED"
BAD_LABEL, RESERVED_LABEL = "SANDBOX::INVALID_METADATA_LABEL", "SANDBOX::INVALID_METADATA_LABEL"


@dataclass(frozen=True)
class Row:
    """One request and its answer: `told` is the code of a refusal, else the fields or the text of the answer."""

    method: str
    path: str
    status: int
    told: Any = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    under: tuple[str, ...] = ("", "/v1")


def ours(path: str, *fields: str, **headers: str) -> Row:
    """What is served bare only, and asks for no key."""
    return Row("GET", path, 200, fields, headers=headers, under=("",))


ROWS = [
    ours("/health", "status"),
    ours("/version", "version"),
    ours("/openapi.json", "openapi", "info", "paths"),
    ours("/docs", **{"Content-Type": "text/html; charset=utf-8"}),
    ours("/redoc", **{"Content-Type": "text/html; charset=utf-8"}),
    *(Row("GET", path, 404, "GENERAL::NOT_FOUND", under=("/v1",)) for path in ("/health", "/version", "/docs")),
    # Sandboxes
    Row("POST", "/sandboxes", 202, ("id", "status", "createdAt", "expiresAt", "entrypoint"), plain()),
    Row("POST", "/sandboxes", 400, PARAMETER, plain(timeout=59)),
    Row("POST", "/sandboxes", 400, PARAMETER, plain(image="image:1")),
    Row("POST", "/sandboxes", 400, PARAMETER, plain(resourceLimits={"cpu": 1})),
    Row("POST", "/sandboxes", 400, BAD_LABEL, plain(metadata={"a b": "c"})),
    Row("POST", "/sandboxes", 404, SNAPSHOT_NOT_FOUND, plain(image=None, snapshotId=NOBODY)),
    Row("GET", "/sandboxes", 200, ("items", "pagination")),
    Row("GET", "/sandboxes?state=running&state=PAUSED&metadata=a%3Db%26c%3D&page=2&pageSize=200", 200, ("items",)),
    Row("GET", "/sandboxes?state=flying", 200, ("items",)),
    Row("GET", "/sandboxes?page=0", 400, PARAMETER),
    Row("GET", "/sandboxes?pageSize=201", 400, PARAMETER),
    Row("GET", "/sandboxes?metadata=novalue", 400, BAD_FILTER),
    Row("GET", BOX, 200, ("id", "image", "status", "entrypoint", "createdAt")),
    Row("GET", "/sandboxes/{nobody}", 404, NOT_FOUND),
    Row("DELETE", BOX, 204),
    Row("DELETE", "/sandboxes/{nobody}", 404, NOT_FOUND),
    Row("PATCH", f"{BOX}/metadata", 200, ("id", "metadata"), {"a": "b", "absent": None}),
    Row("PATCH", f"{BOX}/metadata", 200, ("id",), {}),
    Row("PATCH", f"{BOX}/metadata", 400, RESERVED_LABEL, {"opensandbox.io/a": None}),
    Row("PATCH", f"{BOX}/metadata", 400, BAD_LABEL, {"a b": "c"}),
    Row("PATCH", f"{BOX}/metadata", 400, PARAMETER, ["a"]),
    Row("PATCH", f"{BOX}/metadata", 400, PARAMETER, {"a": 1}),
    Row("PATCH", "/sandboxes/{nobody}/metadata", 404, NOT_FOUND, {}),
    Row("POST", f"{BOX}/pause", 202),
    Row("POST", "/sandboxes/{paused}/pause", 409, "DOCKER::SANDBOX_NOT_RUNNING"),
    Row("POST", "/sandboxes/{nobody}/pause", 404, NOT_FOUND),
    Row("POST", "/sandboxes/{paused}/resume", 202),
    Row("POST", f"{BOX}/resume", 409, "DOCKER::SANDBOX_NOT_PAUSED"),
    Row("POST", "/sandboxes/{nobody}/resume", 404, NOT_FOUND),
    Row("POST", f"{BOX}/renew-expiration", 200, ("expiresAt",), FUTURE),
    Row("POST", f"{BOX}/renew-expiration", 200, ("expiresAt",), {"expires_at": "2030-01-01T00:00:00"}),
    Row("POST", f"{BOX}/renew-expiration", 400, EXPIRATION, PAST),
    Row("POST", f"{BOX}/renew-expiration", 400, PARAMETER, {}),
    Row("POST", "/sandboxes/{manual}/renew-expiration", 409, EXPIRATION, FUTURE),
    Row("POST", "/sandboxes/{nobody}/renew-expiration", 404, NOT_FOUND, PAST),
    Row("GET", f"{BOX}/endpoints/8080", 200, ("endpoint",)),
    Row("GET", f"{BOX}/endpoints/44772?use_server_proxy=true", 200, ("endpoint",)),
    Row("GET", f"{BOX}/endpoints/8080?use_server_proxy=on&expires=1", 400, PARAMETER),
    Row("GET", f"{BOX}/endpoints/8080?use_server_proxy=maybe", 400, PARAMETER),
    Row("GET", f"{BOX}/endpoints/8080?expires=9999999999", 400, NOT_SUPPORTED),
    Row("GET", f"{BOX}/endpoints/port", 400, PARAMETER),
    Row("GET", "/sandboxes/{nobody}/endpoints/0", 400, "DOCKER::INVALID_PORT"),
    Row("GET", "/sandboxes/{nobody}/endpoints/65536", 400, "DOCKER::INVALID_PORT"),
    Row("GET", "/sandboxes/{nobody}/endpoints/80", 404, NOT_FOUND),
    # Snapshots
    Row(
        "POST", f"{BOX}/snapshots", 202, ("id", "sandboxId", "status"), headers={"Location": "/v1/snapshots/{told[id]}"}
    ),
    Row("POST", f"{BOX}/snapshots", 202, ("id", "name"), {"name": "n"}),
    Row("POST", f"{BOX}/snapshots", 400, PARAMETER, {"name": ""}),
    Row("POST", "/sandboxes/{paused}/snapshots", 409, "SNAPSHOT::INVALID_SOURCE_STATE"),
    Row("POST", "/sandboxes/{nobody}/snapshots", 404, NOT_FOUND),
    Row(
        "GET",
        "/snapshots?sandboxId={box}&name=n&state=Ready&state=Failed&page=1&pageSize=5",
        200,
        ("items", "pagination"),
    ),
    Row("GET", "/snapshots?pageSize=0", 400, PARAMETER),
    Row("GET", "/snapshots/{snapshot}", 200, ("id", "sandboxId", "status", "createdAt")),
    Row("GET", "/snapshots/{nobody}", 404, SNAPSHOT_NOT_FOUND),
    Row("DELETE", "/snapshots/{snapshot}", 204),
    Row("DELETE", "/snapshots/{nobody}", 404, SNAPSHOT_NOT_FOUND),
    # The egress policy of a sandbox that was made without one, and so has no sidecar to ask
    Row("GET", f"{BOX}/networkpolicy", 400, NOT_SUPPORTED),
    Row("PUT", f"{BOX}/networkpolicy", 400, NOT_SUPPORTED, {"egress": []}),
    Row("PUT", f"{BOX}/networkpolicy", 400, PARAMETER, []),
    Row("PATCH", f"{BOX}/networkpolicy", 400, NOT_SUPPORTED, [{"action": "allow", "target": "a"}]),
    Row("PATCH", f"{BOX}/networkpolicy", 400, PARAMETER, {}),
    Row("DELETE", f"{BOX}/networkpolicy", 400, NOT_SUPPORTED, ["a"]),
    Row("DELETE", f"{BOX}/networkpolicy", 400, PARAMETER, [""]),
    Row("GET", "/sandboxes/{nobody}/networkpolicy", 404, NOT_FOUND),
    # Diagnostics
    *(
        row
        for kind, scope, query in (("logs", "container", "tail=5&since=10m"), ("events", "runtime", "limit=5"))
        for row in (
            Row("GET", f"{BOX}/diagnostics/{kind}?scope=%20{scope.title()}", 200, ("sandboxId", "kind", "content")),
            Row("GET", f"{BOX}/diagnostics/{kind}?scope=all", 200, ("warnings", "truncated", "delivery")),
            Row("GET", f"{BOX}/diagnostics/{kind}?{query}", 200, headers={"Deprecation": "true"}),
            Row("GET", f"/sandboxes/{{nobody}}/diagnostics/{kind}?scope=", 400, NO_SCOPE),
            Row("GET", f"/sandboxes/{{nobody}}/diagnostics/{kind}?scope=all", 404, NOT_FOUND),
            Row("GET", f"{BOX}/diagnostics/{kind}?{query.partition('=')[0]}=0", 400, PARAMETER),
        )
    ),
    Row("GET", f"{BOX}/diagnostics/inspect", 200, headers={"Content-Type": "text/plain; charset=utf-8"}),
    Row("GET", f"{BOX}/diagnostics/summary?tail=5&event_limit=5", 200),
    Row("GET", "/sandboxes/{nobody}/diagnostics/inspect", 404, NOT_FOUND),
    Row("GET", "/sandboxes/{nobody}/diagnostics/summary", 404, NOT_FOUND),
    # The proxy, which is open unless server.proxy_needs_key says otherwise
    *(
        Row(method, f"/sandboxes/{{nobody}}/proxy/80{tail}", 404, "GATEWAY::SANDBOX_NOT_FOUND")
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH")
        for tail in ("", "/", "/a/b?c=d")
    ),
    # What only Kubernetes has
    Row("GET", "/pools", 501, NO_POOLS),
    Row("POST", "/pools", 501, NO_POOLS, POOL),
    Row("POST", "/pools", 400, PARAMETER, {**POOL, "name": "No"}),
    Row("GET", "/pools/p", 501, NO_POOLS),
    Row("PUT", "/pools/p", 501, NO_POOLS, {"capacitySpec": POOL["capacitySpec"]}),
    Row("PUT", "/pools/p", 400, PARAMETER, {"capacitySpec": {}}),
    Row("DELETE", "/pools/p", 501, NO_POOLS),
    Row("GET", "/templates?page=1&pageSize=200&metadata=a", 501, NO_TEMPLATES),
    Row("GET", "/templates?pageSize=201", 400, PARAMETER),
    Row("POST", "/templates", 501, NO_TEMPLATES, TEMPLATE),
    Row("POST", "/templates", 400, PARAMETER, []),
    Row("POST", "/templates", 400, PARAMETER, {**TEMPLATE, "unknown": 1}),
    Row("GET", "/templates/tpl-1", 501, NO_TEMPLATES),
    Row("DELETE", "/templates/tpl-1", 501, NO_TEMPLATES),
    # Clients' measurements
    Row("POST", "/metrics/events", 204, None, EVENT, under=("/v1",)),
    Row("POST", "/metrics/events", 404, "GENERAL::NOT_FOUND", EVENT, under=("",)),
    Row("POST", "/metrics/events", 400, PARAMETER, {**EVENT, "eventType": "other"}, under=("/v1",)),
    # Neither
    Row("PUT", "/sandboxes", 405, "GENERAL::METHOD_NOT_ALLOWED", headers={"Allow": "GET, HEAD, POST"}),
    Row("GET", f"{BOX}/pause", 405, "GENERAL::METHOD_NOT_ALLOWED", headers={"Allow": "POST"}),
    Row("GET", "/nothing", 404, "GENERAL::NOT_FOUND"),
]
CASES = [(row, prefix) for row in ROWS for prefix in row.under]
OWN = {"/ready", "/metrics", "/events", "/sandboxes/events", "/sandboxes/{id}/access", "/sandboxes/{id}/traffic"}
"""Paths that the released server does not have."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a key, for all of this file."""
    with serve(tmp_path_factory.mktemp("routes"), server={"api_key": KEY}) as server:
        yield server


def make(served: Served, **changes: Any) -> str:
    """A sandbox that runs."""
    made = requests.post(f"{served.url}/sandboxes", json=plain(**changes), headers=HEADERS, timeout=PATIENCE)
    return str(made.json()["id"])


def paused(served: Served) -> str:
    box = make(served)
    requests.post(f"{served.url}/sandboxes/{box}/pause", headers=HEADERS, timeout=PATIENCE)
    return box


def snapshot(served: Served) -> str:
    """One that is ready: made while it is waited for."""
    url = f"{served.url}/sandboxes/{make(served)}/snapshots"
    made = requests.post(url, headers=HEADERS, timeout=PATIENCE).json()["id"]
    shown = f"{served.url}/snapshots/{made}"
    wait_until(
        lambda: requests.get(shown, headers=HEADERS, timeout=PATIENCE).json()["status"]["state"] == "Ready",
        PATIENCE,
        "the snapshot",
    )
    return str(made)


BEFORE: dict[str, Callable[[Served], str]] = {
    "{box}": make,
    "{paused}": paused,
    "{manual}": lambda served: make(served, timeout=None),
    "{snapshot}": snapshot,
    "{nobody}": lambda served: NOBODY,
}


def send(served: Served, row: Row, prefix: str, headers: Mapping[str, str] = HEADERS) -> requests.Response:
    path = row.path
    for name, stand in BEFORE.items():
        if name in path:
            path = path.replace(name, stand(served))
    url = served.url + prefix + path
    return requests.request(row.method, url, json=row.body, headers=headers, timeout=PATIENCE, allow_redirects=False)


def described(row: Row) -> set[str]:
    """The fields that the document gives the answer to this request."""
    route = next(route for route in ROUTES if (route.method, shape(route.path)) == (row.method, shape(row.path)))
    schema = {} if route.answer is None else route.answer.model_json_schema(by_alias=True)
    return set(schema.get("properties", {"openapi", "info", "servers", "security", "paths", "components"}))


@pytest.mark.parametrize(
    ("row", "prefix"), CASES, ids=[f"{row.method} {prefix}{row.path} {row.status}" for row, prefix in CASES]
)
def test_a_route(served: Served, row: Row, prefix: str) -> None:
    """The status, the code or the fields, and the headers; a request id on every answer."""
    answer = send(served, row, prefix)
    assert answer.status_code == row.status, answer.text
    assert answer.headers["X-Request-ID"]
    told = answer.json() if answer.headers.get("Content-Type", "").startswith("application/json") else {}
    if row.status >= 400:
        assert (told["code"], set(told)) == (row.told, {"code", "message"})
    else:
        assert set(row.told or ()) <= set(told) <= described(row), told
        assert told or row.status not in (202, 204) or answer.content == b""
    for name, value in row.headers.items():
        assert answer.headers[name] == value.format(told=told)


LOOKS = [(row, prefix) for row, prefix in CASES if row.method == "GET" and row.status != 405]


@pytest.mark.parametrize(("row", "prefix"), LOOKS, ids=[f"HEAD {prefix}{row.path}" for row, prefix in LOOKS])
def test_head(served: Served, row: Row, prefix: str) -> None:
    """Whatever can be looked at answers HEAD as it answers GET, without the body."""
    answer = send(served, replace(row, method="HEAD"), prefix)
    assert (answer.status_code, answer.content) == (row.status, b"")
    for name, value in row.headers.items():
        assert answer.headers[name] == value


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if route.path.startswith("/sandboxes/{id}")],
    ids=lambda route: f"{route.method} {route.path}",
)
def test_what_is_deleted_is_not_found(served: Served, route: Route) -> None:
    """404 on every route of a sandbox that was there a moment ago."""
    box = make(served)
    url = f"{served.url}/v1/sandboxes/{box}"
    assert requests.delete(url, headers=HEADERS, timeout=PATIENCE).status_code == 204
    path = route.path.replace("{id}", box).replace("{port}", "80")
    body = REQUESTS.get((route.method, route.path))
    answer = requests.request(route.method, f"{served.url}/v1{path}", json=body, headers=HEADERS, timeout=PATIENCE)
    assert (answer.status_code, answer.json()["code"]) == (404, NOT_FOUND)


def shape(path: str) -> tuple[str, ...]:
    """A path without what stands for something."""
    names = ("tpl-1", "p", "80", "8080", "44772", "0", "65536", "port")
    return tuple("*" if part.startswith("{") or part in names else part for part in path.partition("?")[0].split("/"))


def test_every_route_is_a_row() -> None:
    """A route that is added has its rows here, or is one that the released server lacks."""
    asked = {(row.method, shape(row.path)) for row in ROWS}
    missing = {(route.method, route.path) for route in ROUTES if (route.method, shape(route.path)) not in asked}
    assert {path for _, path in missing} == OWN
