"""Images: one that is on the Engine is used as it is, another is pulled once, however many creates wait for it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any

from manager.domain import errors
from manager.domain.progress import SHARE, Share
from manager.domain.sandbox import Platform, RegistryAuth
from manager.runtime.base import Progress
from manager.runtime.docker.codes import (
    ENGINE_DISK_FULL,
    INVALID_IMAGE,
    SANDBOX_IMAGE_NOT_FOUND,
    SANDBOX_IMAGE_PULL_FAILED,
    SANDBOX_IMAGE_PULL_TIMEOUT,
    SANDBOX_IMAGE_PULL_UNAUTHORIZED,
    SANDBOX_REGISTRY_UNREACHABLE,
)
from manager.runtime.docker.engine.client import Calls

log = logging.getLogger(__name__)
Json = dict[str, Any]

PROGRESS_EVERY = 0.5
"""Seconds between two progress reports of a pull."""
_MEBIBYTE = 1024 * 1024
_PATH = re.compile(r"/[^\s\"':]*+")
_ITS_OWN = re.compile(r"/(?:overlay2|volumes|containers|containerd)/[^,;]*+")
"""A path after this text in a message is one of the Engine's own storage."""
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}:\d+|\[[0-9a-fA-F:.]+\]:\d+")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64v8": "arm64"}


class Images:
    """Ensures that images are on the Engine."""

    def __init__(self, calls: Calls, registries: Mapping[str, RegistryAuth], *, limit: float) -> None:
        """`registries` holds credentials by registry host; `limit` is the longest wait for one pull, in seconds."""
        self._calls = calls
        self._limit = limit
        self._registries = {_host(name): auth for name, auth in registries.items()}
        self._own_platform: Platform | None = None
        self._pulls: dict[tuple[object, ...], _Pull] = {}

    async def ensure(
        self, image: str, *, platform: Platform | None, auth: RegistryAuth | None, progress: Progress
    ) -> Json:
        """The image as the Engine describes it, pulled if it is not there or is for another platform.

        Raises NotFound, Forbidden, Unavailable, TimedOut or Failed, each with a code of its own.
        """
        try:
            local = await self._calls.inspect_image(image)
        except (errors.Invalid, errors.Failed) as error:
            raise pull_error(image, error) from error
        if local is not None and matches(local, platform or await self._native()):
            return local
        if local is not None and platform is None:
            return await self._native_or(local, image, auth, progress)
        return await self._pull(image, platform, auth, progress)

    async def _native(self) -> Platform:
        """The platform of the Engine itself."""
        if self._own_platform is None:
            info = await self._calls.info()
            architecture = str(info.get("Architecture", ""))
            self._own_platform = Platform(
                str(info.get("OSType", "linux")), _ARCHITECTURES.get(architecture, architecture)
            )
        return self._own_platform

    async def _native_or(self, local: Json, image: str, auth: RegistryAuth | None, progress: Progress) -> Json:
        """The tag names an image for another platform, pulled earlier; a locally built one may have no other."""
        try:
            return await self._pull(image, await self._native(), auth, progress)
        except errors.ManagerError as error:
            log.info("using %s as it is, for another platform: %s", image, error.message)
            return local

    async def _pull(self, image: str, platform: Platform | None, auth: RegistryAuth | None, progress: Progress) -> Json:
        await self._pull_once(image, platform, auth or self._registries.get(registry_of(image)), progress)
        pulled = await self._calls.inspect_image(image)
        if pulled is None:
            raise errors.Failed(
                SANDBOX_IMAGE_PULL_FAILED, f"Image {image} was pulled and is not there; pull it by hand to see why."
            )
        if not matches(pulled, platform):
            raise errors.NotFound(SANDBOX_IMAGE_NOT_FOUND, f"Image {image} does not exist for {_platform(platform)}.")
        return pulled

    async def _pull_once(
        self, image: str, platform: Platform | None, auth: RegistryAuth | None, progress: Progress
    ) -> None:
        """Waits for the running pull of this image, or starts one; it continues when its waiters are cancelled."""
        key = (image, platform, auth)
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = _Pull(self._calls, image, platform, auth)
            pull.task.add_done_callback(lambda _: self._pulls.pop(key, None))
        pull.listeners.append(progress)
        progress(pull.text)
        try:
            async with asyncio.timeout(self._limit):
                await asyncio.shield(pull.task)
        except TimeoutError:
            message = f"The pull of {image} is not done after {self._limit:.0f} seconds; try again, it goes on."
            raise errors.TimedOut(SANDBOX_IMAGE_PULL_TIMEOUT, message) from None
        finally:
            pull.listeners.remove(progress)


