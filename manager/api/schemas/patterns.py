"""The notations of strings in request bodies: the pattern that checks one, and its words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

IMAGE: Final = r"^[A-Za-z0-9]([A-Za-z0-9_:@-]|[./][A-Za-z0-9_:@-])*$"
"""Loose: what is surely no image reference is refused by it, the runtime knows the rest."""
CLAIM: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
ANY_ABSOLUTE_PATH: Final = r"^(/|[A-Za-z]:[\\/])"
ABSOLUTE_PATH: Final = r"^/"
SIZE: Final = r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti|Pi|Ei)?$"

WORDS: Final[Mapping[str, str]] = {
    IMAGE: 'must be the name of an image such as "python:3.12-slim" or "registry.example.com/team/image@sha256:..."',
    CLAIM: "must be lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
    LABEL: "must be lower-case letters, digits and '-', beginning and ending with a letter or digit",
    ANY_ABSOLUTE_PATH: "must be an absolute path",
    ABSOLUTE_PATH: "must be an absolute path, which begins with '/'",
    SIZE: 'must be a size such as "10Gi"',
}
"""What each of them asks for; the API's description has the patterns themselves."""
