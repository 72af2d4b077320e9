"""The tests of the data plane run on both event loops: uvloop, which serves, and asyncio's own, which must work too.

Both are in debug mode, and nothing in the product may stop them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop

from tests.blocking import debugging, watched


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test that needs a loop runs twice."""
    return {"uvloop": debugging(uvloop.new_event_loop), "asyncio": debugging(asyncio.new_event_loop)}


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    with watched() as found:
        yield
    assert found == []
