"""On whose behalf the present task works: set where work begins, read where a change is recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from manager.domain.events import Origin

_ORIGIN: ContextVar[Origin | None] = ContextVar("origin", default=None)


def current() -> Origin | None:
    """Who asked; None for what the runtime reports by itself."""
    return _ORIGIN.get()


@contextlib.contextmanager
def originating(origin: Origin) -> Iterator[None]:
    """Whatever is done in the block, and in tasks that it starts, is done on behalf of `origin`."""
    token = _ORIGIN.set(origin)
    try:
        yield
    finally:
        _ORIGIN.reset(token)
