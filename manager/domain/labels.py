"""Rules of metadata keys and values: those of Kubernetes labels on every runtime, so that metadata is portable."""

from __future__ import annotations

import re
from collections.abc import Mapping

RESERVED_PREFIX = "opensandbox.io/"
"""Keys under this prefix belong to the server."""

MAX_BYTES = 16 * 1024
"""Most bytes of all keys and values of one sandbox: every list shows them."""

_MAX_NAME = 63
_MAX_PREFIX = 253
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII)


def is_reserved(key: str) -> bool:
    """Whether the key belongs to the server and may not be set by a caller."""
    return key.startswith(RESERVED_PREFIX)


def key_problem(key: str) -> str | None:
    """What is wrong with a metadata key, or None."""
    prefix, slash, name = key.rpartition("/")
    if is_reserved(key):
        return f"the prefix {RESERVED_PREFIX} is reserved"
    if not 0 < len(name) <= _MAX_NAME or _NAME.fullmatch(name) is None:
        return "the name must be 1 to 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit"
    if slash and (len(prefix) > _MAX_PREFIX or _SUBDOMAIN.fullmatch(prefix) is None):
        return "the part before '/' must be a lower-case DNS name of at most 253 characters"
    return None


def value_problem(value: str) -> str | None:
    """What is wrong with a metadata value, or None."""
    if value and (len(value) > _MAX_NAME or _NAME.fullmatch(value) is None):
        return (
            "a value must be empty or at most 63 letters, digits, '-', '_' or '.', "
            "beginning and ending with a letter or digit"
        )
    return None


def first_problem(metadata: Mapping[str, str]) -> str | None:
    """The first broken rule of a whole set of metadata as a sentence that names the key, or None."""
    for key, value in metadata.items():
        problem = key_problem(key) or value_problem(value)
        if problem is not None:
            return f"metadata key {key[:80]!r}: {problem}"
    return size_problem(metadata)


def size_problem(metadata: Mapping[str, str]) -> str | None:
    """Whether there is too much of it, as a sentence, or None."""
    size = sum(len(key) + len(value) for key, value in metadata.items())
    return f"metadata: holds {size} bytes, and may hold {MAX_BYTES}" if size > MAX_BYTES else None
