"""The tests of the manager run in asyncio's debug mode, and nothing in it may stop the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.blocking import debugging, watched


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """One loop for all."""
    return {"asyncio": debugging(asyncio.new_event_loop)}


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    with watched() as found:
        yield
    assert found == []
