"""Limits of one sandbox: allowed requests, rate, concurrency and bandwidth.

The rules come as text (`access.limit.…` extensions of a create) and are kept as one record; a `Quota` holds what they
need to count. A sandbox without rules has no Quota, which is all that its requests notice of this file. Times are any
one clock's seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from gateway.access.token_bucket import TokenBucket
from gateway.errors import (
    BodyTooLarge,
    MethodNotAllowed,
    PathNotAllowed,
    PortNotAllowed,
    RateLimited,
    SandboxBusy,
)
from gateway.http import paths

PREFIX: Final = "access.limit."
LONGEST: Final = 8192
"""Characters of a value."""
SHOWN: Final = 80
"""Characters of it that a refusal repeats."""
MOST_ENTRIES: Final = 32
"""Most ports, methods or paths that one rule lists."""


@dataclass(frozen=True, slots=True)
class QuotaRules:
    """The limits that a sandbox's owner has set. 0 and empty mean no limit."""

    requests_per_second: float = 0.0
    requests_burst: int = 0
    """Requests that may come at once; without it as many as come in a second."""
    connections: int = 0
    """Requests and tunnels that are open at once."""
    bytes_per_second: int = 0
    """Body bytes and tunnel bytes of both directions together."""
    body_bytes: int = 0
    stream_seconds: int = 0
    """Longest life of one answer or tunnel."""
    ports: tuple[tuple[int, int], ...] = ()
    """First and last of each allowed range."""
    methods: frozenset[bytes] = frozenset()
    paths: tuple[bytes, ...] = ()
    """Allowed prefixes of whole segments."""


def parse(extensions: Mapping[str, str]) -> QuotaRules | None:
    """The rules among a sandbox's extensions, None when there are none.

    Raises ValueError naming the key, the value and what is allowed, also for an unknown key under `access.limit.`.
    """
    found: dict[str, Any] = {}
    for key, text in extensions.items():
        if not key.startswith(PREFIX):
            continue
        name = key.removeprefix(PREFIX).replace(".", "_")
        reader = _READERS.get(name)
        if reader is None:
            raise ValueError(f"{_cut(key)}: no such limit; there are {', '.join(map(_key, _READERS))}")
        if len(text) > LONGEST:
            raise ValueError(f"{key}: {_cut(text)!r} is not allowed: it is longer than {LONGEST} characters")
        try:
            found[name] = reader(text)
        except ValueError as error:
            raise ValueError(f"{key}: {_cut(text)!r} is not allowed: {error}") from None
    if "requests_burst" in found and "requests_per_second" not in found:
        raise ValueError(f"{_key('requests_burst')}: needs {_key('requests_per_second')} beside it")
    return QuotaRules(**found) if found else None


def write(rules: QuotaRules) -> dict[str, str]:
    """The extensions that `parse` reads as these rules."""
    values = {field.name: getattr(rules, field.name) for field in fields(rules)}
    return {_key(name): _WRITERS.get(name, _plain)(value) for name, value in values.items() if value}


class Quota:
    """The rules of one sandbox and their current usage."""

    __slots__ = ("_bytes", "_requests", "rules")

    def __init__(self, rules: QuotaRules, now: float) -> None:
        self.rules = rules
        rate = rules.requests_per_second
        self._requests = TokenBucket(_burst(rules), rate, now) if rate else None
        rate = rules.bytes_per_second
        self._bytes = TokenBucket(rate, rate, now) if rate else None

    def admit(self, port: int, method: bytes, target: bytes, length: int, opened: int, now: float) -> None:
        """Counts one request or raises what refuses it; a refused request uses nothing up.

        `target` is what goes to the sandbox, `length` the announced size of the body (0 or less where none is),
        `opened` how many requests and tunnels are open on the sandbox already.
        """
        rules = self.rules
        if rules.ports and not any(first <= port <= last for first, last in rules.ports):
            raise PortNotAllowed
        if rules.methods and method not in rules.methods:
            raise MethodNotAllowed
        if rules.paths and not any(_under(target, prefix) for prefix in rules.paths):
            raise PathNotAllowed
        if 0 < rules.body_bytes < length:
            raise BodyTooLarge
        if 0 < rules.connections <= opened:
            raise SandboxBusy
        if self._requests is not None and (wait := self._requests.take(now)):
            raise RateLimited(retry_after=math.ceil(wait))

    def spend(self, count: int, now: float) -> float:
        """Counts bytes that have passed; returns for how many seconds nothing more should be read, 0.0 to go on."""
        return 0.0 if self._bytes is None else self._bytes.spend(count, now)


def _burst(rules: QuotaRules) -> int:
    return rules.requests_burst or max(1, math.ceil(rules.requests_per_second))


def _under(target: bytes, prefix: bytes) -> bool:
    count = prefix.count(b"/")
    # `/` allows every path, and still not a path that is none (`*`).
    return paths.leading(target, count) == prefix if count else target.startswith(b"/")


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _key(name: str) -> str:
    return PREFIX + name.replace("_", ".")


def _number(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not text.isascii() or not text.replace(".", "", 1).isdigit() or not least <= float(text) <= most:
            raise ValueError(f"it is a number from {least:g} to {most:g}")
        return float(text)

    return read


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"it is a whole number from {least} to {most}")
        return int(text)

    return read


def _entries(text: str) -> list[str]:
    entries = [entry.strip() for entry in text.split(",")]
    if len(entries) > MOST_ENTRIES or not all(entries):
        raise ValueError(f"it is a list of 1 to {MOST_ENTRIES} entries with commas between")
    return entries


def _ports(text: str) -> tuple[tuple[int, int], ...]:
    read = _whole(1, 65535)
    ranges = []
    for entry in _entries(text):
        first, dash, last = entry.partition("-")
        low, high = read(first), read(last if dash else first)
        if low > high:
            raise ValueError(f"the range {low}-{high} is upside down")
        ranges.append((low, high))
    return tuple(ranges)


def _methods(text: str) -> frozenset[bytes]:
    entries = _entries(text)
    if not all(entry.isascii() and entry.replace("-", "").isalpha() and entry == entry.upper() for entry in entries):
        raise ValueError("methods are in capitals, like GET, POST")
    return frozenset(entry.encode() for entry in entries)


def _paths(text: str) -> tuple[bytes, ...]:
    return tuple(paths.clean_prefix(entry) for entry in _entries(text))


def _plain(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "requests_per_second": _number(0.01, 100_000),
    "requests_burst": _whole(1, 1_000_000),
    "connections": _whole(1, 100_000),
    "bytes_per_second": _whole(1024, 2**40),
    "body_bytes": _whole(1, 2**50),
    "stream_seconds": _whole(1, 31_536_000),
    "ports": _ports,
    "methods": _methods,
    "paths": _paths,
}
_WRITERS: Final[dict[str, Callable[[Any], str]]] = {
    "ports": lambda value: ",".join(str(low) if low == high else f"{low}-{high}" for low, high in value),
    "methods": lambda value: ",".join(sorted(method.decode() for method in value)),
    "paths": lambda value: ",".join(path.decode() or "/" for path in value),
}
