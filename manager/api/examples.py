"""What the document shows for each operation: a request that works and the answer to it."""

from __future__ import annotations

from typing import Any

_ID = "7b24d66f-2f7c-4d2e-9d57-6a3f0c1be1f0"
_SNAPSHOT = "1f6a2c3e-8d0b-4b7a-9c3d-2e5f4a6b7c8d"
_AT = "2030-01-01T12:00:00Z"
_PAGE = {"page": 1, "pageSize": 20, "totalItems": 1, "totalPages": 1, "hasNextPage": False}

_CREATED = {
    "id": _ID,
    "status": {
        "state": "Running",
        "reason": "CONTAINER_RUNNING",
        "message": "Sandbox container is running.",
        "lastTransitionAt": _AT,
    },
    "metadata": {"team": "search"},
    "createdAt": _AT,
    "expiresAt": "2030-01-01T13:00:00Z",
    "entrypoint": ["python", "-m", "http.server", "8080"],
}
_SANDBOX = {**_CREATED, "image": {"uri": "python:3.11-slim"}}
_SNAPSHOT_VIEW = {
    "id": _SNAPSHOT,
    "sandboxId": _ID,
    "name": "before-upgrade",
    "status": {"state": "Ready", "reason": "snapshot_runtime_ready", "lastTransitionAt": _AT},
    "createdAt": _AT,
}
_DIAGNOSTICS = {
    "sandboxId": _ID,
    "kind": "logs",
    "scope": "container",
    "delivery": "inline",
    "contentType": "text/plain; charset=utf-8",
    "content": "2030-01-01T12:00:00Z ready\n",
    "contentLength": 27,
    "truncated": False,
}
_POLICY = {"defaultAction": "deny", "egress": [{"action": "allow", "target": "*.example.org"}]}
_LIMITS = {"limits": {"access.limit.requests.per.second": "10"}}
_POLICY_STATE = {"status": "ok", "mode": "dns+nft", "policy": _POLICY}

_CAPACITY = {"bufferMax": 4, "bufferMin": 2, "poolMax": 20, "poolMin": 2}

REQUESTS: dict[tuple[str, str], Any] = {
    ("POST", "/sandboxes"): {
        "image": {"uri": "python:3.11-slim"},
        "entrypoint": ["python", "-m", "http.server", "8080"],
        "timeout": 3600,
        "resourceLimits": {"cpu": "500m", "memory": "512Mi"},
        "metadata": {"team": "search"},
    },
    ("PATCH", "/sandboxes/{id}/metadata"): {"team": "ads", "old-key": None},
    ("POST", "/sandboxes/{id}/renew-expiration"): {"expiresAt": "2030-01-01T14:00:00Z"},
    ("POST", "/sandboxes/{id}/snapshots"): {"name": "before-upgrade"},
    ("PATCH", "/sandboxes/{id}/access"): {
        "limits": {"access.limit.requests.per.second": "10", "access.limit.methods": None}
    },
    ("POST", "/pools"): {
        "name": "python",
        "template": {"spec": {"containers": [{"name": "sandbox", "image": "python:3.11-slim"}]}},
        "capacitySpec": _CAPACITY,
    },
    ("PUT", "/pools/{name}"): {"capacitySpec": _CAPACITY},
    ("POST", "/templates"): {"image": "python:3.11-slim", "publish": "s3://bucket/publish"},
    ("POST", "/metrics/events"): {"eventType": "sandbox.create", "createDurationMs": 412, "success": True},
    ("PUT", "/sandboxes/{id}/networkpolicy"): _POLICY,
    ("PATCH", "/sandboxes/{id}/networkpolicy"): [{"action": "allow", "target": "*.example.org"}],
    ("DELETE", "/sandboxes/{id}/networkpolicy"): ["*.example.org"],
}
"""Bodies by method and path."""

