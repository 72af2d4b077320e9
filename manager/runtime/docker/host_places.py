"""Places of the Engine's host with which a sandbox would own the host or this server: under every name they have.

A path is looked at as it is written, with its links followed, and by the directory that it leads to in the end, since a
mount can show the same directory in a second place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from manager.domain import errors
from manager.domain.volumes import check_host_place
from manager.runtime.docker.engine import Engine
from manager.settings.model import Settings

NEVER_MOUNTED = (
    "/run/docker.sock",
    "/run/docker",
    "/run/containerd",
    "/var/run/docker.sock",
    "/var/run/docker",
    "/var/run/containerd",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/proc",
    "/sys",
)
"""In both spellings of /run: on another machine nobody follows links for us."""
Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class HostRules:
    """What of the Engine's host may be mounted; `local` says whether its file system is the one we see."""

    allowed: tuple[str, ...]
    protected: tuple[str, ...]
    local: bool

    def real_path(self, name: str, path: str, also: Sequence[str] = ()) -> str:
        """The path to mount for the volume `name`, links followed where we see them; nor may it touch `also`.

        Raises Invalid.
        """
        protected = (*self.protected, *also)
        check_host_place(name, path, self.allowed, protected)
        if not self.local:
            return path
        real = os.path.realpath(path)
        allowed = [os.path.realpath(prefix) for prefix in self.allowed]
        check_host_place(name, real, allowed, [os.path.realpath(place) for place in protected])
        if is_another_name(real, protected):
            message = f"volumes[{name}].host.path: '{path}' shows what belongs to the Engine or to this server."
            raise errors.Invalid("VOLUME::HOST_PATH_NOT_ALLOWED", message)
        return real


def is_another_name(path: str, places: Iterable[str]) -> bool:
    """Whether `path` is, holds or lies in one of these places through a mount that shows them elsewhere too."""
    above = set(_identities(path))
    itself = _identity(path)
    for place in places:
        known = _identity(place)
        if known is not None and (known in above or (itself is not None and itself in _identities(place))):
            return True
    return False


def _identities(path: str) -> Iterator[Identity]:
    """Of the path and of every directory above it, as far as they exist."""
    real = PurePosixPath(os.path.realpath(path))
    for folder in (real, *real.parents):
        found = _identity(str(folder))
        if found is not None:
            yield found


def _identity(path: str) -> Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def host_rules(settings: Settings, engine: Engine) -> HostRules:
    """Never the Engine's sockets and data, nor what this server remembers and keeps secret."""
    url = engine.address.url
    sockets = [url.removeprefix("unix://")] if url.startswith("unix://") else []
    sockets += [os.path.join(os.path.dirname(socket), "docker") for socket in sockets]  # its containerd's, if rootless
    store = os.path.expanduser(settings.store.path)
    own = os.path.dirname(store).rstrip("/") or store
    key = settings.server.tls.key
    secrets = [os.path.abspath(os.path.expanduser(key))] if key else []
    return HostRules(
        allowed=tuple(os.path.normpath(path) for path in settings.storage.allowed_host_paths),
        protected=(*sockets, *NEVER_MOUNTED, own, *secrets),
        local=engine.address.remote_host is None,
    )
