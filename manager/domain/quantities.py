"""Resource limits and requests in the notations clients use, as numbers a runtime understands. Pure.

Memory and disk take decimal (`k`, `M`, `GB`) and binary suffixes (`Ki`, `MiB`) in either case; a bare number is bytes,
and a small `m` is mega, not Kubernetes' milli: there are no thousandths of a byte. An unknown key is refused: a limit
that is not enforced would be worse than none. So is an amount that is too small to be enforced.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from manager.domain.codes import INVALID_PARAMETER
from manager.domain.errors import Invalid

LIMITS, REQUESTS = "resourceLimits", "resourceRequests"
"""The two fields that contain quantities, as messages name them."""
UNASKED: Mapping[str, str] = {"cpu": "1", "memory": "2Gi"}
"""The default limits that released SDKs send."""
ALL_GPUS = -1
GPU_NAMES = ("gpu", "nvidia.com/gpu")
DISK_NAMES = ("ephemeral-storage", "storage", "disk")
"""Synonyms; the first is the one that messages use."""
LEAST_NANOS = 10_000_000
"""A hundredth of a core: the CFS quota is at least one millisecond of the usual period of a hundred."""
LEAST_MEMORY = 6 * 1024**2
"""The least memory limit that Engines since 20.10 accept."""
LEAST_DISK = 1024**2
_INT64 = 2**63 - 1
_NANO = 1_000_000_000
_DIGITS = 30
"""More than any amount has, before or after the point; decimals overflow far beyond."""
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_BYTES = re.compile(r"(\d++(?:\.\d++)?)\s*+([kmgtpe]?)(i?)b?", re.IGNORECASE | re.ASCII)
_BLANKS = " \t\n\r\f\v"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sandbox may use; None means no limit.

    CPU in billionths of a core, memory and disk (what it writes to its own file system) in bytes, GPUs -1 for all.
    """

    nano_cpus: int | None = None
    memory: int | None = None
    gpus: int | None = None
    disk: int | None = None


def parse_limits(limits: Mapping[str, str], field: str = LIMITS) -> Limits:
    """The limits of a request, or of the table that `field` names. Raises Invalid naming what cannot be held."""
    parsed = _parse(limits, field)
    for name, amount, least, shown in (
        ("cpu", parsed.nano_cpus, LEAST_NANOS, "10m"),
        ("memory", parsed.memory, LEAST_MEMORY, "6Mi"),
        (_given(limits, DISK_NAMES), parsed.disk, LEAST_DISK, "1Mi"),
    ):
        _check_least(f"{field}.{name}", limits.get(name, ""), amount, least, shown)
    return parsed


def parse_requests(requests: Mapping[str, str], limits: Limits) -> Limits:
    """The resource requests (guaranteed amounts). Raises Invalid, also for more than the limit."""
    asked = _parse(requests, REQUESTS)
    _check_least(f"{REQUESTS}.memory", requests.get("memory", ""), asked.memory, LEAST_MEMORY, "6Mi")
    for key, amount, most in (("cpu", asked.nano_cpus, limits.nano_cpus), ("memory", asked.memory, limits.memory)):
        if amount is not None and most is not None and amount > most:
            raise Invalid(INVALID_PARAMETER, f"{REQUESTS}.{key}: '{requests[key]}' is more than {LIMITS}.{key} allows.")
    if asked.gpus is not None and asked.gpus != limits.gpus:
        name = _given(requests, GPU_NAMES)
        raise Invalid(
            INVALID_PARAMETER, f"{REQUESTS}.{name}: must be what {LIMITS}.gpu says; a device is given whole or not."
        )
    if asked.disk is not None:
        name = _given(requests, DISK_NAMES)
        raise Invalid(INVALID_PARAMETER, f"{REQUESTS}.{name}: no disk can be set aside for a sandbox; leave it out.")
    return asked


def _parse(amounts: Mapping[str, str], field: str) -> Limits:
    for key in amounts:
        if key not in ("cpu", "memory", *GPU_NAMES, *DISK_NAMES):
            known = f"cpu, memory, {GPU_NAMES[0]} and {DISK_NAMES[0]}"
            raise Invalid(INVALID_PARAMETER, f"{field}: {key[:64]!r} is not known; what can be limited is {known}.")
    return Limits(
        nano_cpus=_amount(amounts, ("cpu",), cpu_nanos, field),
        memory=_amount(amounts, ("memory",), byte_count, field),
        gpus=_amount(amounts, GPU_NAMES, gpu_count, field),
        disk=_amount(amounts, DISK_NAMES, byte_count, field),
    )


def _given(amounts: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((name for name in names if name in amounts), names[0])


def _amount(
    amounts: Mapping[str, str], names: tuple[str, ...], parse: Callable[[str, str], int], field: str
) -> int | None:
    """The amount under one of several names. Raises Invalid where two of them differ."""
    found = {name: parse(amounts[name], f"{field}.{name}") for name in names if name in amounts}
    if len(set(found.values())) > 1:
        raise Invalid(INVALID_PARAMETER, f"{field}: {' and '.join(found)} are the same and say different things.")
    return next(iter(found.values()), None)


def byte_count(text: str, name: str) -> int:
    """`512Mi`, `1.5G`, `1024` as bytes. Raises Invalid under this name."""
    match = _BYTES.fullmatch(text.strip(_BLANKS))
    if match is None or (match[3] and not match[2]):
        raise _invalid(name, text)
    base = 1024 if match[3] else 1000
    return _positive(name, text, Decimal(match[1]) * base ** _POWERS[match[2].lower()])


def cpu_nanos(text: str, name: str) -> int:
    """`2`, `0.5` or `500m` as billionths of a core. Raises Invalid under this name."""
    stripped = text.strip()
    milli = stripped.endswith("m")
    try:
        cores = Decimal(stripped[:-1] if milli else stripped)
    except InvalidOperation:
        raise _invalid(name, text) from None
    if not (stripped.isascii() and "_" not in stripped and cores.is_finite() and abs(cores.adjusted()) < _DIGITS):
        raise _invalid(name, text)
    return _positive(name, text, cores * (_NANO // 1000 if milli else _NANO))


def gpu_count(text: str, name: str) -> int:
    """`1` or `all` as a count. Raises Invalid under this name."""
    stripped = text.strip().lower()
    if stripped == "all":
        return ALL_GPUS
    if not (stripped.isascii() and stripped.isdigit() and len(stripped) < _DIGITS and 0 < int(stripped) <= _INT64):
        raise Invalid(INVALID_PARAMETER, f"Invalid {name}: '{text[:40]}'; must be a positive device count or 'all'.")
    return int(stripped)


def _positive(name: str, text: str, amount: Decimal) -> int:
    if not 1 <= amount <= _INT64:
        raise _invalid(name, text)
    return math.floor(amount)


def _check_least(name: str, text: str, amount: int | None, least: int, shown: str) -> None:
    if amount is not None and amount < least:
        raise Invalid(INVALID_PARAMETER, f"{name}: '{text}' is too little to be held; the least is {shown}.")


def _invalid(name: str, text: str) -> Invalid:
    return Invalid(INVALID_PARAMETER, f"Invalid {name}: '{text}'; must resolve to a positive resource limit.")
