"""Pins a host directory between its check and its mount into a sandbox (no time-of-check to time-of-use race).

The Engine is given a path and resolves it when the container starts. A sandbox that has the parent directory mounted
can put a symbolic link there meanwhile, to anything on the host. So the checked directory is bind-mounted to a path
that only root can reach, the Engine mounts that one, and it is unmounted once the container runs: the container's own
mount stays.

A file descriptor's path in /proc is no alternative: the kernel does not bind-mount from another mount namespace.
Without root, or with an Engine in another mount namespace, nothing can be pinned; SECURITY.md describes what remains.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import socket
import stat
import struct
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from manager.runtime.docker.buckets import mounted_below

FOLDER = "/run/opensandbox-gateway"
MS_BIND, MS_REC, MNT_DETACH = 4096, 16384, 2
_CREDENTIALS = struct.Struct("3i")


class Moved(Exception):
    """Raised when a path contains a symbolic link that it did not contain when it was checked."""


class Pins:
    """Pins directories, each until it is released."""

    def __init__(self, folder: str = FOLDER) -> None:
        self._root = folder
        self._own = os.path.join(folder, str(os.getpid()))
        self.possible = False

    def meet(self, url: str) -> None:
        """Finds out whether the Engine at this address sees our mounts; removes those of a killed server."""
        self.possible = os.geteuid() == 0 and _shares_mounts(url)
        if self.possible:
            self._clear()

    def hold(self, path: str) -> str:
        """The path under which the Engine finds what is at `path` now. Raises Moved, OSError."""
        if not self.possible:
            return path
        place = os.path.join(self._own, secrets.token_hex(16))
        with contextlib.closing(_Held(path)) as held:
            os.makedirs(
                self._own, mode=0o711, exist_ok=True
            )  # root of a container may be another user, which must be able to enter
            if held.is_folder:
                os.mkdir(place)
            else:
                os.close(os.open(place, os.O_CREAT | os.O_EXCL))
            _mount(f"/proc/self/fd/{held.number}", place)
        return place

    def let_go(self, places: Iterable[str]) -> None:
        """Releases these paths; those that were never pinned are left alone."""
        for place in places:
            if os.path.dirname(place) == self._own:
                _remove(place)

    def _clear(self) -> None:
        with contextlib.suppress(OSError):
            for name in os.listdir(self._root):
                if os.path.exists(f"/proc/{name}"):
                    continue
                folder = os.path.join(self._root, name)
                for place in (*mounted_below(folder), *(os.path.join(folder, entry) for entry in os.listdir(folder))):
                    _remove(place)
                os.rmdir(folder)


class _Held:
    """A descriptor of what is at a path, reached without following a link anywhere."""

    def __init__(self, path: str) -> None:
        self.number = os.open("/", os.O_PATH | os.O_DIRECTORY)
        try:
            for name in PurePosixPath(path).parts[1:]:
                below = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self.number)
                os.close(self.number)
                self.number = below
            mode = os.fstat(self.number).st_mode
        except NotADirectoryError as error:
            self.close()
            raise Moved from error  # a link, opened itself, is no directory either
        except BaseException:
            self.close()
            raise
        self.is_folder = stat.S_ISDIR(mode)
        if stat.S_ISLNK(mode):
            self.close()
            raise Moved

    def close(self) -> None:
        os.close(self.number)


def _shares_mounts(url: str) -> bool:
    """Whether the process that listens at this socket is in our mount namespace."""
    if not url.startswith("unix://"):
        return False
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(url.removeprefix("unix://"))
            told = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return Path(f"/proc/{_CREDENTIALS.unpack(told)[0]}/ns/mnt").samefile("/proc/self/ns/mnt")
    except OSError:
        return False


_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, place: str) -> None:
    if _libc.mount(source.encode(), place.encode(), None, ctypes.c_ulong(MS_BIND | MS_REC), None) < 0:
        number = ctypes.get_errno()
        _remove(place)
        raise OSError(number, os.strerror(number))


def _remove(place: str) -> None:
    """Removes the empty mount point: neither call removes one that is still mounted or contains files."""
    _libc.umount2(place.encode(), MNT_DETACH)
    with contextlib.suppress(OSError):
        os.rmdir(place) if os.path.isdir(place) else os.unlink(place)
