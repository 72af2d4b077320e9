"""Progress of long work as data: a log record that carries one is drawn as a bar on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHARE: Final = "share"
"""The attribute under which a log record carries its `Share`."""


@dataclass(frozen=True, slots=True)
class Share:
    """`done` of `total` bytes of the work called `what`; a total of 0 is not known yet, `over` removes its bar."""

    what: str
    done: int = 0
    total: int = 0
    over: bool = False
