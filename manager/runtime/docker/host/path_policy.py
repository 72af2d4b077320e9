"""Host paths that are never mounted, since a sandbox could take over the host or this server with them.

A path is checked as written, with its symbolic links resolved, and by the inode that it leads to, since a bind mount
can show the same directory under a second path.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from manager.domain import errors
from manager.domain.codes import VOLUME_HOST_PATH_NOT_ALLOWED
from manager.domain.volumes import check_host_place, within
from manager.runtime.docker.engine.connection import Engine
from manager.settings.model import Settings

NEVER_MOUNTED = (
    "/boot",
    "/dev",
    "/proc",
    "/run",
    "/sys",
    "/var/run",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
)
"""The kernel's files, sockets, and the data of Docker and Podman. In both spellings of /run: symbolic links of another
machine cannot be resolved."""
OF_A_USER = (".docker", ".ssh", ".local/share/containers", ".local/share/docker")
"""The same below the home of the user that this server runs as, with the keys that lead to an Engine."""
Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class HostRules:
    """Decides what of the Engine's host may be mounted; `local`: its file system is this process's."""

    allowed: tuple[str, ...]
    protected: tuple[str, ...]
    local: bool
    secrets: tuple[str, ...] = ()
    """Files among the protected: what lies beside one of them is as private, a directory beside it is not."""

    def real_path(self, name: str, path: str, also: Sequence[str] = ()) -> str:
        """The path to mount for the volume `name`, links followed where we see them; nor may it touch `also`.

        Raises Invalid.
        """
        protected = (*self.protected, *also)
        check_host_place(name, path, self.allowed, protected)
        if not self.local:
            return path
        with unchanging(name, path):
            real = os.path.realpath(path)
            allowed = [os.path.realpath(prefix) for prefix in self.allowed]
            check_host_place(name, real, allowed, [os.path.realpath(place) for place in protected])
            shown = is_another_name(real, protected) or self._lies_beside_a_secret(real)
        if shown:
            message = f"volumes[{name}].host.path: '{path}' shows what belongs to the Engine or to this server."
            raise errors.Invalid(VOLUME_HOST_PATH_NOT_ALLOWED, message)
        return real

    def check_device(self, name: str, device: str, also: Sequence[str] = ()) -> None:
        """Raises Invalid for a directory that a volume of the Engine shows, unless sandboxes may see it.

        The operator made the volume, so the list of allowed directories does not matter.
        """
        try:
            replace(self, allowed=()).real_path(name, posixpath.normpath(device), also)
        except errors.Invalid as refusal:
            message = f"volumes[{name}]: the volume shows '{device}', which belongs to the Engine or to this server."
            raise errors.Invalid(refusal.code, message) from refusal

    def _lies_beside_a_secret(self, real: str) -> bool:
        """Whether this is a file, such as the key of another program, in the directory of one of ours."""
        if os.path.isdir(real):
            return False
        folders = {os.path.dirname(place) for secret in self.secrets for place in (secret, os.path.realpath(secret))}
        return os.path.exists(real) and os.path.dirname(real) in folders


@contextmanager
def unchanging(name: str, path: str) -> Iterator[None]:
    """Raises Invalid for the path of the volume `name` where symbolic links change while they are followed."""
    try:
        yield
    except OSError as error:  # what was a link a moment ago is none any more
        message = f"volumes[{name}]: '{path}' changes while it is looked at."
        raise errors.Invalid(VOLUME_HOST_PATH_NOT_ALLOWED, message) from error


def real_path(name: str, path: str) -> str:
    """The path with every symbolic link resolved. Raises Invalid as `unchanging`."""
    with unchanging(name, path):
        return os.path.realpath(path)


def is_another_name(path: str, places: Iterable[str]) -> bool:
    """Whether `path` is, contains or lies in one of these places by inode, which also finds bind mounts of them."""
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


def host_rules(settings: Settings, engine: Engine, config: Path | None = None) -> HostRules:
    """The Engine's sockets and data, and this server's store, configuration and secrets."""
    url = engine.address.url
    sockets = [url.removeprefix("unix://")] if url.startswith("unix://") else []
    sockets += [os.path.join(os.path.dirname(socket), "docker") for socket in sockets]  # its containerd's, if rootless
    secrets = own_files(settings, config)
    return HostRules(
        allowed=tuple(os.path.normpath(path) for path in settings.storage.allowed_host_paths),
        protected=(*sockets, *NEVER_MOUNTED, *own_folders(settings), *secrets),
        local=engine.address.remote_host is None,
        secrets=secrets,
    )


def own_files(settings: Settings, config: Path | None) -> tuple[str, ...]:
    """Files that hold keys, or that define the confinement of sandboxes."""
    tls, seccomp = settings.server.tls, settings.docker.seccomp_profile
    profile = seccomp if seccomp and seccomp != "unconfined" and not seccomp.lstrip().startswith("{") else None
    named = (config, tls.certificate, tls.key, profile)
    return tuple(os.path.abspath(os.path.expanduser(path)) for path in named if path)


def own_folders(settings: Settings) -> tuple[str, ...]:
    """Directories with this server's data, and with client keys of an Engine."""
    store = os.path.expanduser(settings.store.path)
    home = os.path.expanduser("~")
    keys = os.environ.get("DOCKER_CERT_PATH") or os.environ.get("DOCKER_CONFIG")
    return (
        os.path.dirname(store).rstrip("/") or store,
        *(os.path.join(home, place) for place in OF_A_USER if home != "~"),
        *([os.path.abspath(keys)] if keys else []),
    )


def own_places(container: Mapping[str, Any], inside: Iterable[str]) -> Iterator[str]:
    """Where these places of our own container are on the Engine's host, by its bind mounts. Pure."""
    for mount in container.get("Mounts") or ():
        source, target = str(mount.get("Source") or ""), str(mount.get("Destination") or "")
        if mount.get("Type") != "bind" or not source.startswith("/"):
            continue
        for place in inside:
            if within(place, target):
                yield posixpath.normpath(posixpath.join(source, posixpath.relpath(place, target)))
            elif within(target, place):
                yield source
