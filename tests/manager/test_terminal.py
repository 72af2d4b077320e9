"""Progress where a terminal watches, on a real pseudo-terminal: one bar that gives way to lines and comes back."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from manager import logs
from manager.domain.progress import SHARE, Share
from manager.settings.model import Settings
from manager.terminal import CLEAR, TerminalHandler, bar
from tests.manager.logging_state import logging_as_before

MB = 1024 * 1024
COLUMNS = 60
MARK = b"\0"
HALF = Share("image:1", 20 * MB, 40 * MB)
HALF_BAR = "pulling [###############---------------] 20 of 40 MB image:1"[: COLUMNS - 1]


class Screen:
    """A pseudo-terminal: what is written to `stream` is read back with `shown`."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST  # what is written is what is read, line ends included
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.stream: TextIO = os.fdopen(slave, "w")

    def shown(self) -> str:
        """Everything since the last look; the kernel passes it on in its own time, so a mark says where it ends."""
        os.write(self.stream.fileno(), MARK)
        found = b""
        while not found.endswith(MARK):
            found += os.read(self._master, 65536)
        return found.removesuffix(MARK).decode()

    def close(self) -> None:
        """Takes it away."""
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def screen() -> Iterator[Screen]:
    """A terminal of 60 columns."""
    made = Screen()
    yield made
    made.close()


@pytest.fixture
def logger(screen: Screen) -> Iterator[logging.Logger]:
    """A logger that the terminal shows."""
    handler = TerminalHandler(screen.stream)
    made = logging.Logger("some.place", logging.INFO)
    made.addHandler(handler)
    yield made
    handler.close()


def test_progress_is_one_bar_that_is_redrawn(logger: logging.Logger, screen: Screen) -> None:
    """No line per report, and never wider than the terminal."""
    logger.info("words", extra={SHARE: HALF})
    logger.info("words", extra={SHARE: HALF})
    assert screen.shown() == (CLEAR + HALF_BAR) * 2


def test_a_line_takes_the_bars_place_and_the_bar_comes_back(logger: logging.Logger, screen: Screen) -> None:
    """The bar is always the last thing on the screen."""
    logger.info("words", extra={SHARE: HALF})
    logger.warning("hello")
    assert screen.shown() == CLEAR + HALF_BAR + CLEAR + "hello\n" + CLEAR + HALF_BAR


def test_the_bar_goes_when_the_work_is_over(logger: logging.Logger, screen: Screen) -> None:
    """What is left is the line that says so."""
    logger.info("words", extra={SHARE: HALF})
    logger.info("pulled image:1", extra={SHARE: Share("image:1", over=True)})
    logger.info("next")
    assert screen.shown() == f"{CLEAR}{HALF_BAR}{CLEAR}pulled image:1\n{CLEAR}next\n"


def test_several_works_share_the_bar() -> None:
    """Counted together; without any size the registry is being waited for."""
    assert "30 of 60 MB 2 images" in bar([HALF, Share("b", 10 * MB, 20 * MB)], 200)
    assert "[------------------------------] waiting for the registry image:1" in bar([Share("image:1")], 200)


def test_a_name_cannot_play_with_the_terminal() -> None:
    """Controls in the name of an image are written out."""
    assert "\x1b" not in bar([Share("a\x1b[2J", 1, 2)], 200)


@pytest.mark.parametrize(("term", "drawn"), [("xterm", True), ("dumb", False)])
def test_only_where_a_terminal_can_redraw(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, term: str, drawn: bool
) -> None:
    """A dumb terminal, like a file or a pipe, gets one line per report."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stdout", screen.stream)
    with logging_as_before():
        logs.configure(Settings.model_validate({"runtime": {"type": "docker", "execd_image": "execd"}}))
        logging.getLogger("x").info("pulling image:1: 20 of 40 MB", extra={SHARE: HALF})
    shown = screen.shown()
    assert (HALF_BAR in shown) == drawn
    assert ("pulling image:1: 20 of 40 MB\n" in shown) == (not drawn)
