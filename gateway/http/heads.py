"""Heads: parsed once, and serialised for the other side.

Every head is held against one strict grammar line by line (`fields`) and passes llhttp, so two parsers have to agree
before anything is believed. What travels on is the sender's own lines, byte for byte and in their order; only whole
lines are taken out (hop-by-hop fields of RFC 9110 §7.6.1, whatever `Connection` names, credentials and marks meant for
us) and whole lines are put behind the last. Nothing is decoded, folded, merged or re-cased.

What a head says is a pure function of its bytes. A keep-alive client repeats its header block, and a polled server its
answer, often to the byte; so each connection remembers the last head it has read, beside the lines that `fields` keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

REMEMBERED_HEAD: Final = 2048
"""The longest head that a connection remembers, in bytes."""


_FEW: Final = 8
"""Up to here taking single lines out of a list is quicker than making a new one."""
MOST_LISTED: Final = 100
"""Most items of one `Connection` or `Upgrade`: each costs time, and no real one has ten."""


class _Silent:
    """Callbacks for llhttp where only its verdict is needed."""


SILENT = _Silent()


def joined(lines: list[bytes], drop: list[int]) -> bytes:
    """The lines but for those in `drop`, as they stand on the wire."""
    if len(drop) == 1:
        lines = lines.copy()  # which is `Connection` nearly always
        del lines[drop[0]]
    elif 0 < len(drop) <= _FEW:
        lines = lines.copy()
        for index in sorted(set(drop), reverse=True):
            del lines[index]
    elif drop:
        dropped = set(drop)
        lines = [line for index, line in enumerate(lines) if index not in dropped]
    return b"\r\n".join((*lines, b"")) if lines else b""


def lines_named(lines: Sequence[bytes], names: set[bytes], known: Sequence[int]) -> list[int]:
    """Where lines with these lower-case names stand, but for those in `known`."""
    skipped = set(known)
    return [
        index for index, line in enumerate(lines) if line.partition(b":")[0].lower() in names and index not in skipped
    ]


def has_too_many(value: bytes) -> bool:
    """Whether a list names more than anybody has a reason to."""
    return value.count(b",") > MOST_LISTED


def find(lines: Sequence[bytes], name: bytes) -> bytes | None:
    """The first value of a header, by its lower-case name."""
    for line in lines:
        candidate, _, value = line.partition(b":")
        if candidate.lower() == name:
            return value.strip(b" \t")
    return None
