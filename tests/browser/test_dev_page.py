"""A development server's page works through every way of addressing, as it does at the root of an origin of its own."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from tests.browser.conftest import DEV, DEV_PORT
from tests.browser.devsite import DevSite
from tests.browser.stage import Form, Stage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


async def test_every_asset_loads(stage: Stage, site: DevSite, page: Page, form: Form) -> None:
    """Style sheet, image, modules and calls arrive, whether the page addresses them from the root or beside itself."""
    await page.goto(stage.address(form, DEV, DEV_PORT))
    await page.wait_for_function("window.report && 'call' in window.report")
    assert await page.evaluate("window.report") == {"style": True, "image": True, "relative": True, "call": True}
    assert await page.text_content("#widget") == site.widget
    assert site.seen("/assets/stripe.svg").method == "GET", "an asset that a style sheet asks for"


async def test_the_update_socket_delivers(stage: Stage, site: DevSite, page: Page, form: Form) -> None:
    """An edit reaches the open page over the WebSocket, and the changed module is loaded without a reload."""
    await page.goto(stage.address(form, DEV, DEV_PORT))
    await page.wait_for_function("window.updates && window.updates.includes('connected')")
    await page.evaluate("window.stays = true")
    await site.edit("second")
    await page.wait_for_function("document.querySelector('#widget').textContent === 'second'")
    assert await page.evaluate("window.stays")


async def test_events_tick(stage: Stage, site: DevSite, page: Page, form: Form) -> None:
    """A stream of events arrives as it is sent, not when it ends."""
    await page.goto(stage.address(form, DEV, DEV_PORT))
    await page.wait_for_function("window.ticks >= 3")
