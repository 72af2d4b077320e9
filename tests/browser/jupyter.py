"""JupyterLab from PyPI as a process of this machine, in an environment that `scripts/install apps` makes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from tests.server_process import free_port, wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = ROOT / ".venvs" / "apps" / "bin" / "jupyter-lab"
TOKEN: Final = "jupyters-own-token"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
NOTEBOOK: Final = "sum.ipynb"
OPTIONS: Final = (
    "--no-browser",
    "--allow-root",
    f"--IdentityProvider.token={TOKEN}",
    "--LabApp.expose_app_in_browser=True",  # lets a test read what the terminal shows
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)
"""What is the same wherever it runs; the last two keep it from asking the network."""


def install() -> None:
    """Makes the environment; quick when it is there."""
    subprocess.run([ROOT / "scripts/install", "apps"], check=True, capture_output=True)


def write_notebook(folder: Path) -> None:
    """A notebook with one cell that has not run yet."""
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": "print(6 * 7)", "outputs": []}
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = {
        "cells": [{**cell, "execution_count": None}],
        "metadata": {"kernelspec": kernel},  # without it a person is asked which kernel to take
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (folder / NOTEBOOK).write_text(json.dumps(notebook))


class Jupyter:
    """One server with its files in `folder`."""

    def __init__(self, folder: Path, base: str = "/") -> None:
        self.port = free_port()
        self._base = base
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts it and waits until it answers; raises TimeoutError with what it wrote when it does not."""
        work = self._folder / "work"
        work.mkdir()
        write_notebook(work)
        with (self._folder / "jupyter.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                PROGRAM,
                *OPTIONS,
                "--ip=127.0.0.1",
                f"--port={self.port}",
                f"--ServerApp.base_url={self._base}",
                f"--ServerApp.root_dir={work}",
                # It listens on loopback here and then takes no other Host; on 0.0.0.0, as in a sandbox, it takes any.
                "--ServerApp.allow_remote_access=True",
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(self._folder), "JUPYTER_PLATFORM_DIRS": "0", "SHELL": "/bin/sh"},
            )
        try:
            await asyncio.to_thread(wait_until, self._answers, START_SECONDS, "the start of JupyterLab")
        except TimeoutError as late:
            raise TimeoutError(f"{late}; it wrote:\n{self.output()}") from late

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self._base}api", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def output(self) -> str:
        """What it has written so far."""
        return (self._folder / "jupyter.log").read_text(errors="replace")

    async def stop(self) -> None:
        """Ends it with its kernels and terminals."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
