"""Request ids: 32 hexadecimal digits, unique across processes and restarts, at the price of two joins of bytes.

An id is the random prefix of the process and a count. The header line that carries it to a sandbox is made of a part
that stands for a page of 4096 counts and one of 4096 ready endings: formatting a number for each request costs more.
"""

from __future__ import annotations

import os
from typing import Final

_END_DIGITS: Final = 3
ENDINGS: Final = tuple(b"%03x\r\n\r\n" % number for number in range(16**_END_DIGITS))
"""How the line of an id ends, and the head with it."""
ENDING: Final = len(ENDINGS) - 1
"""The bits of a count that choose its ending."""


class RequestIds:
    """The ids of one process."""

    __slots__ = ("_prefix", "count", "last_of_page", "line")

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex().encode()
        self.count = int.from_bytes(os.urandom(3), "big")
        """The count of the last id. Who uses `line` adds one itself, and turns the page where it has ended."""
        self.line = b""
        """`X-Request-ID` and the id but for its ending."""
        self.last_of_page = 0
        """The highest count that goes with `line`."""

    def take(self) -> int:
        """The count of an id that nobody has."""
        self.count += 1
        return self.count

    def new(self) -> bytes:
        """An id that nobody has."""
        return self.of(self.take())

    def of(self, count: int) -> bytes:
        """The id with this count."""
        return b"%b%016x" % (self._prefix, count)

    def turn_page(self) -> None:
        """Makes the line for the present count and those that follow it."""
        self.line = b"X-Request-ID: %b" % self.of(self.count)[:-_END_DIGITS]
        self.last_of_page = self.count | ENDING
