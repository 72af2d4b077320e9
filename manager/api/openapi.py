"""The OpenAPI 3.1 document, made from the route table and the models that serve the requests. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from manager.api.auth import KEY_HEADER
from manager.api.call import PREFIX, NoBody, NoQuery
from manager.api.examples import ANSWERS, FAILURES, REQUESTS, TEXTS
from manager.api.ownership import About
from manager.api.routes import Route
from manager.api.schemas.base import OptionalBody
from manager.api.schemas.server import ErrorView

JSON = "application/json"

_PLACEHOLDER = re.compile(r"{(\w+)}")
_REFERENCE = "#/components/schemas/{model}"
_SHARED_ERRORS = (401, 403, 421, 429, 500)
"""The error statuses of every route that requires a key."""

_PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "id": {"type": "string", "description": "The id that the create answered."},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535, "description": "The port inside the sandbox."},
    "name": {"type": "string"},
}
_HEADERS = {
    ("POST", "/sandboxes"): (
        ("Prefer", "`respond-async` answers at once, while the sandbox is Pending."),
        ("Idempotency-Key", "A create that is sent again with the same key makes no second sandbox."),
    ),
    ("GET", "/sandboxes/events"): (("Last-Event-ID", "The last event that was seen: the stream goes on after it."),),
}


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The whole document."""
    rows = list(routes)
    models = sorted({model for row in rows for model in _models(row)} | {ErrorView}, key=lambda model: model.__name__)
    schemas, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REFERENCE, by_alias=True
    )
    named = {model: schemas[model, "validation"] for model in models}
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, named)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "OpenSandbox lifecycle API",
            "version": version,
            "description": f"Every path is served bare and under `{PREFIX}`, but for those of the server itself.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": PREFIX}],
        "security": [{"key": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _models(row: Route) -> list[type[BaseModel]]:
    _, body = row.models
    return [model for model in (body, row.answer) if model is not None and model is not NoBody]


def _operation(row: Route, named: dict[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
    summary, _, rest = (row.handler.__doc__ or "").strip().partition("\n")
    query, body = row.models
    operation: dict[str, Any] = {
        "operationId": _operation_id(row),
        "tags": [row.tag],
        "summary": summary,
        "parameters": [*_path_parameters(row), *_query_parameters(query), *_header_parameters(row)],
        "responses": _responses(row, named),
    }
    if rest.strip():
        operation["description"] = " ".join(rest.split())
    if body is not NoBody:
        optional = issubclass(body, OptionalBody)
        schema = {"anyOf": [named[body], {"type": "null"}]} if optional else named[body]
        content = {"schema": schema, "example": REQUESTS[row.method, row.path]}
        operation["requestBody"] = {"required": not optional, "content": {JSON: content}}
    if row.open:
        operation["security"] = []
    if PREFIX not in row.under:
        operation["servers"] = [{"url": "/"}]
    return operation


def _operation_id(row: Route) -> str:
    words = [word for word in re.split(r"\W+", row.path) if word]
    return "_".join([row.method.lower(), *(word.replace("-", "_") for word in words)])


def _path_parameters(row: Route) -> list[dict[str, Any]]:
    found = []
    for name in _PLACEHOLDER.findall(row.path):
        schema = dict(_PATH_PARAMETERS[name])
        description = schema.pop("description", "")
        found.append(
            {"name": name, "in": "path", "required": True, "schema": schema}
            | ({"description": description} if description else {})
        )
    return found


def _query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    if model is NoQuery:
        return []
    properties = model.model_json_schema(by_alias=True)["properties"]
    parameters = []
    for name, schema in properties.items():
        plain = {key: value for key, value in _without_null(schema).items() if key not in ("title", "description")}
        parameter = {"name": name, "in": "query", "required": False, "schema": plain}
        parameters.append(parameter | {key: schema[key] for key in ("description",) if key in schema})
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: what may be null may be left out."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    if len(kinds) == 1:
        return {**kinds[0], **rest}
    return {**rest, "default": schema["default"]} if schema.get("default") is not None else rest


def _header_parameters(row: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}
        for name, text in _HEADERS.get((row.method, row.path), ())
    ]


def _responses(row: Route, named: dict[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
    shared = () if row.open else _SHARED_ERRORS
    ended = (410,) if row.about is About.SANDBOX else ()
    statuses = sorted({*row.errors, *shared, *ended, *_reading_errors(row)})
    answers = {str(status): _failure(status, named) for status in statuses}
    if row.status < 400:
        answers[str(row.status)] = _success(row, named)
    if row.open and row.answer is not None and 503 in row.errors:
        answers["503"] = {**_success(row, named), "description": _phrase(503)}
    return dict(sorted(answers.items()))


def _reading_errors(row: Route) -> set[int]:
    """The error statuses of reading the request itself."""
    query, body = row.models
    return ({400} if query is not NoQuery or "{port}" in row.path else set()) | (
        {400, 413} if body is not NoBody else set()
    )


def _success(row: Route, named: dict[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if row.answer is not None:
        content[JSON] = {"schema": named[row.answer], "example": ANSWERS[row.method, row.path]}
    if row.media != JSON:
        content[row.media] = {"schema": {"type": "string"}, "example": TEXTS[row.method, row.path]}
    return {"description": _phrase(row.status)} | ({"content": content} if content else {})


def _failure(status: int, named: dict[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
    code, message = FAILURES[status]
    content = {"schema": named[ErrorView], "example": {"code": code, "message": message}}
    return {"description": _phrase(status), "content": {JSON: content}}


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase
