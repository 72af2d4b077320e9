"""The read buffer of a client connection: partial heads, and pipelined requests behind the current one.

Each byte is searched once for the end of a head, however small the packets are that bring it, and a request is taken
off the front without moving those behind it: nothing here is quadratic in what a client sends.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import BadRequest, HeadTooLarge
from gateway.http import framing

HEAD_END: Final = b"\r\n\r\n"
_MOST_EMPTY_LINES: Final = 8
"""Empty lines before a request are to be ignored (RFC 9112 §2.2: at least one), but not without end."""


def skip_empty_lines(data: bytes | bytearray) -> int:
    """Where the request begins. Raises BadRequest when more empty lines are before it than careless clients send."""
    at = 0
    while data.startswith(b"\r\n", at):
        at += 2
        if at > 2 * _MOST_EMPTY_LINES:
            raise BadRequest("there are too many empty lines before the request")
    return at


class ReadAhead(bytearray):
    """The bytes of one connection that wait; empty most of the time."""

    __slots__ = ("_seen",)

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(data)
        self._seen = 0
        """How much has been searched for the end of a head."""

    def take_head(self, longest: int) -> bytes | None:
        """The first head, without the empty lines before it, or None while it is not there as a whole.

        Raises BadRequest, HeadTooLarge, as soon as that is certain.
        """
        start = skip_empty_lines(self)
        end = self.find(HEAD_END, max(start, self._seen - 3)) + 4
        if (end if end >= 4 else len(self)) - start > longest:
            raise HeadTooLarge
        if end < 4:
            framing.refuse_partial(self, self._seen)
            self._seen = len(self)
            return None
        head = bytes(self[start:end])
        del self[:end]
        self._seen = 0
        return head

    def has_head(self, new: int) -> bool:
        """Whether the last `new` bytes have brought the end of a head."""
        return self.find(HEAD_END, max(0, len(self) - new - 3)) >= 0

    def take(self, count: int) -> bytes:
        """The next bytes, at most `count` of them."""
        taken = bytes(self[:count])
        del self[:count]
        return taken

    def take_all(self) -> bytes:
        """Everything."""
        taken = bytes(self)
        self.clear()
        return taken

    def clear(self) -> None:
        """Forgets everything."""
        super().clear()
        self._seen = 0

    def has_begun(self) -> bool:
        """Whether a part of a head has come; empty lines are none."""
        return bool(self.strip(b"\r\n"))
