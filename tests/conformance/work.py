"""How much the program does between two turns of the loop, counted in instructions of Python's bytecode.

A clock would tell how busy the machine is. The number of instructions is the same on every machine and in every run;
an ordinary one executes some fifty millions in a second. What a single instruction does is not seen:
`tests/patterns.py` looks at the regular expressions, and the growth of processor time (`seconds`) shows what is
searched or copied again and again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import gateway
import manager

_OURS = tuple(str(Path(package.__path__[0])) for package in (gateway, manager))


class Turns:
    """Counts for as long as the block; `longest` is the most in one turn of the loop."""

    def __init__(self) -> None:
        self.longest = 0
        self.total = 0
        self._steps = 0
        self._running = False

    def __enter__(self) -> Turns:
        self._loop = asyncio.get_running_loop()
        self._running = True
        self._loop.call_soon(self._turn)
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        sys.settrace(None)
        self._running = False

    def _turn(self) -> None:
        self.longest = max(self.longest, self._steps)
        self.total += self._steps
        self._steps = 0
        if self._running:
            self._loop.call_soon(self._turn)

    def _enter_frame(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._count

    def _count(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._steps += 1
        return self._count


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Processor time of this thread for `work`, the least of a few runs: others that use the machine do not count."""
    took: list[float] = []
    for _ in range(times):
        began = time.thread_time()
        work()
        took.append(time.thread_time() - began)
    return min(took)
