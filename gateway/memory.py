"""Returns memory that a spike leaves behind to the system.

glibc keeps what is freed below the top of its heap for later: two thousand heads of 60 KB that have come to nothing
leave more than 100 MB resident, for as long as the process lives. `malloc_trim` gives whole free pages back. It takes
0.1 to 0.2 ms for each MB that it gives back, and nothing else goes on meanwhile: 6 to 13 ms after two thousand heads of
60 KB. In a thread of its own it would not be better, which was tried: it holds the lock of the arena that the loop
allocates from, so the loop stood still for half of that time. So it is called only when there may be something to
win: when the process has grown, and as many connections have ended since the last time as are open, or a minute has
passed, and never more than once in LOOK_SECONDS.

Where the C library is another one (musl, macOS) there is nothing to call, and nothing is done.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.metrics import Counters

LOOK_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 60.0
"""After that it is tried whatever has ended: large answers leave as much behind as connections do."""
SPARE_BYTES: Final = 4 << 20
SPARE_SHARE: Final = 1 / 16
"""A process that has grown by this much of itself and by SPARE_BYTES since it was smallest is worth a try."""
FEW: Final = 100
"""The least number of closed connections that counts as a spike."""
_STATM: Final = Path("/proc/self/statm")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Trimmer:
    """Looks from time to time whether memory can be given back; it is one of the members of `Deadlines`."""

    __slots__ = ("_again", "_counters", "_ended", "_least", "_resident", "_trim", "deadline")

    def __init__(self, counters: Counters, resident: Callable[[], int], trim: Callable[[], object], now: float) -> None:
        """`resident` tells the size of the process, `trim` gives back what it does not use."""
        self._counters = counters
        self._resident = resident
        self._trim = trim
        self._least = resident()
        self._ended = 0
        """Connections that had ended when memory was last given back."""
        self._again = now + LONGEST_SECONDS
        self.deadline = now + LOOK_SECONDS

    def expire(self, now: float) -> None:
        """Time to look."""
        self.deadline = now + LOOK_SECONDS
        held = self._resident()
        self._least = min(self._least, held)
        if held - self._least <= SPARE_BYTES + self._least * SPARE_SHARE:
            return
        still_open = self._counters.connections
        ended = self._counters.connections_total - still_open
        if now >= self._again or ended - self._ended >= max(FEW, still_open):
            self._trim()
            self._ended = ended
            self._again = now + LONGEST_SECONDS


def trimmer(counters: Counters, now: float) -> Trimmer | None:
    """Of this process, or None where memory cannot be given back or its size not be read."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None or not _STATM.exists():
        return None
    return Trimmer(counters, _resident, lambda: trim(0), now)


def _resident() -> int:
    return int(_STATM.read_bytes().split()[1]) * _PAGE
