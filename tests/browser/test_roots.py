"""A program that believes to live at the root of its origin stays where it is: redirects, cookies, reloads."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import DEV, DEV_PORT
from tests.browser.devsite import DevSite
from tests.browser.stage import Form, Stage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]
OTHER = "other"
LOGGED_IN = {"session": "s3same", "theme": "dark"}


def cookies_of(header: str) -> dict[str, str]:
    """The cookies in the value of a Cookie header."""
    return dict(pair.strip().split("=", 1) for pair in header.split(";") if pair)


async def test_a_redirect_stays_inside(stage: Stage, site: DevSite, page: Page, form: Form) -> None:
    """A redirect to a path from the root ends at that path of the same sandbox."""
    await page.goto(stage.address(form, DEV, DEV_PORT, "/login"))
    assert page.url == stage.address(form, DEV, DEV_PORT, "/welcome")
    await expect(page).to_have_title("About")


async def test_a_redirect_to_its_own_host_stays_inside(stage: Stage, site: DevSite, page: Page, form: Form) -> None:
    """So does one to an absolute address that the program made from the Host it sees."""
    await page.goto(stage.address(form, DEV, DEV_PORT, "/elsewhere"))
    assert page.url == stage.address(form, DEV, DEV_PORT, "/about")


async def test_links_from_the_root_stay_inside(stage: Stage, site: DevSite, page: Page, form: Form) -> None:
    """A click on a link to a path from the root opens that path of the same sandbox, and so does the way back."""
    await page.goto(stage.address(form, DEV, DEV_PORT))
    await page.click("a#about")
    await expect(page).to_have_title("About")
    assert page.url == stage.address(form, DEV, DEV_PORT, "/about")
    await page.reload()
    await expect(page).to_have_title("About")


async def test_a_missing_slash_is_added(stage: Stage, site: DevSite, page: Page, form: Form) -> None:
    """An address that ends with the port opens the program's root, with relative links that work."""
    await page.goto(stage.address(form, DEV, DEV_PORT, ""))
    await page.wait_for_function("window.relativeLoaded")
    assert page.url == stage.address(form, DEV, DEV_PORT, "/")


async def test_a_login_lasts(stage: Stage, site: DevSite, page: Page, form: Form) -> None:
    """Cookies that the program sets come back to it, and nothing of ours with them."""
    await page.goto(stage.address(form, DEV, DEV_PORT, "/login"))
    await page.goto(stage.address(form, DEV, DEV_PORT, "/about"))
    assert cookies_of(site.seen("/about").headers["Cookie"]) == LOGGED_IN


async def test_cookies_are_confined(stage: Stage, site: DevSite, page: Page, form: Form) -> None:
    """Cookies that one sandbox sets are not sent to another, which may belong to somebody else."""
    stage.put(OTHER, {DEV_PORT: site.port})
    await page.goto(stage.address(form, DEV, DEV_PORT, "/login"))
    site.forget()
    await page.goto(stage.address(form, OTHER, DEV_PORT, "/about"))
    assert "Cookie" not in site.seen("/about").headers
