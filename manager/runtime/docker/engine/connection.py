"""The connection to a Docker Engine: the only file that imports the SDK, and the one that translates its exceptions.

The SDK blocks, so every call runs on a named pool of threads with an SDK client of its own: short calls, changes to
containers, slow work (pulls, commits), streams, and one thread for health checks. Work that hangs in one pool does not
block the others. Clients are built on first use, because building one already calls the Engine.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import docker.errors
import requests.exceptions
import urllib3.exceptions
from docker import APIClient
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool
from docker.types import CancellableStream
from docker.utils import kwargs_from_env

from manager.domain import errors
from manager.runtime.docker.codes import ENGINE_ERROR, ENGINE_TIMEOUT, ENGINE_UNAVAILABLE, TOO_MANY_STREAMS
from manager.runtime.docker.engine.ssh_tunnel import Tunnel, knock
from manager.runtime.docker.engine.stream import Feed, Source
from manager.runtime.docker.engine.threads import Workers

T = TypeVar("T")
LOCAL_HOST = "unix:///var/run/docker.sock"
HEALTH_TIMEOUT = 5.0
"""Seconds within which a living Engine answers a ping, also under load."""


class Lane(enum.Enum):
    """The pools of threads: what runs in one never waits for what runs in another. The value is the thread limit."""

    SHORT = ("short", 16)
    CHANGE = ("change", 16)
    SLOW = ("slow", 32)
    STREAM = ("stream", 64)
    HEALTH = ("health", 1)


MOST_THREADS = max(lane.value[1] for lane in Lane)
_LEAST_THREADS = 2
"""The event stream occupies one thread of its lane for the lifetime of the server."""


def _size(lane: Lane, threads: int) -> int:
    return min(lane.value[1], max(threads, _LEAST_THREADS))


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where the Engine is: `url` as DOCKER_HOST spells it; `remote_host` its machine when that is not ours."""

    url: str
    remote_host: str | None


def engine_address(environment: Mapping[str, str]) -> EngineAddress:
    """The Engine that `DOCKER_HOST` names, or this machine's."""
    url = environment.get("DOCKER_HOST") or LOCAL_HOST
    parts = urlsplit(url)
    if parts.scheme in ("unix", "npipe", "") or parts.hostname in ("localhost", "127.0.0.1", "::1"):
        return EngineAddress(url, None)
    return EngineAddress(url, parts.hostname)


def _socket_of(url: str) -> str | None:
    return url.removeprefix("unix://") if url.startswith("unix://") else None


class Engine:
    """One Engine, called from the loop."""

    def __init__(
        self, environment: Mapping[str, str], *, timeout: float, silence: float, threads: int = MOST_THREADS
    ) -> None:
        """`timeout` bounds the wait for a response, `silence` that for the next byte of slow work; in seconds.

        `threads` bounds each lane.
        """
        self.address = engine_address(environment)
        self._tunnel = Tunnel(self.address.url) if self.address.url.startswith("ssh://") else None
        self._socket = self._tunnel.socket if self._tunnel else _socket_of(self.address.url)
        self._environment = {**environment, "DOCKER_HOST": f"unix://{self._socket}"} if self._socket else environment
        self._timeouts = {Lane.SLOW: silence, Lane.HEALTH: HEALTH_TIMEOUT}
        self._timeout = timeout
        self._workers = {lane: Workers(lane.value[0], _size(lane, threads)) for lane in Lane}
        self._clients: dict[Lane, APIClient] = {}
        self._lock = threading.Lock()
        self._closed = False

    async def call(self, work: Callable[[Any], T], lane: Lane = Lane.SHORT) -> T:
        """What `work` returns when given the lane's SDK client. Raises the kinds of `manager.domain.errors` only."""
        if self._closed:
            raise errors.Unavailable(ENGINE_UNAVAILABLE, "The server is shutting down.")
        return await self._workers[lane].run(functools.partial(self._work, work, lane))

    async def stream(self, open_stream: Callable[[Any], CancellableStream[T]], *, buffer: int = 256) -> Feed[T]:
        """A stream of the Engine as an asynchronous iterator, open when this returns. Raises TooMany at the limit."""
        workers = self._workers[Lane.STREAM]
        if workers.busy >= workers.size:
            raise errors.TooMany(TOO_MANY_STREAMS, f"{workers.size} streams are open; close one and try again")
        opener = functools.partial(self._work, lambda client: _Stream(open_stream(client)), Lane.STREAM)
        feed: Feed[T] = Feed(opener, self.translate, buffer)
        await feed.open(workers)
        return feed

    def close(self) -> None:
        """Ends idle threads and connections; does not wait for stuck ones."""
        self._closed = True
        for workers in self._workers.values():
            workers.close()
        for client in self._clients.values():
            with contextlib.suppress(Exception):
                client.close()
        if self._tunnel is not None:
            self._tunnel.close()

    def _work(self, work: Callable[[Any], T], lane: Lane) -> T:
        try:
            self._knock()
            return work(self._client(lane))
        except Exception as error:
            translated = self.translate(error)
            if translated is error:
                raise
            raise translated from error

    def _knock(self) -> None:
        """Raises OSError at once when nothing listens on the Engine's socket; the SDK would try for its whole limit."""
        if self._tunnel is not None:
            self._tunnel.ensure()
        elif self._socket is not None:
            knock(self._socket)

    def _client(self, lane: Lane) -> APIClient:
        client = self._clients.get(lane)
        if client is None:
            built = self._build(lane)
            with self._lock:
                client = self._clients.setdefault(lane, built)
            if client is not built:
                built.close()
        return client

    def _build(self, lane: Lane) -> APIClient:
        kind = _BoundedClient if lane in self._timeouts else _Client
        options: dict[str, Any] = {**kwargs_from_env(self._environment)}
        timeout: Any = self._timeouts.get(lane, self._timeout)
        return kind(version="auto", timeout=timeout, max_pool_size=self._workers[lane].size, **options)

    def translate(self, error: Exception) -> Exception:
        """Translates the SDK's exceptions by type; anything else is returned as it is."""
        if isinstance(error, docker.errors.APIError) and error.response is not None:
            return _refusal(error.response.status_code, str(error.explanation or error))
        if isinstance(error, _TIMEOUTS) or _timed_out(error):
            return errors.TimedOut(ENGINE_TIMEOUT, f"The Docker Engine at {self.address.url} did not answer in time.")
        if isinstance(error, _FAILURES):
            return errors.Unavailable(ENGINE_UNAVAILABLE, self._unreachable(error), retry_after=5)
        return error

    def _unreachable(self, error: BaseException) -> str:
        cause = _root(error)
        if isinstance(cause, PermissionError):
            advice = "this user may not use it; run the server as a member of the socket's group"
        elif isinstance(cause, FileNotFoundError):
            advice = "nothing listens there; start the Engine, or set DOCKER_HOST"
        else:
            advice = "start the Engine, or check DOCKER_HOST"
        if self._tunnel is not None and isinstance(cause, ConnectionError) and cause.args:
            advice = f"{advice} ({cause.args[0]})"
        return f"The Docker Engine at {self.address.url} cannot be reached: {advice}."


