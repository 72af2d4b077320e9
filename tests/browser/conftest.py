"""A browser for the session, a page for each test, and what they open; every page leaves a screenshot behind."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import uvloop
from playwright.async_api import Browser, Page, async_playwright

from tests.browser.devsite import DevSite
from tests.browser.stage import Form, Stage

ARTEFACTS: Final = Path(__file__).parent.parent / "artefacts"
LAUNCHER: Final = Path(__file__).parent / "steady_chromium.py"
ARGUMENTS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
]
PATIENCE_MS: Final = 10_000
DEV: Final = "dev"
DEV_PORT: Final = 3000


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The gateway runs on the loop it is made for."""
    return {"uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's own Chromium, which asks nobody but this machine."""
    if shutil.which("chromium") is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=LAUNCHER, args=ARGUMENTS)
        yield made
        await made.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage() -> AsyncIterator[Stage]:
    """A gateway without sandboxes yet."""
    made = Stage()
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def started_site(stage: Stage) -> AsyncIterator[DevSite]:
    """The development server; `site` starts it."""
    made = DevSite()
    yield made
    await made.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def site(stage: Stage, started_site: DevSite) -> DevSite:
    """The development server behind a port of an open sandbox, without memory of earlier tests."""
    await started_site.start()
    started_site.forget()
    stage.put(DEV, {DEV_PORT: started_site.port})
    return started_site


@pytest.fixture(params=list(Form), ids=lambda form: form.value)
def form(request: pytest.FixtureRequest) -> Form:
    """Each way of addressing in turn."""
    found: Form = request.param
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """A page in a profile of its own; afterwards its picture is kept, and its complaints are shown on failure."""
    context = await browser.new_context(accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)
    made = await context.new_page()
    complaints: list[str] = []
    _listen(made, complaints)
    yield made
    await keep_picture(made, request.node.name)
    request.node.add_report_section("teardown", "browser", "\n".join([f"at {made.url}", *complaints]))
    await context.close()


async def keep_picture(page: Page, name: str) -> None:
    """Keeps what the page looks like now."""
    ARTEFACTS.mkdir(exist_ok=True)
    await page.screenshot(path=ARTEFACTS / f"{_file_name(name)}.png")


def _listen(page: Page, complaints: list[str]) -> None:
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("requestfailed", lambda failed: complaints.append(f"failed: {failed.url} {failed.failure}"))
    page.on("response", lambda answer: _note_status(answer, complaints))


def _note_status(answer: Any, complaints: list[str]) -> None:
    if answer.status >= 300:
        complaints.append(f"{answer.status}: {answer.request.method} {answer.url}")


def _file_name(test: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", test).strip("-")
