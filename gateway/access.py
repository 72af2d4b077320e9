"""May this request enter: a static token or a signature against what the sandbox asks for; which credentials are stripped."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccessRule:
    """What a secured sandbox asks of a caller: its static token, as sent in `OpenSandbox-Secure-Access`."""

    token: bytes
