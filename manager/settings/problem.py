"""One problem of a configuration, as one line."""

from __future__ import annotations

from dataclasses import dataclass

from manager.settings.text import printable


@dataclass(frozen=True, slots=True)
class Problem:
    """The key, and what is wrong with it and allowed instead; `value` is as the file would write it, or None."""

    key: str
    text: str
    value: str | None = None

    def __str__(self) -> str:
        line = f"{self.key}: {self.text}" if self.value is None else f"{self.key} = {self.value}: {self.text}"
        return printable(line)
