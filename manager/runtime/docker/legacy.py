"""Sandboxes that an opensandbox-server 1.x made on the same Engine, read as ours when they are taken over.

That server writes the caller's metadata as plain labels. Since labels are fixed at create, it keeps changes in files
below its home: a renewed expiry, and the whole metadata once it has been patched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from manager.runtime.docker.labels import ID, INSTANCE, PREFIX, Facts, read_facts, read_time

RENEWAL = PREFIX + "access-renew-extend-seconds"
EXTENSION = PREFIX + "extensions."
NOT_METADATA = (PREFIX, "org.opencontainers.image.", "com.docker.", "desktop.docker.")
"""Prefixes of labels that are not the caller's."""


def is_unowned(labels: Mapping[str, str]) -> bool:
    """Whether these are the labels of a sandbox without an instance label."""
    return bool(labels.get(ID)) and not labels.get(INSTANCE)


class Legacy:
    """Reads the sandboxes of such a server."""

    def __init__(self, home: Path) -> None:
        """`home` is the directory that it kept its files in, `~/.opensandbox`."""
        self._metadata = home / "metadata"

    def facts(self, labels: Mapping[str, str]) -> Facts:
        """Facts from its labels and files; files that cannot be read count as absent."""
        sandbox_id = labels[ID]
        renewed = self._read(self._metadata / "_expiration" / f"{sandbox_id}.json").get("expires_at")
        said = read_facts(labels)
        return replace(
            said,
            expires_at=read_time(str(renewed)) if renewed else said.expires_at,
            metadata=self._read(self._metadata / f"{sandbox_id}.json") or caller_labels(labels),
            extensions=extensions(labels),
        )

    @staticmethod
    def _read(path: Path) -> dict[str, str]:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(key): str(entry) for key, entry in value.items()} if isinstance(value, dict) else {}


def caller_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that may be the caller's; those of the image are among them, as that server showed them too."""
    return {key: value for key, value in labels.items() if not key.startswith(NOT_METADATA)}


def extensions(labels: Mapping[str, str]) -> dict[str, str]:
    """Extensions under the names that requests give them."""
    found = {
        f"opensandbox.extensions.{key.removeprefix(EXTENSION)}": value
        for key, value in labels.items()
        if key.startswith(EXTENSION)
    }
    if labels.get(RENEWAL):
        found["access.renew.extend.seconds"] = labels[RENEWAL]
    return found
