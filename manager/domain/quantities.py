"""Resource limits and requests in the notations clients use, as numbers a runtime understands. Pure.

Memory takes decimal (`k`, `M`, `GB`) and binary suffixes (`Ki`, `MiB`) in either case; a bare number is bytes, and a
small `m` is mega, not Kubernetes' milli: nobody asks for thousandths of a byte. Keys other than these are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from manager.domain.errors import Invalid

INVALID = "SANDBOX::INVALID_PARAMETER"
LIMITS, REQUESTS = "resourceLimits", "resourceRequests"
"""The two fields that hold amounts, as messages name them."""
ALL_GPUS = -1
_INT64 = 2**63 - 1
_NANO = 1_000_000_000
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtpe]?)(i?)b?\s*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sandbox may use; None means no limit. CPU in billionths of a core, memory in bytes, GPUs -1 for all."""

    nano_cpus: int | None = None
    memory: int | None = None
    gpus: int | None = None


def parse_limits(limits: Mapping[str, str]) -> Limits:
    """The limits of a request. Raises Invalid naming the field for anything that is not a positive amount."""
    return Limits(*_amounts(limits, LIMITS), gpus=gpu_count(limits["gpu"]) if "gpu" in limits else None)


def parse_requests(requests: Mapping[str, str], limits: Limits) -> Limits:
    """What is to be had even when others want it too. Raises Invalid, also for more than the limit."""
    asked = Limits(*_amounts(requests, REQUESTS))
    for key, amount, most in (("cpu", asked.nano_cpus, limits.nano_cpus), ("memory", asked.memory, limits.memory)):
        if amount is not None and most is not None and amount > most:
            raise Invalid(INVALID, f"{REQUESTS}.{key}: '{requests[key]}' is more than {LIMITS}.{key} allows.")
    return asked


def _amounts(amounts: Mapping[str, str], field: str) -> tuple[int | None, int | None]:
    cpu, memory = amounts.get("cpu"), amounts.get("memory")
    return (
        None if cpu is None else cpu_nanos(cpu, field),
        None if memory is None else memory_bytes(memory, field),
    )


def memory_bytes(text: str, field: str = LIMITS) -> int:
    """`512Mi`, `1.5G`, `1024` as bytes. Raises Invalid."""
    match = _MEMORY.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise _invalid(f"{field}.memory", text)
    base = 1024 if match[3] else 1000
    return _positive(f"{field}.memory", text, Decimal(match[1]) * base ** _POWERS[match[2].lower()])


def cpu_nanos(text: str, field: str = LIMITS) -> int:
    """`2`, `0.5` or `500m` as billionths of a core. Raises Invalid."""
    stripped = text.strip()
    milli = stripped.endswith("m")
    try:
        cores = Decimal(stripped[:-1] if milli else stripped)
    except InvalidOperation:
        raise _invalid(f"{field}.cpu", text) from None
    if not (stripped.isascii() and cores.is_finite()):
        raise _invalid(f"{field}.cpu", text)
    return _positive(f"{field}.cpu", text, cores * (_NANO // 1000 if milli else _NANO))


def gpu_count(text: str) -> int:
    """`1` or `all` as a count. Raises Invalid."""
    stripped = text.strip().lower()
    if stripped == "all":
        return ALL_GPUS
    if not (stripped.isascii() and stripped.isdigit() and 0 < int(stripped) <= _INT64):
        raise Invalid(INVALID, f"Invalid resourceLimits.gpu: '{text}'; must be a positive device count or 'all'.")
    return int(stripped)


def _positive(field: str, text: str, amount: Decimal) -> int:
    if not 1 <= amount <= _INT64:
        raise _invalid(field, text)
    return math.floor(amount)


def _invalid(field: str, text: str) -> Invalid:
    return Invalid(INVALID, f"Invalid {field}: '{text}'; must resolve to a positive resource limit.")
