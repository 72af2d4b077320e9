"""`opensandbox-server doctor`: runs the checks in order and tells what they found."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from manager.doctor.configuration import NAME, check_configuration
from manager.doctor.findings import Finding, Verdict, fail, lines, summary
from manager.settings.load import ConfigError, load_settings


def examine(config: str | None) -> int:
    """Prints every finding as it is made; returns 1 when something failed, else 0."""
    found = []
    for finding in _findings(config):
        found.append(finding)
        sys.stdout.write("".join(f"{line}\n" for line in lines(finding)))
        sys.stdout.flush()
    sys.stdout.write(f"{summary(found)}\n")
    return 1 if any(finding.verdict is Verdict.FAIL for finding in found) else 0


def _findings(config: str | None) -> Iterator[Finding]:
    try:
        loaded = load_settings(config)
    except ConfigError as error:
        yield from (fail(NAME, f"{error.path}: {line}") for line in error.lines)
        return
    yield from check_configuration(loaded)
