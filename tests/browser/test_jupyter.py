"""JupyterLab works through every way of addressing: it opens, its terminal and its kernels answer over WebSockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.browser import jupyter
from tests.browser.jupyter import Jupyter
from tests.browser.lab import drawn, open_lab, run_in_terminal, run_notebook
from tests.browser.stage import Form, Stage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]
SANDBOX = "notes"
LAB_PORT = 8888


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=list(Form), ids=lambda form: form.value)
async def root(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[str]:
    """JupyterLab behind a port of a sandbox, told the path at which it is seen; its address."""
    form: Form = request.param
    jupyter.install()
    address = stage.address(form, SANDBOX, LAB_PORT)
    made = Jupyter(tmp_path_factory.mktemp("jupyter"), base=urlsplit(address).path)
    await made.start()
    # A program that knows its path wants to see it; in the host form there is none to keep.
    stage.put(SANDBOX, {LAB_PORT: made.port}, keep_prefix={LAB_PORT})
    yield address
    await made.stop()


async def test_a_terminal_runs_commands(root: str, page: Page) -> None:
    """What is typed reaches a shell, what the shell prints is drawn, and a reload finds it all again."""
    await open_lab(page, root)
    await run_in_terminal(page, "echo answer: $((6 * 7))", shown="answer: 42")
    await page.reload()
    await drawn(page)
    assert page.url.startswith(f"{root}lab")


async def test_a_notebook_cell_runs(root: str, page: Page) -> None:
    """A kernel starts, runs the cell and its output is drawn."""
    assert await run_notebook(page, root) == "42\n"
    assert page.url.startswith(f"{root}lab/tree/")
