"""Notices calls of the product that would stop the event loop: a `time.sleep` in a coroutine, a look-up of a name.

What blocks is wrapped while a test runs. A call counts when a loop runs in its thread and the product's own code is
among its callers; what the product does in threads, and what a test does itself, are nobody's business here. Reading
and writing files is not watched.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PRODUCT: Final = tuple(f"{ROOT / package}{os.sep}" for package in ("gateway", "manager"))


def _always(*args: object) -> bool:
    return True


def _looks_up(host: object, *args: object) -> bool:
    """A name; an address, or none, asks nobody."""
    try:
        ipaddress.ip_address(str(host))
    except ValueError:
        return host is not None
    return False


def _waits(sock: socket.socket, *args: object) -> bool:
    """A stream that blocks; to connect a socket of another kind sends nothing."""
    return sock.gettimeout() != 0.0 and sock.type == socket.SOCK_STREAM


BLOCKING: Final[tuple[tuple[Any, str, Callable[..., bool]], ...]] = (
    (time, "sleep", _always),
    (os, "fsync", _always),
    (socket, "getaddrinfo", _looks_up),
    (socket, "gethostbyaddr", _always),
    (socket, "create_connection", _always),
    (subprocess.Popen, "wait", _always),
    (subprocess.Popen, "communicate", _always),
    *((socket.socket, name, _waits) for name in ("connect", "recv", "recv_into", "send", "sendall", "accept")),
)
"""What is called, where, and whether it blocks with these arguments."""


class BlockingCall(Exception):
    """Raised by a call that would stop the event loop."""


def _caller(product: tuple[str, ...]) -> str | None:
    """The place in the product that makes a call while a loop runs in this thread, or None."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(product):
            return f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return None


@contextmanager
def watched(product: tuple[str, ...] = PRODUCT) -> Iterator[list[str]]:
    """Calls that would stop the loop raise BlockingCall; the list holds all of them, whatever became of the error."""
    found: list[str] = []

    def guard(call: Callable[..., Any], name: str, blocks: Callable[..., bool]) -> Callable[..., Any]:
        @functools.wraps(call)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            place = _caller(product) if blocks(*args) else None
            if place is not None:
                found.append(f"{name} at {place}")
                raise BlockingCall(found[-1])
            return call(*args, **kwargs)

        return guarded

    with pytest.MonkeyPatch.context() as patch:
        for holder, name, blocks in BLOCKING:
            patch.setattr(holder, name, guard(getattr(holder, name), name, blocks))
        yield found


def debugging(make: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], asyncio.AbstractEventLoop]:
    """Loops in asyncio's debug mode, which refuses calls from other threads and tells what was never awaited."""

    def made() -> asyncio.AbstractEventLoop:
        loop = make()
        loop.set_debug(True)
        return loop

    return made
