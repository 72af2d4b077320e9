"""Tries the core calls by every release of the Python SDK before the current one, and writes what came of it.

    python -m tests.clients.older

asks the index which releases there are, installs each into an environment of its own, drives it in both flavours and
every way of addressing against servers on the Engine, and writes `older_releases.json` beside this file and the table
in docs/compatibility.md that is made from it. Takes minutes; the tests do the same for the releases that have a lock
file (`scripts/lock/sdk-*.txt`) and compare with the file.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.clients.modes import MODES, Mode
from tests.clients.names import NameServer
from tests.clients.programs_run import PROGRAMS, ROOT, Programs, installed
from tests.conftest import IMAGE_BUILDER, end_server
from tests.server_process import SANDBOX_IMAGE, ServerProcess, free_port

PACKAGE = "opensandbox"
RESULTS = Path(__file__).parent / "older_releases.json"
PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- older releases: written by tests.clients.older -->", "<!-- end of older releases -->"
NOT_INSTALLED = "does not install"
OK = "ok"

Results = Mapping[str, Any]


def locked() -> list[str]:
    """The releases that the tests drive: those with a lock file, oldest first."""
    names = (path.stem.removeprefix("sdk-") for path in (ROOT / "scripts/lock").glob("sdk-*.txt"))
    return sorted(names, key=numbers)


def numbers(release: str) -> tuple[int, ...]:
    """`0.1.10` as numbers, for sorting."""
    return tuple(map(int, release.split(".")))


def drive(python: Path, names: NameServer | None, server_of: Callable[[Mode], ServerProcess]) -> Results:
    """What the release that this interpreter has came to, by flavour and mode."""
    servers = {
        mode.name: [server_of(mode).address, server_of(mode).api_key, mode.use_server_proxy] for mode in MODES.values()
    }
    wildcard = MODES["wildcard"]
    told = Programs(wildcard, server_of(wildcard), names).run(
        python, PROGRAMS / "drive_sdk.py", SANDBOX_IMAGE, json.dumps(servers)
    )
    return dict(json.loads(told))


def cell(result: Any) -> str:
    """One outcome as the table says it."""
    if result == OK:
        return "yes"
    return "no: " + (
        result if isinstance(result, str) else ", ".join(f"{step} ({why})" for step, why in result.items())
    )


def row(results: Any) -> tuple[str, ...]:
    """The table's cells of one release: a flavour is named where the two differ."""
    if isinstance(results, str):
        return (f"no: {results}",) * len(MODES)
    cells = []
    for mode in MODES:
        found = {name: flavour if isinstance(flavour, str) else flavour[mode] for name, flavour in results.items()}
        alike = len({json.dumps(result) for result in found.values()}) == 1
        told = [cell(result) if alike else f"{name}: {cell(result)}" for name, result in found.items()]
        cells.append(told[0] if alike else "; ".join(told))
    return tuple(cells)


def span(releases: Sequence[str]) -> str:
    """Releases in a row that behave alike."""
    return releases[0] if len(releases) == 1 else f"{releases[0]} to {releases[-1]} ({len(releases)} releases)"


def table(results: Results) -> str:
    """The table, newest first; neighbours that behave alike share a row."""
    newest_first = sorted(results, key=numbers, reverse=True)
    lines = ["Python SDK, async and sync", *MODES], ["---"] * (1 + len(MODES))
    rows = [
        [span(list(releases)), *cells]
        for cells, releases in groupby(newest_first, key=lambda release: row(results[release]))
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (*lines, *rows))


def page_with(results: Results, page: str) -> str:
    """The page with its table made anew."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table(results)}\n{END}{rest.partition(END)[2]}"


def known_releases() -> list[str]:
    """What the index has, without the release that the other tests drive."""
    asked = [sys.executable, "-m", "pip", "index", "versions", PACKAGE]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Available versions: (.*)", shown)
    if found is None:
        raise RuntimeError(f"the index told no releases: {shown}")
    return sorted({release.strip() for release in found[1].split(",")} - {version(PACKAGE)}, key=numbers)


def environment(release: str) -> Path | None:
    """The interpreter that has a release, None where it does not install any more."""
    if release in locked():
        return installed(f"sdk-{release}") / "python"
    folder = ROOT / ".venvs" / f"sdk-{release}"
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
    ]
    done = subprocess.run([*pip, f"{PACKAGE}=={release}"], check=False)
    return python if done.returncode == 0 else None


@contextlib.contextmanager
def servers() -> Iterator[Callable[[Mode], ServerProcess]]:
    """A server in each mode, until the end of the block."""
    subprocess.run([IMAGE_BUILDER], check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        running: dict[str, ServerProcess] = {}
        for mode in MODES.values():
            port, own = free_port(), Path(folder, mode.name)
            own.mkdir()
            running[mode.name] = ServerProcess(own, mode.tables(port), port=port)
            stack.callback(end_server, running[mode.name])
            running[mode.name].start()
        yield lambda mode: running[mode.name]


def main() -> None:
    """Tries all, then writes both files."""
    results: dict[str, Any] = {}
    with servers() as server_of, NameServer.listening() as names:
        for release in known_releases():
            python = environment(release)
            results[release] = NOT_INSTALLED if python is None else drive(python, names, server_of)
            sys.stdout.write(" | ".join((release, *row(results[release]))) + "\n")
            sys.stdout.flush()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page_with(results, PAGE.read_text()))


if __name__ == "__main__":
    main()
