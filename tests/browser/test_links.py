"""A signed link opened in a browser lets a person in, with all that the page loads; the program sees nothing of it."""

from __future__ import annotations

import time

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import DEV, DEV_PORT
from tests.browser.devsite import DevSite
from tests.browser.stage import Form, Stage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]
TOKEN = b"a token"
HOUR = 3600
SIGNED_FORMS = [Form.HOST, Form.URI]
"""There is no signed proxy path."""


def link(stage: Stage, form: Form, path: str = "/") -> str:
    """A link that is good for an hour."""
    return stage.address(form, DEV, DEV_PORT, path, expires=int(time.time()) + HOUR)


@pytest.fixture
def closed(stage: Stage, site: DevSite) -> DevSite:
    """The development server in a sandbox that asks for a credential."""
    stage.put(DEV, {DEV_PORT: site.port}, token=TOKEN)
    return site


@pytest.fixture(params=SIGNED_FORMS, ids=lambda form: form.value)
def signed(request: pytest.FixtureRequest) -> Form:
    """Each way of addressing that can be signed."""
    found: Form = request.param
    return found


async def test_the_address_is_clean(stage: Stage, closed: DevSite, page: Page, signed: Form) -> None:
    """The signature leaves the address bar, path and query stay."""
    await page.goto(link(stage, signed, "/about?a=1&b=%20"))
    assert page.url == stage.address(signed, DEV, DEV_PORT, "/about?a=1&b=%20")
    await expect(page).to_have_title("About")


async def test_everything_on_the_page_works(stage: Stage, closed: DevSite, page: Page, signed: Form) -> None:
    """Sub-resources, calls, the event stream and the WebSocket are let in with the page."""
    await page.goto(link(stage, signed))
    await page.wait_for_function("window.report && 'call' in window.report && window.ticks >= 3")
    assert all((await page.evaluate("window.report")).values())
    await page.wait_for_function("window.updates.includes('connected')")


async def test_nothing_of_it_reaches_the_program(stage: Stage, closed: DevSite, page: Page, signed: Form) -> None:
    """Neither the cookie nor the signature is seen by the program, in no request of the page."""
    address = link(stage, signed)
    code = address.rsplit("/", 2)[-2].split(".")[0].rsplit("-", 1)[-1]
    await page.goto(address)
    await page.wait_for_function("window.report && 'call' in window.report && window.updates.includes('connected')")
    assert len(code) >= 9
    for request in closed.requests:
        assert "opensandbox" not in request.headers.get("Cookie", "")
        assert code not in f"{request.raw_path} {request.headers}"


async def test_scripts_cannot_read_the_cookie(stage: Stage, closed: DevSite, page: Page, signed: Form) -> None:
    """The cookie is out of reach for the program's own scripts."""
    await page.goto(link(stage, signed))
    assert await page.evaluate("document.cookie") == ""
    assert any(cookie["httpOnly"] for cookie in await page.context.cookies())


async def test_only_this_sandbox_is_open(stage: Stage, closed: DevSite, page: Page, signed: Form) -> None:
    """A cookie for one sandbox opens no other."""
    stage.put("other", {DEV_PORT: closed.port}, token=TOKEN)
    await page.goto(link(stage, signed))
    await page.goto(stage.address(signed, "other", DEV_PORT))
    await expect(page).to_have_title("Access denied")


async def test_the_cookie_ends_with_the_key(stage: Stage, closed: DevSite, page: Page, signed: Form) -> None:
    """Taking the key away closes the page's way in, although the cookie is still there."""
    await page.goto(link(stage, signed))
    await expect(page).to_have_title("Dev page")
    with stage.other_keys():
        await page.reload()
        await expect(page).to_have_title("Access denied")
