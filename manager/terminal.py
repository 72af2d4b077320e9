"""Log lines on a terminal, with one progress bar below them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import Final, TextIO

from manager.domain.progress import SHARE, Share
from manager.settings.text import printable

CLEAR: Final = "\r\x1b[K"
"""Carriage return and erase line (ECMA-48): the next output replaces the bar."""
BAR_WIDTH: Final = 30
_MEBIBYTE: Final = 1024 * 1024
_NARROW: Final = 80
"""Columns of a terminal that does not say how many it has."""


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes log lines; progress records redraw the bar instead, which stays below the last line."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._shares: dict[str, Share] = {}

    def emit(self, record: logging.LogRecord) -> None:
        share: Share | None = getattr(record, SHARE, None)
        try:
            if share is not None and not share.over:
                self._shares[share.what] = share
                self._draw()
                return
            if share is not None:
                self._shares.pop(share.what, None)
            self.stream.write(CLEAR + self.format(record) + self.terminator)
            self._draw()
        except Exception:  # as every handler of `logging`: an error in a log line never ends the program
            self.handleError(record)

    def _draw(self) -> None:
        if self._shares:
            self.stream.write(CLEAR + bar(self._shares.values(), _columns(self.stream)))
        self.flush()


def watches(stream: TextIO) -> bool:
    """Whether the stream is a terminal that can redraw a line."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def bar(shares: Iterable[Share], columns: int) -> str:
    """One line of less than `columns` characters for all work in progress, added up."""
    works = list(shares)
    what = printable(works[0].what) if len(works) == 1 else f"{len(works)} images"
    done, total = (sum(getattr(work, part) for work in works) for part in ("done", "total"))
    filled = BAR_WIDTH * done // total if total else 0
    size = f"{done // _MEBIBYTE} of {total // _MEBIBYTE} MB" if total else "waiting for the registry"
    return f"pulling [{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {size} {what}"[: columns - 1]


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _NARROW
    except (OSError, ValueError):
        return _NARROW


def console() -> logging.StreamHandler[TextIO]:
    """The handler for standard output, whatever that is."""
    return TerminalHandler(sys.stdout) if watches(sys.stdout) else logging.StreamHandler(sys.stdout)
