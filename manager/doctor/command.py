"""`opensandbox-server doctor`: runs the checks in order and prints their findings."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from manager.doctor.configuration import NAME, check_configuration
from manager.doctor.deep import client_settings, drive
from manager.doctor.engine import check_engine
from manager.doctor.findings import Finding, Verdict, as_document, fail, lines, summary
from manager.doctor.surroundings import check_names, check_open_files, check_port, check_store
from manager.settings.load import ConfigError, Loaded, load_settings


def examine(config: str | None, *, deep_image: str | None = None, as_json: bool = False, strict: bool = False) -> int:
    """Prints every finding as it is made, or all of them as JSON; returns 1 when something failed, else 0.

    With `strict` a warning counts as a failure.
    With `deep_image` the running server is tested as well: a sandbox of that image is created and deleted again.
    """
    return asyncio.run(_examine(config, deep_image, as_json=as_json, strict=strict))


async def _examine(config: str | None, deep_image: str | None, *, as_json: bool, strict: bool) -> int:
    tell = _keep_quiet if as_json else _tell
    try:
        loaded = load_settings(config)
    except ConfigError as error:
        found = [fail(NAME, f"{error.path}: {line}") for line in error.lines]
        for finding in found:
            tell(finding)
    else:
        found = []
        async for finding in findings(loaded, deep_image):
            found.append(finding)
            tell(finding)
    failed = any(finding.verdict is Verdict.FAIL for finding in found)
    unwell = failed or (strict and any(finding.verdict is Verdict.WARN for finding in found))
    if as_json:
        sys.stdout.write(f"{as_document(found)}\n")
        return 1 if unwell else 0
    sys.stdout.write(f"\n{summary(found)}\n")
    if deep_image is not None and not failed:
        sys.stdout.write(f"\n{client_settings(loaded.settings)}")
    return 1 if unwell else 0


def _keep_quiet(finding: Finding) -> None:
    """Findings in one document are printed when all are made."""


def _tell(finding: Finding) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines(finding)))
    sys.stdout.flush()


async def findings(loaded: Loaded, deep_image: str | None) -> AsyncIterator[Finding]:
    """Every finding in order."""
    settings = loaded.settings
    for finding in check_configuration(loaded):
        yield finding
    for check in (check_port, check_store, check_open_files):
        yield await asyncio.to_thread(check, settings)  # a port that is taken, or a lock, may take seconds
    for finding in await asyncio.to_thread(lambda: tuple(check_names(settings))):
        yield finding
    if settings.runtime.type == "docker":
        async for finding in check_engine(settings):
            yield finding
    if deep_image is not None:
        async for finding in drive(settings, deep_image):
            yield finding
