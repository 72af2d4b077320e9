"""The extensions a create may carry: which keys mean something, and what their values must be.

Keys that nobody knows are ignored, as every released server does; keys we know are checked when the request comes in.
"""

from __future__ import annotations

from collections.abc import Mapping

RENEW_EXTEND = "access.renew.extend.seconds"
"""Each access moves the expiry to now + so many seconds."""

POOL_REF = "poolRef"
"""Takes the sandbox from the named pool."""

ECHOED_PREFIX = "opensandbox.extensions."
"""Extensions under this prefix are kept for the caller and shown to them again; no other key is."""

MAX_BYTES = 16 * 1024
"""Most bytes of all keys and values of one sandbox."""

_RENEW_LEAST = 300
_RENEW_MOST = 86_400


def problem(extensions: Mapping[str, str]) -> str | None:
    """The first broken rule as a sentence that names the key, or None."""
    for key in extensions:
        if not key.isprintable():
            return f"extensions: the key {key[:40]!r} holds control characters"
    size = sum(len(key.encode()) + len(value.encode()) for key, value in extensions.items())
    if size > MAX_BYTES:
        return f"extensions: hold {size} bytes, and may hold {MAX_BYTES}"
    value = extensions.get(RENEW_EXTEND)
    if value is None:
        return None
    if not (value.isascii() and value.strip().isdigit()):
        return f"extensions.{RENEW_EXTEND}: must be a whole number of seconds in decimal digits, got {value[:40]!r}"
    if not _RENEW_LEAST <= int(value.strip()[:9]) <= _RENEW_MOST:
        return f"extensions.{RENEW_EXTEND}: must be {_RENEW_LEAST} to {_RENEW_MOST} seconds, got {value[:40]!r}"
    return None


def renew_seconds(extensions: Mapping[str, str]) -> int | None:
    """By how many seconds an access extends the sandbox, or None when it did not opt in."""
    value = extensions.get(RENEW_EXTEND, "").strip()
    return int(value) if value.isascii() and value.isdigit() else None


def echoed(extensions: Mapping[str, str]) -> dict[str, str]:
    """The part of the extensions that is shown to callers."""
    return {key: value for key, value in extensions.items() if key.startswith(ECHOED_PREFIX)}
