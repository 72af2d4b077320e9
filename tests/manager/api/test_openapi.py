"""The document says what is served, no more and no less, and every operation has an example that conforms."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from manager.api.routes import ROUTES
from tests.manager.api.conftest import Api, OpenApi

LOADING = re.compile(r"""<(?:script|img|iframe|object|embed)|\ssrc=|href=["'](?![#/]|data:)|@import|url\(""")
"""What makes a browser run or fetch something."""


@pytest.fixture
async def document(api: Api) -> dict[str, Any]:
    """The document as it is served."""
    status, body = await api.call("GET", "/openapi.json")
    assert status == 200
    return dict(body)


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


async def test_it_is_valid(document: dict[str, Any]) -> None:
    """OpenAPI 3.1, by somebody else's validator."""
    OpenAPIV31SpecValidator(document).validate()


async def test_it_says_what_is_served(api: Api, document: dict[str, Any]) -> None:
    """The router's routes, the table and the document agree."""
    served = {
        (route.method, route.resource.canonical)
        for route in api.client.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert served == {(route.method, path) for route in ROUTES for path in route.paths}
    assert operations(document).keys() == {(route.method, route.path) for route in ROUTES}


async def test_it_says_where(document: dict[str, Any]) -> None:
    """Each operation is at one of the prefixes it is served at: `/v1` wherever that is one."""
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        (server,) = operation.get("servers", document["servers"])
        assert server["url"] == ("/v1" if "/v1" in route.under else "/"), route.path


async def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    """Generators of clients name their functions by them."""
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)


async def test_examples_conform(document: dict[str, Any]) -> None:
    """Every body, of requests, of answers and of failures, has an example, and it matches its schema."""
    for key, operation in operations(document).items():
        for body in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in body.get("content", {}).values():
                schema = {**content["schema"], "components": document["components"]}
                assert Draft202012Validator(schema).is_valid(content["example"]), key


async def test_only_empty_answers_have_no_body(document: dict[str, Any]) -> None:
    """What is answered with a body is described."""
    bodiless = {
        (operation["operationId"], status)
        for operation in operations(document).values()
        for status, answer in operation["responses"].items()
        if "content" not in answer
    }
    assert {status for _, status in bodiless} <= {"202", "204"}
    assert {name for name, status in bodiless if status == "202"} == {
        "post_sandboxes_id_pause",
        "post_sandboxes_id_resume",
    }


async def test_example_requests_work(api: Api, document: dict[str, Any]) -> None:
    """The create that is shown can be sent."""
    example = document["paths"]["/sandboxes"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert (await api.call("POST", "/sandboxes", json=example))[0] == 202


async def test_open_routes_are_marked(open_api: OpenApi) -> None:
    """What asks for no key says so, and can be read without one."""
    api = await open_api(server={"api_key": "k"})
    _, document = await api.call("GET", "/openapi.json")
    open_paths = {path for (_, path), operation in operations(document).items() if operation.get("security") == []}
    assert open_paths == {"/health", "/ready", "/version", "/docs", "/redoc", "/openapi.json"}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_page_needs_nothing_from_elsewhere(api: Api, path: str) -> None:
    """One static page that names every operation, loads nothing and may run nothing."""
    async with api.client.get(path) as response:
        text = await response.text()
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert all(f"{route.method} {route.path}" in text for route in ROUTES)
    assert not LOADING.findall(text)
