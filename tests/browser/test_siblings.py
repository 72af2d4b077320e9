"""A browser that holds the cookie of a signed link, and the page of another sandbox that would like to use it."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import PATIENCE_MS, keep_picture
from tests.browser.diary import Diary
from tests.browser.stage import Form, Stage
from tests.gateway.certificate import Files

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(90)]
VICTIM, EVIL, PORT = "victim", "evil", 8000
HOUR = 3600

ASK: Final = """
async ({kind, url}) => {
    const settled = (thing, good, bad) => new Promise((resolve) => {
        thing[good] = () => resolve(true); thing[bad] = () => resolve(false);
    });
    if (kind === "socket") {
        const socket = new WebSocket(url.replace(/^http/, "ws"));
        const opened = await settled(socket, "onopen", "onerror");
        socket.close();
        return opened;
    }
    if (kind === "img" || kind === "iframe") {
        const element = document.createElement(kind);
        element.src = url;
        const settling = settled(element, "onload", "onerror");
        document.body.append(element);
        await settling;
        return true;
    }
    const how = {credentials: "include", mode: kind.startsWith("blind") ? "no-cors" : "cors"};
    how.method = kind.endsWith("post") ? "POST" : "GET";
    if (how.method === "POST") how.body = "a=1";
    return await fetch(url, how).then((answer) => answer.ok, () => false);
}
"""
"""Makes the page send a request of a kind, and waits until it is known what became of it."""

KINDS: Final = {
    "fetch": "GET",
    "blind fetch": "GET",
    "post": "POST",
    "blind post": "POST",
    "img": "GET",
    "iframe": "GET",
    "socket": "WebSocket",
}
"""What a page can make a browser send, and as what the application sees it."""


BLIND: Final = {"blind fetch", "blind post", "img"}
"""Of these the page learns nothing, or not that they went well: what is answered is no image."""


class Scene:
    """A gateway with two sandboxes: one that asks for a credential, and a hostile one."""

    def __init__(self, stage: Stage, victim: Diary, *, plain: bool) -> None:
        self.stage, self.victim, self.plain = stage, victim, plain

    async def enter(self, page: Page, form: Form) -> None:
        """A person opens a signed link to the victim."""
        await page.goto(self.stage.address(form, VICTIM, PORT, "/", expires=int(time.time()) + HOUR))
        await expect(page).to_have_title("Diary")
        self.victim.seen.clear()
        self.victim.cookies.clear()

    def frames(self) -> list[tuple[str, str]]:
        """What the application sees of another page's frame: nothing where the browser says that it is one."""
        return [("GET", "/iframe")] if self.plain else []

    async def ask(self, page: Page, kind: str, form: Form) -> Any:
        """The page shown sends a request to the victim."""
        address = self.stage.address(form, VICTIM, PORT, f"/{kind.replace(' ', '-')}")
        return await page.evaluate(ASK, {"kind": kind, "url": address})


@pytest_asyncio.fixture(params=["http", "localhost", "https"], scope="module", loop_scope="session")
async def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Where browsers send fetch metadata (localhost, https) and where they do not; all hosts are of one site."""
    victim, evil = Diary(), Diary()
    await victim.start()
    await evil.start()
    domain = "sandbox.localhost" if request.param == "localhost" else "sandbox.test"
    tls = _context(tmp_path_factory.mktemp("tls")) if request.param == "https" else None
    stage = Stage(domain, f"gateway.{domain}", tls)
    await stage.start()
    stage.put(VICTIM, {PORT: victim.port}, token=b"a token")
    stage.put(EVIL, {PORT: evil.port})
    yield Scene(stage, victim, plain=request.param == "http")
    await stage.stop()
    await victim.stop()
    await evil.stop()


def _context(folder: Path) -> ssl.SSLContext:
    files = Files(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)
    return context


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """A page in a profile of its own, which takes a certificate that nobody has signed."""
    context = await browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE_MS)
    made = await context.new_page()
    yield made
    await keep_picture(made, request.node.name)
    await context.close()


@pytest.fixture(params=[Form.HOST, Form.URI], ids=lambda form: form.value)
def form(request: pytest.FixtureRequest) -> Form:
    """The ways of addressing that links are signed in."""
    found: Form = request.param
    return found


async def test_own_page(scene: Scene, page: Page, form: Form) -> None:
    """Whatever the page behind the link asks for is let in, its frames and sockets included."""
    await scene.enter(page, form)
    for kind in KINDS:
        assert await scene.ask(page, kind, form) or kind in BLIND
    assert scene.victim.seen == [(sent, f"/{kind.replace(' ', '-')}") for kind, sent in KINDS.items()]
    assert not any("opensandbox" in cookie for cookie in scene.victim.cookies)


async def test_sibling_on_a_host_of_its_own(scene: Scene, page: Page, form: Form) -> None:
    """The page of another sandbox of the same site gets nothing through with the cookie, of whatever kind.

    Over plain http a frame cannot be told from a person who follows a link, and the browser is told not to show it.
    """
    await scene.enter(page, form)
    await page.goto(scene.stage.address(Form.HOST, EVIL, PORT))
    for kind in KINDS:
        await scene.ask(page, kind, form)
    assert scene.victim.seen == scene.frames()
    assert page.frames[-1].url.startswith("chrome-error:") or not scene.frames()


async def test_sibling_of_the_same_origin(scene: Scene, page: Page) -> None:
    """In the uri form the page of another sandbox gets through with what carries no Referer only: a WebSocket."""
    await scene.enter(page, Form.URI)
    await page.goto(scene.stage.address(Form.URI, EVIL, PORT))
    for kind in KINDS:
        await scene.ask(page, kind, Form.URI)
    assert scene.victim.seen == [*scene.frames(), ("WebSocket", "/socket")]


async def test_following_a_link(scene: Scene, page: Page, form: Form) -> None:
    """A person may still follow a link to the victim from anywhere."""
    await scene.enter(page, form)
    await page.goto(scene.stage.address(Form.HOST, EVIL, PORT))
    await page.evaluate("(url) => { location.href = url; }", scene.stage.address(form, VICTIM, PORT, "/followed"))
    await page.wait_for_url("**/followed")
    assert scene.victim.seen == [("GET", "/followed")]


async def test_sending_a_form(scene: Scene, page: Page, form: Form) -> None:
    """A form that a sibling's page sends to the victim is refused, although the whole window goes there."""
    await scene.enter(page, form)
    await page.goto(scene.stage.address(Form.HOST, EVIL, PORT))
    send = "(url) => { const form = document.createElement('form'); form.method = 'post'; form.action = url;"
    send += "document.body.append(form); form.submit(); }"
    await page.evaluate(send, scene.stage.address(form, VICTIM, PORT, "/sent"))
    await page.wait_for_url("**/sent")
    await expect(page).to_have_title("Access denied")
    assert scene.victim.seen == []


async def test_name_of_the_cookie(scene: Scene, page: Page, form: Form) -> None:
    """Over TLS no other host of the domain can set a cookie of that name."""
    await scene.enter(page, form)
    names = [cookie["name"] for cookie in await page.context.cookies()]
    tls = page.url.startswith("https:")
    assert f"{'__Host-' if tls else ''}opensandbox-access-{VICTIM}-{PORT}" in names
    if tls:
        assert all(name.startswith("__Host-") for name in names)