ANSWERS: dict[tuple[str, str], Any] = {
    ("POST", "/sandboxes"): _CREATED,
    ("GET", "/sandboxes"): {"items": [_SANDBOX], "pagination": _PAGE},
    ("GET", "/sandboxes/{id}"): _SANDBOX,
    ("PATCH", "/sandboxes/{id}/metadata"): {**_SANDBOX, "metadata": {"team": "ads"}},
    ("POST", "/sandboxes/{id}/renew-expiration"): {"expiresAt": "2030-01-01T14:00:00Z"},
    ("GET", "/sandboxes/{id}/endpoints/{port}"): {"endpoint": "203.0.113.5:40123"},
    ("GET", "/sandboxes/{id}/access"): _LIMITS,
    ("PATCH", "/sandboxes/{id}/access"): _LIMITS,
    ("GET", "/sandboxes/{id}/traffic"): {"requests": 12, "bytesIn": 3400, "bytesOut": 91000, "openConnections": 1},
    ("GET", "/events"): {
        "items": [
            {
                "id": 41,
                "time": "2030-01-01T12:00:00.120000Z",
                "sandboxId": _ID,
                "from": "Running",
                "to": "Stopping",
                "cause": "api",
                "message": "The sandbox is being deleted.",
                "actor": "default",
                "requestId": "7d2c5a1e0b8f4c66",
            }
        ],
        "next": 41,
    },
    ("POST", "/sandboxes/{id}/snapshots"): {**_SNAPSHOT_VIEW, "status": {"state": "Creating"}},
    ("GET", "/snapshots"): {"items": [_SNAPSHOT_VIEW], "pagination": _PAGE},
    ("GET", "/snapshots/{id}"): _SNAPSHOT_VIEW,
    ("GET", "/sandboxes/{id}/diagnostics/logs"): _DIAGNOSTICS,
    ("GET", "/sandboxes/{id}/diagnostics/events"): {**_DIAGNOSTICS, "kind": "events", "scope": "runtime"},
    **{(method, "/sandboxes/{id}/networkpolicy"): _POLICY_STATE for method in ("GET", "PUT", "PATCH", "DELETE")},
    ("GET", "/health"): {"status": "healthy"},
    ("GET", "/ready"): {"status": "ready"},
    ("GET", "/version"): {"version": "1.0.0"},
    ("GET", "/openapi.json"): {"openapi": "3.1.0", "info": {"title": "OpenSandbox lifecycle API", "version": "1.0.0"}},
}
"""Bodies of good answers by method and path."""

TEXTS: dict[tuple[str, str], str] = {
    ("GET", "/sandboxes/events"): (
        f'event: reset\ndata: {{}}\n\nevent: gone\nid: 5f2c.41\ndata: {{"id": "{_ID}", "reason": "expired"}}\n\n'
    ),
    ("GET", "/sandboxes/{id}/diagnostics/logs"): "2030-01-01T12:00:00.000000000Z ready\n",
    ("GET", "/sandboxes/{id}/diagnostics/events"): f"Sandbox: {_ID}\nStatus: Running (CONTAINER_RUNNING)\n",
    ("GET", "/sandboxes/{id}/diagnostics/inspect"): f"Sandbox: {_ID}\nStatus: Running (CONTAINER_RUNNING)\n",
    ("GET", "/sandboxes/{id}/diagnostics/summary"): f"== Inspect ==\nSandbox: {_ID}\n",
    ("GET", "/metrics"): 'opensandbox_sandboxes{state="Running"} 1.0\n',
    ("GET", "/docs"): "<!doctype html>",
    ("GET", "/redoc"): "<!doctype html>",
}
"""The same where the answer is a text."""

FAILURES = {
    400: ("SANDBOX::INVALID_PARAMETER", "timeout: must be at least 60, got 5"),
    401: (
        "MISSING_API_KEY",
        "Authentication credentials are missing.",
    ),
    403: ("API_KEY_READ_ONLY", "The API key 'dashboard' may only read."),
    404: ("DOCKER::SANDBOX_NOT_FOUND", f"Sandbox {_ID} not found."),
    409: ("DOCKER::SANDBOX_NOT_RUNNING", f"Sandbox {_ID} is Paused: pause is not possible in this state."),
    410: (
        "DOCKER::SANDBOX_EXPIRED",
        f"Sandbox {_ID} reached the end of its lifetime. Create a new one, with a longer timeout.",
    ),
    413: ("SERVER::BODY_TOO_LARGE", "the body is larger than 1048576 bytes"),
    421: ("MISDIRECTED_REQUEST", "This server has no API key, so it answers only under names that are its own."),
    429: ("SERVER::CAPACITY_REACHED", "server.max_sandboxes: 200 sandboxes exist; delete one first"),
    500: ("DOCKER::SANDBOX_START_FAILED", "Failed to create or start container: ..."),
    501: ("KUBERNETES::POOL_NOT_SUPPORTED", "Pool management requires the kubernetes runtime."),
    502: ("BACKEND_CONNECTION_FAILED", "The egress sidecar does not answer."),
    503: ("SERVER::STOPPING", "the server is stopping; try again shortly"),
    504: ("DOCKER::SANDBOX_IMAGE_PULL_TIMEOUT", "The pull of python:3.11-slim is not done after 600 seconds."),
}
"""One failure for each status: its code, and its message."""
