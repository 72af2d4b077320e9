"""The tests of the data plane run on both event loops: uvloop, which serves, and asyncio's own, which must work too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test that needs a loop runs twice."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
