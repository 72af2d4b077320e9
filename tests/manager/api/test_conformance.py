"""Property tests from our own document: whatever is sent, no answer is a bug of ours and every answer is as documented.

The requests are schemathesis's, made from the document; they go through the gateway to the whole server.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError
from schemathesis.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from schemathesis.core.failures import AcceptedNegativeData

from gateway.access.token_bucket import TokenBuckets
from manager.api.auth import KEY_HEADER
from manager.api.call import PREFIX
from manager.api.openapi import document
from manager.api.routes import ROUTES
from tests.manager.api.conftest import plain
from tests.manager.served import Served, serve

EXAMPLES = 15


def refuses_what_does_not_conform(context: Any, response: Any, case: Any) -> bool | None:
    """As schemathesis sees it, but for numbers and booleans in other spellings, which clients have always sent."""
    try:
        return bool(negative_data_rejection(context, response, case))
    except AcceptedNegativeData:
        if spelled_otherwise(case.body, DOCUMENT["paths"][case.operation.path][case.operation.method]):
            return None
        raise


def spelled_otherwise(body: Any, operation: dict[str, Any]) -> bool:
    """Whether all that is wrong with a body is `"60"` for 60, or 1 for true."""
    content = operation.get("requestBody", {}).get("content", {})
    schemas = [{**each["schema"], "components": DOCUMENT["components"]} for each in content.values()]
    errors = [error for schema in schemas for error in Draft202012Validator(schema).iter_errors(body)]
    return bool(errors) and all(is_spelling(error.instance, error.schema) for error in errors)


def is_spelling(value: Any, schema: Any) -> bool:
    """Whether a value that is not of the type the schema names is read as one."""
    return isinstance(value, str | int | float) and any(reads(kind, value) for kind in SPELLED if kind in str(schema))


def reads(kind: str, value: Any) -> bool:
    try:
        SPELLED[kind].validate_python(value)
    except ValidationError:
        return False
    return True


SPELLED: dict[str, TypeAdapter[Any]] = {
    f"'type': '{name}'": TypeAdapter(kind) for name, kind in (("boolean", bool), ("integer", int), ("number", float))
}
DOCUMENT = document(ROUTES, "0")
CHECKS = [
    ignored_auth,
    refuses_what_does_not_conform,
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
KEY = "the-key-of-tests"
HEADERS = {KEY_HEADER: KEY}
ENDLESS = "/sandboxes/events"
KUBERNETES = "Kubernetes only"

fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for all of this file."""
    with serve(tmp_path_factory.mktemp("served"), server={"api_key": KEY}) as server:
        # Of wrong keys there are many here; how many one address may send is another test's.
        server.house.services.guesses._spent = TokenBuckets(math.inf, 1.0, 1)
        yield server


# The streaming operation is left out: its answer never ends.
schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(path=ENDLESS)


def existing(served: Served, path: str) -> str:
    """The id of a sandbox, or of a snapshot, that exists now."""
    if "/snapshots/" in path:
        box = existing(served, "")
        made = requests.post(f"{served.url}/sandboxes/{box}/snapshots", headers=HEADERS, timeout=5).json()
        return str(made["id"])
    boxes = list(served.house.runtime.sandboxes)
    if boxes:
        return boxes[0]
    made = requests.post(f"{served.url}/sandboxes", json=plain(timeout=86400), headers=HEADERS, timeout=5)
    return str(made.json()["id"])


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
    case.call_and_validate(base_url=base(served, case), checks=checks, headers=HEADERS, timeout=10)


def base(served: Served, case: Any) -> str:
    """Where the document says that the operation is."""
    (server,) = case.operation.definition.raw.get("servers", [{"url": PREFIX}])
    return served.url + str(server["url"]).rstrip("/")
