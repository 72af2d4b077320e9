"""A page of another origin uses a sandbox as the JavaScript SDK does, and a real browser decides what it may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Page
from websockets.asyncio.server import ServerConnection, serve

from tests.browser.stage import Form, Stage
from tests.conformance.wire import Backend, Reply

EXECD: Final = 44772
SOCKET: Final = 9000
PAGE: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<p>app</p>"
TOKEN: Final = "token"
SENT: Final = {
    "content-type": "application/json",
    "open-sandbox-api-key": "key",
    "opensandbox-secure-access": TOKEN,
    "opensandbox-access-renew": "skip",
}
"""What the SDK sends beside what a plain form could."""
FETCH: Final = """async ([url, headers]) => {
    try {
        const answer = await fetch(url, {method: 'POST', headers, body: '{}'});
        return {status: answer.status, text: await answer.text(), id: answer.headers.get('x-request-id')};
    } catch (error) { return {failed: String(error)}; }
}"""
TALK: Final = """url => new Promise((resolve, reject) => {
    const socket = new WebSocket(url);
    socket.onmessage = event => resolve(event.data);
    socket.onerror = () => reject(new Error('refused'));
})"""
pytestmark = pytest.mark.asyncio(loop_scope="session")


async def greet(connection: ServerConnection) -> None:
    await connection.send(connection.request.headers["Origin"] if connection.request else "")


@pytest_asyncio.fixture(loop_scope="session")
async def shop(page: Page) -> AsyncIterator[tuple[Page, Stage]]:
    """A page at an origin of its own that the operator lets in, and a sandbox that asks for a token."""
    site, execd = Backend(), Backend()
    site.reply, execd.reply = Reply(PAGE), Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
    origin = f"http://app.test:{await site.start()}"
    stage = Stage(cors_origins=[origin.encode()])
    await stage.start()
    async with serve(greet, "127.0.0.1", 0) as sockets:
        ports = {EXECD: await execd.start(), SOCKET: next(iter(sockets.sockets)).getsockname()[1]}
        stage.put("safe", ports, token=TOKEN.encode())
        stage.put("open", ports)
        await page.goto(f"{origin}/")
        yield page, stage
    await stage.stop()
    await site.stop()
    await execd.stop()


async def post(page: Page, url: str, **headers: str) -> dict[str, Any]:
    """What comes of a request of the page, as its script sees it."""
    found: dict[str, Any] = await page.evaluate(FETCH, [url, {**SENT, **headers}])
    return found


async def test_execd_of_a_secured_sandbox(shop: tuple[Page, Stage], form: Form) -> None:
    """The browser asks, is told yes without a token, and the page reads what execd says."""
    page, stage = shop
    answer = await post(page, stage.address(form, "safe", EXECD, "/command"))
    assert (answer["status"], answer["text"]) == (200, "done")


async def test_header_form(shop: tuple[Page, Stage]) -> None:
    """With the header that names the sandbox, which the browser has to be allowed to send."""
    page, stage = shop
    url = f"http://{stage.plain}:{stage.port}/command"
    answer = await post(page, url, **{"opensandbox-ingress-to": f"safe-{EXECD}"})
    assert (answer["status"], answer["text"]) == (200, "done")


async def test_refusals_can_be_read(shop: tuple[Page, Stage], form: Form) -> None:
    """A wrong token and a sandbox that is not there are answers for the page, not a network error."""
    page, stage = shop
    answer = await post(page, stage.address(form, "safe", EXECD, "/command"), **{"opensandbox-secure-access": "wrong"})
    assert answer["status"] == 401
    assert "MISSING_OR_INVALID_SECURE_ACCESS" in answer["text"]
    assert answer["id"]
    assert (await post(page, stage.address(form, "nobody", EXECD, "/command")))["status"] == 404


async def test_strangers_read_nothing(shop: tuple[Page, Stage], form: Form) -> None:
    """The same page at an origin that nobody allows gets nothing from the browser."""
    page, stage = shop
    await page.goto(page.url.replace("app.test", "evil.test"))
    assert "failed" in await post(page, stage.address(form, "safe", EXECD, "/command"))


async def test_websocket(shop: tuple[Page, Stage], form: Form) -> None:
    """A WebSocket asks nobody; the program sees the page's origin and decides."""
    page, stage = shop
    url = stage.address(form, "open", SOCKET).replace("http://", "ws://")
    assert await page.evaluate(TALK, url) == page.url.rstrip("/")
