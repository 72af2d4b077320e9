"""Certificate files as an operator has them: a pair in use, and the next one on its way."""

from __future__ import annotations

import subprocess
from pathlib import Path

WILDCARD = "DNS:*.sandbox.test"
COMMAND = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test -days 2"


class Files:
    """A certificate and its key, where a renewal puts new ones."""

    def __init__(self, folder: Path) -> None:
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self._next = folder / "next"
        self._next.mkdir()
        self.prepare()
        self.replace("chain.pem", "key.pem")

    def prepare(self) -> None:
        """Makes the next pair; it is in nobody's way yet."""
        command = [*COMMAND.split(), "-addext", f"subjectAltName={WILDCARD}"]
        pair = ["-out", str(self._next / "chain.pem"), "-keyout", str(self._next / "key.pem")]
        subprocess.run([*command, *pair], check=True, capture_output=True)

    def replace(self, *names: str) -> None:
        """Puts files of the next pair in the place of the old ones."""
        for name in names:
            (self._next / name).rename(self.chain.parent / name)
