"""Text that came from outside, as it may be shown in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


def printable(text: str) -> str:
    """The text with line ends and terminal controls written out: it cannot end a line nor drive a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def dotted(path: Iterable[int | str]) -> str:
    """A path as TOML writes it: names that are not plain in quotes, positions in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text
