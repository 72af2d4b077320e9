"""Ids: generation and validation. Lower case, at most as long as a UUID, so that they fit a DNS label."""

from __future__ import annotations

import re
import uuid

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,34}[a-z0-9])?", re.ASCII)


def new_id() -> str:
    """A fresh sandbox or snapshot id: a random UUID in its 36 character form."""
    return str(uuid.uuid4())


def is_id(text: str) -> bool:
    """Whether `text` could name a sandbox or a snapshot of any runtime."""
    return _ID.fullmatch(text) is not None
