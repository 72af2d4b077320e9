"""A gateway and a backend for every test, on the loop that the server runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.conformance.harness import World, running
from tests.conformance.sockets import Sockets


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The suite runs on uvloop, whose transports differ from asyncio's in what they do at the end of a connection."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """The gateway with its backend."""
    async with running(World()) as made:
        yield made


@pytest.fixture
async def trusting() -> AsyncIterator[World]:
    """A gateway that takes the test for a proxy whose word counts."""
    async with running(World(trusted=["127.0.0.0/8"])) as made:
        yield made


@pytest.fixture
async def sockets(world: World) -> AsyncIterator[Sockets]:
    """WebSockets through the gateway."""
    made = Sockets(world)
    yield made
    await made.stop()
