"""What a person sees while a sandbox cannot answer: a page that says why, and that goes on by itself when it can."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from gateway.table import Removal, RouteState
from tests.browser.conftest import DEV, DEV_PORT, keep_picture
from tests.browser.devsite import DevSite
from tests.browser.stage import Form, Stage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]
PATIENCE_MS = 20_000
TOKEN = b"a token"
EXPIRED = 1


async def shown(page: Page, site: DevSite, name: str, title: str) -> None:
    """The page in the browser is ours, says `title`, and not where the sandbox is; its picture is kept."""
    await expect(page).to_have_title(title)
    await expect(page.locator("h1")).to_have_text(title)
    assert str(site.port) not in await page.content()
    await keep_picture(page, name)


async def comes_up(page: Page) -> None:
    """The page becomes the application's without anybody touching it."""
    await expect(page).to_have_title("Dev page", timeout=PATIENCE_MS)


async def test_a_starting_sandbox(stage: Stage, site: DevSite, page: Page) -> None:
    """While the sandbox starts the page says so; when it runs, the application appears."""
    stage.put(DEV, {DEV_PORT: site.port}, state=RouteState.STARTING)
    await page.goto(stage.address(Form.HOST, DEV, DEV_PORT))
    await shown(page, site, "page-starting", "Sandbox is starting")
    stage.put(DEV, {DEV_PORT: site.port})
    await comes_up(page)


async def test_a_paused_sandbox(stage: Stage, site: DevSite, page: Page) -> None:
    """While the sandbox is paused the page says so; after somebody resumed it, the application appears."""
    stage.put(DEV, {DEV_PORT: site.port}, state=RouteState.PAUSED)
    await page.goto(stage.address(Form.URI, DEV, DEV_PORT))
    await shown(page, site, "page-paused", "Sandbox is paused")
    stage.put(DEV, {DEV_PORT: site.port})
    await comes_up(page)


async def test_a_program_that_does_not_listen_yet(stage: Stage, site: DevSite, page: Page) -> None:
    """While nothing listens on the port the page says what to check; when the program has started, it appears."""
    await site.stop()
    await page.goto(stage.address(Form.PROXY, DEV, DEV_PORT))
    await shown(page, site, "page-not-listening", "Nothing is listening on this port")
    await site.start()
    await comes_up(page)


async def test_a_deleted_sandbox(stage: Stage, site: DevSite, page: Page) -> None:
    """A page whose sandbox is deleted hears it on its socket, and says so after a reload."""
    await page.goto(stage.address(Form.HOST, DEV, DEV_PORT))
    await page.wait_for_function("window.updates && window.updates.includes('connected')")
    stage.table.remove(DEV, Removal.DELETED)
    await page.wait_for_function("window.socketClosed")
    assert await page.evaluate("window.socketClosed") == {"code": 1001, "reason": "sandbox deleted"}
    await page.reload()
    await shown(page, site, "page-deleted", "Sandbox deleted")


async def test_an_address_without_credential(stage: Stage, site: DevSite, page: Page) -> None:
    """A sandbox that asks for a credential tells people to ask for a link."""
    stage.put(DEV, {DEV_PORT: site.port}, token=TOKEN)
    await page.goto(stage.address(Form.HOST, DEV, DEV_PORT))
    await shown(page, site, "page-denied", "Access denied")


async def test_an_expired_link(stage: Stage, site: DevSite, page: Page) -> None:
    """A signed link that is past its time does not let anybody in."""
    stage.put(DEV, {DEV_PORT: site.port}, token=TOKEN)
    await page.goto(stage.address(Form.URI, DEV, DEV_PORT, expires=EXPIRED))
    await shown(page, site, "page-expired-link", "Access denied")


async def test_an_unknown_sandbox(stage: Stage, site: DevSite, page: Page) -> None:
    """An address of no sandbox says so."""
    await page.goto(stage.address(Form.HOST, "nobody", DEV_PORT))
    await shown(page, site, "page-unknown", "Sandbox not found")
