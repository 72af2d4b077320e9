"""Reads a JSON body: anything but plain, bounded, unambiguous JSON is refused before validation by a model."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from itertools import islice
from typing import Any

from aiohttp import web

from manager.domain.codes import BODY_TOO_LARGE, INVALID_PARAMETER
from manager.domain.errors import Invalid, TooLarge

MAX_BODY_BYTES = 1024 * 1024
"""Largest body of an API request; real ones are a few kilobytes."""

MAX_DEPTH = 32
"""Deepest nesting; the deepest real request has five levels."""

MAX_VALUES = 5000
"""Most values in one body: each blocks the event loop for a microsecond or two, and the largest real request has a few
hundred."""
_SEPARATORS = (b",", b"[", b"{")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*(?:"|\\?\Z)', re.DOTALL)
_SLICE = 1000
"""Strings that are checked before control returns to the event loop."""


async def read_json(request: web.Request) -> Any:
    """The body as a value. Raises Invalid, TooLarge."""
    _check_type(request)
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise TooLarge(BODY_TOO_LARGE, f"the body is larger than {MAX_BODY_BYTES} bytes")
    if "Expect" in request.headers:
        await _ask_for_body(request)
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(BODY_TOO_LARGE, f"the body is larger than {MAX_BODY_BYTES} bytes") from error
    if not raw.strip():
        raise Invalid(INVALID_PARAMETER, "body: a JSON body is required, got none")
    await _check_count(raw)
    # Each of these, and the model's validation, may take a few milliseconds: the gateway runs in between.
    value = parse(raw)
    await asyncio.sleep(0)
    _check_value(value)
    await asyncio.sleep(0)
    return value


async def _check_count(raw: bytes) -> None:
    """Raises Invalid for more values than are read; of a long text with commas only those outside strings count."""
    count = _separators(raw)
    if count <= MAX_VALUES:
        return
    strings = (found[0] for found in _STRING.finditer(raw))
    while some := list(islice(strings, _SLICE)):
        count -= sum(map(_separators, some))
        await asyncio.sleep(0)
    if count > MAX_VALUES:
        raise Invalid(INVALID_PARAMETER, f"body: must not hold more than {MAX_VALUES} values")


def _separators(text: bytes) -> int:
    return sum(map(text.count, _SEPARATORS))


def parse(raw: bytes) -> Any:
    """Parses a JSON text; raises Invalid for anything that two parsers could read differently."""
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError:
        raise Invalid(INVALID_PARAMETER, "body: must be UTF-8") from None
    except json.JSONDecodeError as error:
        message = f"body: is not JSON: {error.msg.removesuffix(' at')} at line {error.lineno} column {error.colno}"
        raise Invalid(INVALID_PARAMETER, message) from None
    except RecursionError:
        raise Invalid(INVALID_PARAMETER, f"body: must not be nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:  # a number with thousands of digits
        raise Invalid(INVALID_PARAMETER, f"body: holds a number that cannot be read: {str(error)[:80]}") from None


async def ask_later(request: web.Request) -> None:
    """aiohttp's handler of `Expect: 100-continue`: does nothing, since the body may not be read at all."""


async def _ask_for_body(request: web.Request) -> None:
    """Sends 100 Continue to a client that waits for it; the gateway forwards no other expectation."""
    writer = request.writer
    await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    writer.output_size = 0  # of the answer, of which nothing has been written yet


def _check_type(request: web.Request) -> None:
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", ""):
        raise Invalid(INVALID_PARAMETER, f"Content-Encoding: must be left out, got {coding[:80]}")
    kind = request.content_type
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        sent = request.headers.get("Content-Type")
        raise Invalid(INVALID_PARAMETER, f"Content-Type: must be application/json, got {sent[:80] if sent else 'none'}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise Invalid(INVALID_PARAMETER, f"body: the key {twice[:80]!r} appears twice in one object")
    return found


def _constant(name: str) -> Any:
    raise Invalid(INVALID_PARAMETER, f"body: {name} is not a JSON number")


def _check_value(value: Any) -> None:
    """Walks the value without recursion: depth, and characters that no text of ours may hold."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, dict):
                below.extend(item.keys())
                below.extend(item.values())
        if not below:
            return
        level = below
    raise Invalid(INVALID_PARAMETER, f"body: must not be nested deeper than {MAX_DEPTH} levels")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise Invalid(INVALID_PARAMETER, f"body: {text[:40]!r} holds a NUL character, which no string may")
    try:
        text.encode()
    except UnicodeEncodeError:
        message = "body: a string holds half of a surrogate pair, which is not Unicode text"
        raise Invalid(INVALID_PARAMETER, message) from None
