"""The detector of calls that stop the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.blocking import BlockingCall, debugging, watched

HERE = (str(Path(__file__).parent) + os.sep,)
"""In these tests the tests are the product."""


async def test_a_planted_sleep_is_noticed() -> None:
    """Even where its error is swallowed."""
    with watched(HERE) as found:
        with pytest.raises(BlockingCall):
            time.sleep(0.001)  # noqa: ASYNC251
        with contextlib.suppress(Exception):
            time.sleep(0.001)  # noqa: ASYNC251
    assert len(found) == 2
    assert "sleep at tests/test_blocking.py:" in found[0]


async def test_a_blocking_socket_is_noticed() -> None:
    """One that does not block is not."""
    ours, theirs = socket.socketpair()
    with ours, theirs, watched(HERE) as found:
        ours.setblocking(False)
        ours.send(b"x")
        assert found == []
        with pytest.raises(BlockingCall):
            theirs.recv(1)
        with pytest.raises(BlockingCall):
            socket.getaddrinfo("localhost", 80)
    assert len(found) == 2


async def test_threads_may_block() -> None:
    """That is what they are for."""
    with watched(HERE) as found:
        await asyncio.to_thread(time.sleep, 0.001)
    assert found == []


def test_without_a_loop_anything_may_block() -> None:
    """Nobody waits."""
    with watched(HERE) as found:
        time.sleep(0.001)
    assert found == []


async def test_what_others_do_is_not_the_products() -> None:
    """Only calls that the product makes count."""
    with watched() as found:
        time.sleep(0.001)  # noqa: ASYNC251
    assert found == []


def test_debug_mode_refuses_calls_from_other_threads() -> None:
    """Which would otherwise be lost or late without a word."""
    refused: list[Exception] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def call() -> None:
            try:
                loop.call_soon(print)
            except RuntimeError as error:
                refused.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        await asyncio.to_thread(thread.join)

    with asyncio.Runner(loop_factory=debugging(asyncio.new_event_loop)) as runner:
        runner.run(main())
    assert len(refused) == 1
