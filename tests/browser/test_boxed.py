"""The whole way on a real Engine: a sandbox with JupyterLab, closed to the world and opened by a link."""

from __future__ import annotations

import asyncio
import time

import docker
import pytest
from playwright.async_api import Page, expect

from tests.browser import boxed, jupyter
from tests.browser.conftest import keep_picture
from tests.browser.lab import drawn, run_in_terminal
from tests.browser.stage import DOMAIN
from tests.conftest import StartServer
from tests.server_process import ServerProcess

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]
HOUR = 3600
PATIENCE_MS = 60_000
SIGNING = {"active_key": "k", "keys": [{"key_id": "k", "key": "c2VjcmV0IG9mIHRoZSBicm93c2VyIHRlc3Rz"}]}


@pytest.fixture
def server(start_server: StartServer, engine: docker.DockerClient) -> ServerProcess:
    """A server under a wildcard domain that may sign links, with an image for JupyterLab on its Engine."""
    jupyter.install()
    tables = {
        "ingress": {"mode": "gateway"},
        "ingress.gateway": {"address": f"*.{DOMAIN}"},
        "ingress.gateway.route": {"mode": "wildcard"},
        "ingress.secure_access": SIGNING,
        "storage": {"allowed_host_paths": [str(boxed.PROGRAMS)]},
    }
    made = start_server(tables)
    boxed.build_image(engine)
    return made


async def test_a_link_opens_a_closed_sandbox(server: ServerProcess, page: Page) -> None:
    """Without the link the door is shut; with it a terminal runs commands inside; after the delete it is gone."""
    sandbox = await asyncio.to_thread(boxed.create, server)
    link = await asyncio.to_thread(boxed.signed_link, server, sandbox, int(time.time()) + HOUR)
    page.set_default_timeout(PATIENCE_MS)
    own = f"http://{sandbox}-{boxed.PORT}.{DOMAIN}:{server.port}"
    await page.goto(f"{own}/lab")
    await expect(page).to_have_title("Access denied")
    await page.goto(f"{link}/lab")
    await drawn(page)
    assert page.url.startswith(f"{own}/lab")
    await run_in_terminal(page, "echo I am $OPENSANDBOX_ID", shown=f"I am {sandbox}")
    await keep_picture(page, "boxed-terminal")
    await asyncio.to_thread(server.call, "DELETE", f"/v1/sandboxes/{sandbox}")
    await page.reload()
    await expect(page).to_have_title("Sandbox deleted")
