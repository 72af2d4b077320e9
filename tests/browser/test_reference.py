"""The reference pages in a browser: everything is there, opens, and comes from the server itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import ConsoleMessage, Page, expect

from manager.api.routes import ROUTES
from tests.manager.served import Served, serve

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a key, which the pages do not need."""
    with serve(tmp_path_factory.mktemp("reference"), server={"api_key": "the-key-of-tests"}) as server:
        yield server


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_a_page_needs_nobody_else(page: Page, served: Served, path: str) -> None:
    """Every operation with its example opens; no request leaves the server, none fails, and the console stays empty."""
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(_words(message)))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
    answer = await page.goto(served.url + path, wait_until="networkidle")
    assert answer is not None
    assert answer.status == 200
    operations = page.locator("details:has(h4)")
    await expect(operations).to_have_count(len(ROUTES))
    create = operations.filter(has_text="POST /sandboxes Creates")
    await create.locator("summary").click()
    await expect(create.get_by_text('"uri": "python:3.11-slim"')).to_be_visible()
    await create.locator("a", has_text="CreateSandboxRequest").click()
    assert page.url.endswith("#CreateSandboxRequest")
    assert said == []
    assert asked
    assert [url for url in asked if not url.startswith(served.url + "/")] == []


async def test_the_page_leads_to_the_document(page: Page, served: Served) -> None:
    """Its link to the machine-readable form works without a key."""
    await page.goto(f"{served.url}/docs")
    async with page.expect_response(f"{served.url}/openapi.json") as waiting:
        await page.get_by_role("link", name="/openapi.json").click()
    assert (await (await waiting.value).json())["openapi"].startswith("3.1")


def _words(message: ConsoleMessage) -> str:
    return f"{message.type}: {message.text}"