class _Pull:
    """One running pull and the progress callbacks of its waiters."""

    def __init__(self, calls: Calls, image: str, platform: Platform | None, auth: RegistryAuth | None) -> None:
        self.listeners: list[Progress] = []
        self._image = image
        self._layers = Layers()
        self._told = (0, 0)
        self.text = f"pulling {image}"
        """The progress line for a new waiter."""
        self._loop = asyncio.get_running_loop()
        self.task = self._loop.create_task(self._run(calls, _platform(platform), auth))
        self.task.add_done_callback(_retrieve)

    async def _run(self, calls: Calls, platform: str | None, auth: RegistryAuth | None) -> None:
        self._tell()
        self._loop.call_later(PROGRESS_EVERY, self._look)
        over = {SHARE: Share(self._image, over=True)}
        try:
            await calls.pull(self._image, platform, auth, self._line)
        except errors.ManagerError as error:
            failure = pull_error(self._image, error)
            log.info("could not pull %s: %s", self._image, failure.message, extra=over)
            raise failure from error
        log.info("pulled %s", self._image, extra=over)

    def _line(self, record: Json) -> None:
        """On a thread: errors of a pull come as records of a stream that began with 200."""
        if record.get("error"):
            raise errors.Failed(SANDBOX_IMAGE_PULL_FAILED, str(record["error"]))
        self._layers.take(record)

    def _look(self) -> None:
        """Reports progress that has changed since the last report, until the pull ends."""
        if self.task.done():
            return
        if self._layers.sizes != self._told:
            self._told = self._layers.sizes
            self.text = f"pulling {self._image}: {self._layers}"
            self._tell()
        self._loop.call_later(PROGRESS_EVERY, self._look)

    def _tell(self) -> None:
        """One progress line for the waiters and the log; a bar where a terminal shows the log."""
        log.info(self.text, extra={SHARE: Share(self._image, *self._told)})
        for listener in tuple(self.listeners):
            listener(self.text)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieves the exception: every waiter may have been cancelled before it was set."""
    if not task.cancelled():
        task.exception()


class Layers:
    """Progress of the layers of a pull."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self.sizes = (0, 0)
        """Bytes received and bytes in total, as far as they are known."""

    def take(self, record: Mapping[str, Any]) -> None:
        """Counts one progress record."""
        detail, layer = record.get("progressDetail") or {}, str(record.get("id", ""))
        if record.get("status") == "Downloading" and detail.get("total"):
            self._layers[layer] = (int(detail.get("current", 0)), int(detail["total"]))
        elif record.get("status") in ("Download complete", "Pull complete") and layer in self._layers:
            total = self._layers[layer][1]
            self._layers[layer] = (total, total)
        known = self._layers.values()
        self.sizes = (sum(done for done, _ in known), sum(total for _, total in known))

    def __str__(self) -> str:
        done, total = self.sizes
        return f"{done // _MEBIBYTE} of {total // _MEBIBYTE} MB" if total else "waiting for the registry"


def matches(image: Mapping[str, Any], platform: Platform | None) -> bool:
    """Whether an image is for this platform; None is satisfied by any."""
    if platform is None:
        return True
    return platform_of(image) == f"{platform.os}/{platform.arch}"


