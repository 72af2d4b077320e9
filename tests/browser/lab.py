"""What a person does in JupyterLab, and what they see."""

from __future__ import annotations

from typing import Final

from playwright.async_api import Page

from tests.browser.jupyter import NOTEBOOK, TOKEN

PATIENCE_MS: Final = 45_000
"""It loads some twenty megabytes of scripts, on a machine with other work."""

_SCREEN: Final = """() => {
  const terminal = [...window.jupyterapp.shell.widgets('main')].find(w => w.content && w.content._term);
  if (!terminal) return '';
  const buffer = terminal.content._term.buffer.active;
  const lines = [];
  for (let row = 0; row < buffer.length; row++) {
    const line = buffer.getLine(row);
    if (line) lines.push(line.translateToString(true));
  }
  return lines.join('\\n');
}"""

_KERNEL: Final = """() => {
  const context = window.jupyterapp.shell.currentWidget?.sessionContext;
  const kernel = context?.isReady ? context.session?.kernel : null;
  return kernel?.connectionStatus === 'connected' ? kernel.status : null;
}"""


async def open_lab(page: Page, root: str, path: str = "lab") -> None:
    """Opens it under `root` (which ends with a slash), logged in by its own token, and waits until it is drawn."""
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(f"{root}{path}?token={TOKEN}&reset")
    await drawn(page)


async def drawn(page: Page) -> None:
    """Waits until it has loaded and put everything back where it was."""
    await page.wait_for_selector("#jp-main-dock-panel")
    await page.wait_for_function("window.jupyterapp && window.jupyterapp.restored")
    await page.evaluate("window.jupyterapp.restored")


async def run_in_terminal(page: Page, command: str, shown: str) -> None:
    """Opens a terminal, types the command, and waits until `shown` stands on its screen."""
    await page.evaluate("window.jupyterapp.commands.execute('terminal:create-new')")
    await page.wait_for_selector(".xterm-helper-textarea", state="attached")
    await page.wait_for_function(f"({_SCREEN})().trim() !== ''")  # the prompt
    await page.keyboard.type(f"{command}\n")
    await page.wait_for_function(f"({_SCREEN})().includes({shown!r})")


async def run_notebook(page: Page, root: str) -> str:
    """Opens the notebook, runs its cell, and returns what the cell printed."""
    await open_lab(page, root, f"lab/tree/{NOTEBOOK}")
    await page.wait_for_selector(".jp-Notebook .jp-Cell")
    await page.wait_for_function(f"({_KERNEL})() === 'idle'")
    await page.click(".jp-Cell .jp-InputArea-editor")
    await page.keyboard.press("Shift+Enter")
    output = await page.wait_for_selector(".jp-OutputArea-output pre")
    return (await output.text_content() or "") if output else ""
