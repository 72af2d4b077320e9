"""Files the configuration names and the server cannot start without: read once, before anything else happens."""

from __future__ import annotations

import ssl
from pathlib import Path

from manager.settings.model import Settings
from manager.settings.problem import Problem


def unusable_files(settings: Settings) -> list[Problem]:
    """What is wrong with them; empty when all can be used."""
    tls = settings.server.tls
    named = (("server.tls.certificate", tls.certificate), ("server.tls.key", tls.key))
    found = [problem for key, path in named if path and (problem := _unreadable(key, path))]
    if tls.certificate and tls.key and not found:
        found += _not_a_pair(tls.certificate, tls.key)
    return found


def _unreadable(key: str, path: str) -> Problem | None:
    try:
        Path(path).open("rb").close()
    except OSError as error:
        return Problem(key, f"cannot be read: {error.strerror}", f'"{path}"')
    return None


def _not_a_pair(certificate: str, key: str) -> list[Problem]:
    """A certificate and a key that do not belong together would fail every handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An encrypted key would ask at the terminal; the empty answer refuses it instead.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        text = f"cannot be used with server.tls.key: {reason}"
        return [Problem("server.tls.certificate", text, f'"{certificate}"')]
    return []
