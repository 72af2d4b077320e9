"""JupyterLab works through every way of addressing: it opens, its terminal and its kernels answer over WebSockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.browser import jupyter
from tests.browser.jupyter import Jupyter
from tests.browser.lab import open_lab, run_in_terminal, run_notebook
from tests.browser.stage import Form, Stage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]
LAB = "lab"
LAB_PORT = 8888


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lab(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Jupyter]:
    """JupyterLab behind a port of a sandbox."""
    jupyter.install()
    made = Jupyter(tmp_path_factory.mktemp("jupyter"))
    await made.start()
    stage.put(LAB, {LAB_PORT: made.port})
    yield made
    await made.stop()


async def test_a_terminal_runs_commands(stage: Stage, lab: Jupyter, page: Page, form: Form) -> None:
    """What is typed reaches a shell, and what the shell prints is drawn."""
    await open_lab(page, stage.address(form, LAB, LAB_PORT))
    await run_in_terminal(page, "echo answer: $((6 * 7))", shown="answer: 42")


async def test_a_notebook_cell_runs(stage: Stage, lab: Jupyter, page: Page, form: Form) -> None:
    """A kernel starts, runs the cell and its output is drawn."""
    assert await run_notebook(page, stage.address(form, LAB, LAB_PORT)) == "42\n"