def platform_of(image: Mapping[str, Any]) -> str:
    """The platform of an image, as `linux/amd64`."""
    architecture = str(image.get("Architecture", ""))
    return f"{image.get('Os', '')}/{_ARCHITECTURES.get(architecture, architecture)}"


def registry_of(image: str) -> str:
    """The registry host of a reference: the first segment if it looks like a host, else Docker's own."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def _host(name: str) -> str:
    """A registry as a configuration may write it (with scheme, with Docker Hub's old address) as its host."""
    host = name.partition("://")[2] or name
    host = host.partition("/")[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host


def _platform(platform: Platform | None) -> str | None:
    return f"{platform.os}/{platform.arch}" if platform else None


_Kind = type[errors.ManagerError]
_TEXTS: tuple[tuple[_Kind, str, str, tuple[str, ...]], ...] = (
    (
        errors.Failed,
        ENGINE_DISK_FULL,
        "The Engine's disk is full, image {image} could not be pulled; free space on it.",
        ("no space left", "disk quota"),
    ),
    (
        errors.Forbidden,
        SANDBOX_IMAGE_PULL_UNAUTHORIZED,
        "The registry does not let us pull {image}: it does not exist there, or needs other credentials.",
        (
            "unauthorized",
            "authentication required",
            "no basic auth",
            "access denied",
            "access to the resource is denied",
            "forbidden",
        ),
    ),
    (
        errors.NotFound,
        SANDBOX_IMAGE_NOT_FOUND,
        "Image {image} does not exist.",
        ("manifest unknown", "not found", "no matching manifest", "name unknown", "does not exist"),
    ),
    (
        errors.Invalid,
        INVALID_IMAGE,
        "{image} is not the name of an image.",
        ("invalid reference format", "invalid repository name", "repository name must", "is a reserved name"),
    ),
    (
        errors.TimedOut,
        SANDBOX_IMAGE_PULL_TIMEOUT,
        "The registry of {image} did not answer in time.",
        ("timeout", "timed out", "deadline exceeded"),
    ),
    (
        errors.Unavailable,
        SANDBOX_REGISTRY_UNREACHABLE,
        "The registry of {image} cannot be reached from the Engine.",
        (
            "connection refused",
            "no such host",
            "network is unreachable",
            "no route to host",
            "connection reset",
            "server misbehaving",
            "lookup ",
            "tls:",
            "x509:",
            "eof",
            "http: server gave http response",
        ),
    ),
)
"""First match wins. The Engine reports what a registry said as text, often inside a 500: no type tells these apart."""


def said(error: errors.ManagerError, named: str = "") -> str:
    """The Engine's message in one line, without its own paths and the addresses that `named` does not contain."""
    text = _PATH.sub(_hide_own, " ".join(error.message.split()))
    return _ADDRESS.sub(lambda found: found[0] if found[0] in named else "(address)", text)


def _hide_own(path: re.Match[str]) -> str:
    found = _ITS_OWN.search(path[0], 1)
    return path[0] if found is None else "(path)" + path[0][found.end() :]


def pull_error(image: str, error: errors.ManagerError) -> errors.ManagerError:
    """Maps a failed pull to an error for the caller."""
    if isinstance(error, errors.TimedOut):
        return errors.TimedOut(
            SANDBOX_IMAGE_PULL_TIMEOUT, f"The pull of {image} hung and was given up; check its registry, try again."
        )
    if isinstance(error, errors.Unavailable):
        return error
    cause = said(error, image)
    lowered = cause.lower()
    for kind, code, message, fragments in _TEXTS:
        if any(fragment in lowered for fragment in fragments):
            return kind(code, f"{message.format(image=image)} ({cause})")
    return errors.Failed(SANDBOX_IMAGE_PULL_FAILED, f"Failed to pull image {image}: {cause}")
