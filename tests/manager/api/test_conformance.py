"""Property tests from our own document: whatever is sent, no answer is a bug of ours and every answer is as documented.

The requests are schemathesis's, made from the document; they go through the gateway to the whole server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from manager.api.openapi import document
from manager.api.routes import ROUTES
from tests.manager.api.conftest import plain
from tests.manager.served import Served, serve

EXAMPLES = 15
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
ENDLESS = "/sandboxes/events"
KUBERNETES = "Kubernetes only"

fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for all of this file."""
    with serve(tmp_path_factory.mktemp("served")) as server:
        yield server


# The streaming operation is left out: its answer never ends.
schema = schemathesis.openapi.from_dict(document(ROUTES, "0")).exclude(path=ENDLESS)


def existing(served: Served, path: str) -> str:
    """The id of a sandbox, or of a snapshot, that exists now."""
    if "/snapshots/" in path:
        box = existing(served, "")
        made = requests.post(f"{served.url}/sandboxes/{box}/snapshots", timeout=5).json()
        return str(made["id"])
    boxes = list(served.house.runtime.sandboxes)
    if boxes:
        return boxes[0]
    return str(requests.post(f"{served.url}/sandboxes", json=plain(timeout=86400), timeout=5).json()["id"])


@pytest.mark.timeout(120)
@schema.parametrize()
@fuzzed
def test_any_request(served: Served, case: Any) -> None:
    """Ids of nobody, fields of any kind."""
    _send(served, case)


@pytest.mark.timeout(120)
@schema.parametrize()
@fuzzed
def test_any_request_about_what_exists(served: Served, case: Any) -> None:
    """The same about a sandbox or a snapshot that is there."""
    if "id" in (case.path_parameters or {}):
        case.path_parameters["id"] = existing(served, case.operation.path)
    if case.query and "wait" in case.query:
        case.query["timeout"] = 0
    _send(served, case)


def _send(served: Served, case: Any) -> None:
    checks = list(CHECKS)
    if KUBERNETES in (case.operation.definition.raw.get("tags") or []):
        checks.remove(not_a_server_error)  # 501 is the answer there
    case.call_and_validate(base_url=f"{served.url}/v1", checks=checks, timeout=10)
