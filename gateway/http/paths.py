"""Is a path under a prefix, for every program that may read it?

A gateway that lets some paths through must not let through what the program behind reads as another path. Programs
differ on empty and dot segments, on encoded slashes, dots and backslashes, on what follows a semicolon, and on NUL.
Where one of these occurs the answer to "is it under the prefix" depends on the reader, so here it is no.
"""

from __future__ import annotations

import re
from typing import Final

_TWO_READINGS: Final = re.compile(rb"//|\\|;|/\.\.?(?:/|\Z)|%(?:2[ef]|5c|3b|00)", re.IGNORECASE)


def has_two_readings(path: bytes) -> bool:
    """Whether programs differ in what this path means."""
    return _TWO_READINGS.search(path) is not None


def leading(target: bytes, count: int) -> bytes | None:
    """The first `count` segments of a request target's path, `/a/b` for two; None where that is not certain."""
    if count == 0:
        return b""
    path = target.partition(b"?")[0]
    if has_two_readings(path):
        return None
    segments = path.split(b"/", count + 1)
    return b"/".join(segments[: count + 1]) if len(segments) > count else None


def clean_prefix(path: str) -> bytes:
    """A prefix as it is compared: `/a/b` for `/a/b` and `/a/b/`, nothing for `/`. Raises ValueError."""
    prefix = path.encode().removesuffix(b"/")
    if prefix and not prefix.startswith(b"/"):
        raise ValueError(f"path {path!r} does not start with a slash")
    if has_two_readings(path.encode()) or re.search(rb"[?#\x00-\x20\x7f-\xff]", prefix) is not None:
        raise ValueError(f"path {path!r} can be read in two ways, or is more than a path")
    return prefix
