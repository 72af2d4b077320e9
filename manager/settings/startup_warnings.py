"""Warnings about a valid configuration at start: each a sentence that names the key and the remedy."""

from __future__ import annotations

from typing import Final

from manager.settings.exposure import is_open
from manager.settings.model import Settings

OPEN_API: Final = (
    "server.api_key is empty: authentication is OFF, and whoever reaches this server can create sandboxes, enter and "
    "delete them; set server.api_key or OPENSANDBOX_SERVER_API_KEY"
)

ALL_HOST_PATHS: Final = (
    "storage.allowed_host_paths is empty: a sandbox may mount any directory of the Engine's host; list the directories "
    "that are meant for sandboxes"
)
NO_HOST_PATHS: Final = (
    "storage.allowed_host_paths is empty, and this server has no API key of its own: no directory of the Engine's host "
    "is mounted; list the directories that are meant for sandboxes"
)


def advice(settings: Settings) -> list[str]:
    """Warnings, most serious first."""
    found = []
    public = is_open(settings)
    if public and settings.server.has_keys:
        found.append("server.api_key is still the one of the example, which everybody knows; choose your own")
    if settings.runtime.type == "docker" and not settings.storage.allowed_host_paths:
        found.append(NO_HOST_PATHS if public else ALL_HOST_PATHS)
    if settings.runtime.type == "docker" and settings.docker.allow_isolation:
        found.append(
            "docker.allow_isolation: whoever may create sandboxes may have CAP_SYS_ADMIN in one, which is root of the "
            "host unless the Engine has user namespaces; SECURITY.md says what it opens"
        )
    if settings.secure_runtime.type and settings.secure_runtime.docker_runtime is None:
        found.append("secure_runtime: only sandboxes created with secureRuntime = true run in it")
    if settings.secure_runtime.type == "gvisor" and settings.egress.image:
        found.append(
            'secure_runtime.type = "gvisor" cannot enforce network policies: requests that ask for both are refused; '
            'use "kata-qemu" for both'
        )
    return found
