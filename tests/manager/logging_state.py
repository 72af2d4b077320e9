"""Keeps what a test does to the process-wide logging from the next test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from manager.logs import ACCESS_LOGGER


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Gives the body loggers without handlers, and puts the old ones back."""
    loggers = [logging.getLogger(), logging.getLogger(ACCESS_LOGGER)]
    before = [(logger, logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers.clear()
    try:
        yield
    finally:
        for logger, level, handlers, propagate in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate
