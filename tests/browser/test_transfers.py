"""A person uploads and downloads large files through every way of addressing, and every byte arrives."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.browser.conftest import DEV, DEV_PORT
from tests.browser.devsite import BLOCK, DevSite, sha256_of_blocks
from tests.browser.stage import Form, Stage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]
BLOCKS = 800
SIZE = BLOCKS * len(BLOCK)
PATIENCE_MS = 90_000


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 MiB on disk."""
    path = tmp_path_factory.mktemp("files") / "large.bin"
    with path.open("wb") as file:
        for _ in range(BLOCKS):
            file.write(BLOCK)
    return path


async def test_an_upload_arrives_whole(stage: Stage, site: DevSite, page: Page, form: Form, large_file: Path) -> None:
    """200 MiB chosen in a form reach the program byte for byte."""
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(stage.address(form, DEV, DEV_PORT))
    await page.set_input_files("#file", large_file)
    await page.click("#send")
    await page.wait_for_function("window.uploaded")
    assert await page.evaluate("window.uploaded") == {"sha256": sha256_of_blocks(BLOCKS), "size": SIZE}


async def test_a_download_arrives_whole(stage: Stage, site: DevSite, page: Page, form: Form) -> None:
    """200 MiB saved by the browser are what the program sent."""
    await page.goto(stage.address(form, DEV, DEV_PORT))
    async with page.expect_download(timeout=PATIENCE_MS) as started:
        await page.click("#save")
    path = await (await started.value).path()
    with path.open("rb") as file:
        digest = await asyncio.to_thread(hashlib.file_digest, file, "sha256")
    assert digest.hexdigest() == sha256_of_blocks(BLOCKS)
