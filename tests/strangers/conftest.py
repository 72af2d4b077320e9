"""The suite runs on the loop that the server runs on: TLS in particular is another program in asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Likewise in tests/conformance."""
    return {"uvloop": uvloop.new_event_loop}
