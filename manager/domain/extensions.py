"""The extensions of a create: the known keys, and the valid values of each.

Unknown keys are ignored, as by every released server; known ones are checked when the request arrives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

RENEW_EXTEND = "access.renew.extend.seconds"
"""Each access moves the expiry to now + so many seconds."""

IDLE_PAUSE = "access.pause.after.idle.seconds"
"""Pauses the sandbox after so many seconds without traffic; a request resumes it."""

KEEP_PREFIX = "access.prefix.keep"
"""Ports (`8888,8080`, or `true` for all) whose programs expect the public path prefix, which is not stripped."""

UPSTREAM_HOST = "access.upstream.host"
"""The Host that programs are sent: `public`, `upstream` or a literal, for all ports or each (`9222=upstream`)."""

UPSTREAM_ORIGIN = "access.upstream.origin"
"""Ports (as of KEEP_PREFIX) for which an Origin of the public address is sent as one of that Host."""

CORS = "access.cors"
"""Origins (`https://a.example,https://b.example`, or `*`) that CORS allows for the sandbox."""

CORS_PORTS = "access.cors.ports"
"""Ports (`8080,3000`, or `true` for all) for which the gateway implements CORS; execd's is always included."""

SNAPSHOT_STRICT = "snapshot.strict"
"""Of a snapshot, or of a sandbox for all of its snapshots: refused if it would not keep everything that was written."""

POOL_REF = "poolRef"
"""Takes the sandbox from the named pool."""

ECHOED_PREFIX = "opensandbox.extensions."
"""Extensions under this prefix are kept for the caller and shown to them again; no other key is."""

MAX_BYTES = 16 * 1024
"""Most bytes of all keys and values of one sandbox."""

_is_origin = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE).fullmatch
_is_host = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,252})|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII).fullmatch
"""Of a Host header, what names a host by DNS or address (RFC 9110 §7.2), in lower case."""
_MAX_PORT = 65535
_SWITCH: dict[str, frozenset[int]] = {"true": frozenset({0}), "false": frozenset()}

_SECONDS = {RENEW_EXTEND: (300, 86_400), IDLE_PAUSE: (30, 86_400)}
"""Extensions that are seconds: the least and the most."""


def problem(extensions: Mapping[str, str]) -> str | None:
    """The first broken rule as a sentence that names the key, or None."""
    for key, value in extensions.items():
        if not key.isprintable():
            return f"extensions: the key {key[:40]!r} holds control characters"
        if not value.isprintable():
            return f"extensions.{key[:80]}: {value[:40]!r} holds control characters"
    size = sum(len(key.encode()) + len(value.encode()) for key, value in extensions.items())
    if size > MAX_BYTES:
        return f"extensions: hold {size} bytes, and may hold {MAX_BYTES}"
    for key, (least, most) in _SECONDS.items():
        asked = extensions.get(key)
        if asked is None:
            continue
        if not (asked.isascii() and asked.strip().isdigit()):
            return f"extensions.{key}: must be a whole number of seconds in decimal digits, got {asked[:40]!r}"
        if not least <= int(asked.strip()[:9]) <= most:
            return f"extensions.{key}: must be {least} to {most} seconds, got {asked[:40]!r}"
    if extensions.get(SNAPSHOT_STRICT, "true").strip().lower() not in _SWITCH:
        return f'extensions.{SNAPSHOT_STRICT}: must be "true" or "false", got {extensions[SNAPSHOT_STRICT][:40]!r}'
    for key in (KEEP_PREFIX, CORS_PORTS, UPSTREAM_ORIGIN):
        if key in extensions and _kept(extensions[key]) is None:
            shown = extensions[key][:40]
            return f'extensions.{key}: must be "true", "false" or ports such as "8888,8080", got {shown!r}'
    if UPSTREAM_HOST in extensions and not _hosts(extensions[UPSTREAM_HOST]):
        shown = extensions[UPSTREAM_HOST][:60]
        return (
            f'extensions.{UPSTREAM_HOST}: must be "public", "upstream" or a host such as "localhost:8000", for all '
            f'ports or for one each as in "9222=upstream, 8000=localhost:8000", got {shown!r}'
        )
    for origin in _listed(extensions.get(CORS, "")):
        if origin != "*" and _is_origin(origin) is None:
            return f'extensions.{CORS}: must be "*" or origins such as "https://app.example.com", got {origin[:60]!r}'
    return None


