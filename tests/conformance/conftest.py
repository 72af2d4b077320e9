"""A gateway and a backend for every test, on the loop that the server runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.conformance.harness import World


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The suite runs on uvloop, whose transports differ from asyncio's in what they do at the end of a connection."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """The gateway with its backend."""
    made = World()
    await made.start()
    yield made
    await made.stop()