_TIMEOUTS = (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError)
_FAILURES = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    docker.errors.DockerException,
    OSError,
)


class _Stream(Source[T]):
    """One of the SDK's streams, closed for good: its own `close` wakes the reader but leaves the socket open."""

    def __init__(self, stream: CancellableStream[T]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[T]:
        try:
            # Not `yield from`: a reader that leaves would call the SDK's `close` through it, outside of ours.
            for item in self._stream:  # noqa: UP028
                yield item
        finally:
            with contextlib.suppress(Exception):
                self._stream._response.close()  # type: ignore[attr-defined]

    def close(self) -> None:
        with contextlib.suppress(OSError):  # The peer may have closed first.
            self._stream.close()


class _UnixConnection(UnixHTTPConnection):
    """The SDK's connection over a Unix socket; its own loses the socket when connecting fails."""

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self.unix_socket)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class _UnixPool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        return _UnixConnection(self.base_url, self.socket_path, cast("int", self.timeout))


class _UnixAdapter(UnixHTTPAdapter):
    def get_connection(self, url: Any, proxies: Any = None) -> UnixHTTPConnectionPool:
        with self.pools.lock:
            pool = self.pools.get(url)
            if pool is None:
                pool = self.pools[url] = _UnixPool(url, self.socket_path, self.timeout, maxsize=self.max_pool_size)
        return pool


class _Client(APIClient):
    """A client that reads no environment variable but `DOCKER_…`.

    requests would let REQUESTS_CA_BUNDLE override the Engine's certificate authority, and use `HTTP_PROXY`.
    """

    def mount(self, prefix: Any, adapter: Any) -> None:
        if isinstance(adapter, UnixHTTPAdapter):
            adapter = _UnixAdapter(adapter.socket_path, adapter.timeout, max_pool_size=adapter.max_pool_size)
        super().mount(prefix, adapter)

    @property
    def trust_env(self) -> bool:
        return False

    @trust_env.setter
    def trust_env(self, value: bool) -> None:
        pass


class _BoundedClient(_Client):
    """A client whose timeout holds for every read, also where the SDK asks for none (pulls).

    A pull that sends nothing for that long hangs; the thread has to come back for the next one.
    """

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        kwargs["timeout"] = self.timeout
        return kwargs


_KINDS: Mapping[int, type[errors.ManagerError]] = {
    400: errors.Invalid,
    401: errors.Forbidden,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    501: errors.Unsupported,
    503: errors.Unavailable,
}


def _refusal(status: int, explanation: str) -> errors.ManagerError:
    return _KINDS.get(status, errors.Failed)(ENGINE_ERROR, explanation.strip())


def _root(error: BaseException) -> BaseException:
    """The system error underneath; requests and urllib3 keep it in `args`, the SDK in `__cause__`."""
    for _ in range(8):
        wrapped = next((part for part in error.args if isinstance(part, BaseException)), None)
        inner = wrapped or error.__cause__ or error.__context__
        if inner is None or (isinstance(error, OSError) and error.errno is not None):
            break
        error = inner
    return error


def _timed_out(error: Exception) -> bool:
    """A timeout that the SDK reports as something else: a broken connection, an unknown API version."""
    wrappers = (requests.exceptions.ConnectionError, docker.errors.DockerException)
    return isinstance(error, wrappers) and isinstance(_root(error), _TIMEOUTS)
