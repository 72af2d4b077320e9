"""Resource quantities as Kubernetes writes them, compared exactly."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Final

from pydantic import AfterValidator

_FORM: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?\d{1,2}))?")
_BINARY: Final[dict[str, Decimal]] = {
    unit + "i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)
}
_DECIMAL: Final[dict[str, Decimal]] = {unit: Decimal(10) ** (3 * power) for power, unit in enumerate("num", start=-3)}
_LARGE: Final[dict[str, Decimal]] = {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)}
_UNITS: Final[dict[str, Decimal]] = {**_BINARY, **_DECIMAL, **_LARGE, "": Decimal(1)}


def quantity(text: str) -> Decimal:
    """The value of `500m`, `2`, `1.5Gi`, `1e3`; raises ValueError otherwise."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f'must be Kubernetes quantities such as "500m" or "512Mi"; "{text}" is not one')
    exponent = Decimal(10) ** int(found[3] or 0)
    return Decimal(found[1]) * _UNITS[found[2] or ""] * exponent


def _check(values: dict[str, str]) -> dict[str, str]:
    for value in values.values():
        quantity(value)
    return values


def whole(values: Mapping[str, str], name: str, unit: int = 1) -> int | None:
    """The amount called `name` in `unit`ths, rounded up; None when there is none."""
    return math.ceil(quantity(values[name]) * unit) if name in values else None


Quantities = Annotated[dict[str, str], AfterValidator(_check)]


def above_limit(requests: Mapping[str, str], limits: Mapping[str, str]) -> list[str]:
    """Names of the resources of which more is requested than the limit allows."""
    return [name for name, value in requests.items() if name in limits and quantity(value) > quantity(limits[name])]