def upstream_hosts(extensions: Mapping[str, str]) -> dict[int, str]:
    """Port → the Host its program is sent: `public`, `upstream` or a literal; 0 stands for every other port."""
    return _hosts(extensions.get(UPSTREAM_HOST, ""))


def origin_ports(extensions: Mapping[str, str]) -> frozenset[int]:
    """The ports for which the public Origin follows the Host; 0 stands for all of them."""
    return _kept(extensions.get(UPSTREAM_ORIGIN, "")) or frozenset()


def _hosts(text: str) -> dict[int, str]:
    """Empty when any part of it is invalid, or a port is named twice."""
    hosts: dict[int, str] = {}
    for entry in text.lower().split(","):
        name, equals, host = (part.strip() for part in entry.rpartition("="))
        ports = _kept(name) if equals and name.isdigit() else None if equals else frozenset({0})
        if not ports or _is_host(host) is None or not hosts.keys().isdisjoint(ports):
            return {}
        hosts.update(dict.fromkeys(ports, host))
    return hosts


def allowed_origins(extensions: Mapping[str, str]) -> frozenset[str]:
    """The origins whose pages may use the sandbox, beside those that the operator allows."""
    return frozenset(_listed(extensions.get(CORS, "").lower()))


def cors_ports(extensions: Mapping[str, str]) -> frozenset[int]:
    """The ports for which the gateway answers those pages' browsers, beside execd's; 0 stands for all of them."""
    return _kept(extensions.get(CORS_PORTS, "")) or frozenset()


def _listed(text: str) -> list[str]:
    return [entry for entry in (entry.strip() for entry in text.split(",")) if entry]


def renew_seconds(extensions: Mapping[str, str]) -> int | None:
    """By how many seconds an access extends the sandbox, or None when it did not opt in."""
    return _seconds(extensions, RENEW_EXTEND)


def idle_seconds(extensions: Mapping[str, str]) -> int | None:
    """After how many seconds without use the sandbox is paused, or None when it did not opt in."""
    return _seconds(extensions, IDLE_PAUSE)


def strict_snapshots(*extensions: Mapping[str, str]) -> bool:
    """Whether the first of these that says anything asks for snapshots that keep everything, or for none."""
    said = (given[SNAPSHOT_STRICT] for given in extensions if SNAPSHOT_STRICT in given)
    return next(said, "false").strip().lower() == "true"


def kept_prefixes(extensions: Mapping[str, str]) -> frozenset[int]:
    """The ports whose programs are sent the public path whole; 0 stands for all of them."""
    return _kept(extensions.get(KEEP_PREFIX, "")) or frozenset()


def _kept(text: str) -> frozenset[int] | None:
    word = text.strip().lower()
    if word in _SWITCH:
        return _SWITCH[word]
    entries = [entry.strip() for entry in word.split(",")]
    if not all(entry.isascii() and entry.isdigit() and entry[0] != "0" and len(entry) <= 5 for entry in entries):
        return None
    ports = frozenset(int(entry) for entry in entries)
    return ports if max(ports) <= _MAX_PORT else None


def _seconds(extensions: Mapping[str, str], key: str) -> int | None:
    value = extensions.get(key, "").strip()
    return int(value) if value.isascii() and value.isdigit() else None


def echoed(extensions: Mapping[str, str]) -> dict[str, str]:
    """The part of the extensions that is shown to callers."""
    return {key: value for key, value in extensions.items() if key.startswith(ECHOED_PREFIX)}
