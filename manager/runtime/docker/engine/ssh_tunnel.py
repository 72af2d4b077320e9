"""An Engine on another machine over ssh: one ssh process that forwards a local socket to the Engine's.

The SDK's own ssh transports cannot close a stream and start one ssh process per connection; a forwarded socket behaves
like a local one. The user's ssh configuration, agent and known hosts apply; ssh never prompts.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

REMOTE_SOCKET = "/var/run/docker.sock"
CONNECT_LIMIT = 15.0
"""Seconds for ssh to connect, authenticate and forward."""
KNOCK_LIMIT = 5.0
"""Seconds for a local socket to accept a connection: the backlog of a hanging process is full."""
_OPTIONS = {
    "BatchMode": "yes",
    "ExitOnForwardFailure": "yes",
    "StreamLocalBindUnlink": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
}


class Tunnel:
    """Forwards to the Engine that an `ssh://[user@]host[:port][/path]` address names. Used from several threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._folder = Path(tempfile.mkdtemp(prefix="opensandbox-ssh-"))
        self.socket = str(self._folder / "docker.sock")
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ensure(self) -> None:
        """Returns when the tunnel is up; restarts a broken one. Raises OSError with ssh's error output."""
        with self._lock:
            if self._process is not None:
                if _answers(self.socket):
                    return
                # Its sockets close a moment before a dying process counts as ended.
                self._process.kill()
                self._process.wait()
            self._start()

    def close(self) -> None:
        """Ends it and removes its socket."""
        if self._process is not None:
            self._process.terminate()  # without the lock: whoever holds it waits for this process
        with self._lock:
            if self._process is not None:
                self._process.terminate()
                self._process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        log = self._folder / "ssh.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command(self._url, self.socket),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C must not end ssh: operations in progress still need it
            )
        deadline = time.monotonic() + CONNECT_LIMIT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                said = log.read_text(errors="replace").strip().splitlines()
                raise ConnectionError(f"ssh to {self._url} failed: {said[-1] if said else 'it said nothing'}")
            if _answers(self.socket):
                return
            time.sleep(0.05)
        self._process.terminate()
        self._process.wait()
        raise ConnectionError(f"ssh to {self._url} did not forward the Engine's socket in time")


def command(url: str, local: str) -> list[str]:
    """The ssh command that forwards `local` to the Engine's socket on the other machine."""
    parts = urlsplit(url)
    if not parts.hostname or parts.hostname.startswith("-"):
        raise ConnectionError(f"{url} names no host")
    remote = parts.path if len(parts.path) > 1 else REMOTE_SOCKET
    options = [f"-o{key}={value}" for key, value in _OPTIONS.items()]
    login = ["-l", parts.username] if parts.username else []
    port = ["-p", str(parts.port)] if parts.port else []
    return ["ssh", "-N", "-T", *options, *login, *port, "-L", f"{local}:{remote}", "--", parts.hostname]


def knock(path: str) -> None:
    """Raises OSError, at the latest after the limit of seconds, when nothing listens on this socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(KNOCK_LIMIT)
        probe.connect(path)


def _answers(path: str) -> bool:
    try:
        knock(path)
    except OSError:
        return False
    return True
