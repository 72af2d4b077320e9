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
    ("POST", "/sandboxes/{id}/snapshots"): {**_SNAPSHOT_VIEW, "status": {"state": "Creating"}},
    ("GET", "/snapshots"): {"items": [_SNAPSHOT_VIEW], "pagination": _PAGE},
    ("GET", "/snapshots/{id}"): _SNAPSHOT_VIEW,
    ("GET", "/sandboxes/{id}/diagnostics/logs"): _DIAGNOSTICS,
    ("GET", "/sandboxes/{id}/diagnostics/events"): {**_DIAGNOSTICS, "kind": "events", "scope": "runtime"},
    **{(method, "/sandboxes/{id}/networkpolicy"): _POLICY_STATE for method in ("GET", "PUT", "PATCH", "DELETE")},
    ("GET", "/health"): {"status": "healthy"},
    ("GET", "/ready"): {"status": "ready"},
    ("GET", "/version"): {"version": "1.0.0"},
}
"""Bodies of good answers by method and path."""
