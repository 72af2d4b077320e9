"""The API on a real test server, over services on a fake runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from manager.api.app import build_app
from tests.manager.fake_runtime import FakeRuntime
from tests.manager.harness import House, open_house

Client = TestClient[Any, Any]


@dataclass
class Api:
    """A client of the API and what is behind it."""

    client: Client
    house: House

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON body of one call; None for an empty body."""
        async with self.client.request(method, path, **options) as response:
            return response.status, await _json(response)

    async def create(self, **changes: Any) -> dict[str, Any]:
        """A created sandbox as it was answered."""
        status, body = await self.call("POST", "/sandboxes", json=plain(**changes))
        assert status == 202, body
        return dict(body)


OpenApi = Callable[..., Awaitable[Api]]


def plain(**changes: Any) -> dict[str, Any]:
    """The body of a plain create; a change of None takes the field away."""
    body = {"image": {"uri": "image:1"}, "entrypoint": ["sleep", "9"], "timeout": 600, "resourceLimits": {}, **changes}
    return {key: value for key, value in body.items() if value is not None}


@pytest.fixture
async def open_api(tmp_path: Path) -> AsyncIterator[OpenApi]:
    """Opens the API with the given tables of settings; again, with the same runtime, it is a restart."""
    async with AsyncExitStack() as stack:

        async def open_one(runtime: FakeRuntime | None = None, **tables: Any) -> Api:
            await stack.aclose()
            house = await stack.enter_async_context(open_house(tmp_path, runtime, **tables))
            server = TestServer(build_app(house.services, house.services.settings))
            client = await stack.enter_async_context(TestClient(server))
            return Api(client, house)

        yield open_one


@pytest.fixture
async def api(open_api: OpenApi) -> Api:
    """The API with default settings."""
    return await open_api()


async def _json(response: ClientResponse) -> Any:
    raw = await response.read()
    return await response.json() if raw and response.content_type == "application/json" else None
