"""Registries as tests need them: a real one that asks for a password, and a valve in front of it that can be shut."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import docker.errors

from manager.domain.sandbox import RegistryAuth
from tests.docker.harness import free_port, wait_for_port

USER, PASSWORD = "someone", "c0rrect-horse"
AUTH = RegistryAuth(USER, PASSWORD)
LOGIN = {"username": USER, "password": PASSWORD}
CHUNK = 65536
TRICKLE = 0.02
"""Seconds between two chunks of a slow line: some 3 MB in a second."""


def possible() -> bool:
    """Whether this machine has the programs."""
    return bool(shutil.which("docker-registry") and shutil.which("htpasswd"))


@contextlib.contextmanager
def registry(home: Path) -> Iterator[str]:
    """The address of a registry that asks for a password."""
    port = free_port()
    subprocess.run(["htpasswd", "-Bbc", str(home / "users"), USER, PASSWORD], check=True, capture_output=True)
    (home / "config.yml").write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {home}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: test, path: {home}/users}}}}\n"
    )
    with subprocess.Popen(["docker-registry", "serve", str(home / "config.yml")], stderr=subprocess.DEVNULL) as server:
        try:
            wait_for_port(port)
            yield f"127.0.0.1:{port}"
        finally:
            server.kill()


def large_image(engine: Any, base: str, megabytes: int) -> str:
    """The id of an image like `base` with a layer that no Engine has and that does not compress."""
    source = engine.create_container(base, "true")["Id"]
    engine.put_archive(source, "/", archive_of({"ballast": os.urandom(megabytes << 20)}))
    made = engine.commit(source)
    engine.remove_container(source)
    return str(made["Id"])


@contextlib.contextmanager
def pushed(engine: Any, image: str, address: str, *, seen_at: str | None = None) -> Iterator[str]:
    """The name of an image that is in the registry and not on the Engine; `seen_at` is another address of it."""
    repository = f"team/{uuid.uuid4().hex[:8]}"
    engine.tag(image, f"{address}/{repository}", "1")
    told = engine.push(f"{address}/{repository}", "1", auth_config=LOGIN)
    assert "errorDetail" not in told, told
    engine.remove_image(f"{address}/{repository}:1")
    name = f"{seen_at or address}/{repository}:1"
    try:
        yield name
    finally:
        with contextlib.suppress(docker.errors.ImageNotFound):
            engine.remove_image(name, force=True)


@contextlib.contextmanager
def broken_registry() -> Iterator[str]:
    """The address of a registry that has lost its storage."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v2/" else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


class Valve:
    """A port in front of another one: slow, and shut after so many bytes of answers until somebody opens it."""

    def __init__(self, target: str, shut_after: int) -> None:
        host, _, port = target.partition(":")
        self._target = (host, int(port))
        self._left = shut_after
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def open(self) -> None:
        """Whatever waits goes through, and all that follows at full speed."""
        self._opened.set()

    def close(self) -> None:
        """Ends every connection."""
        self._opened.set()
        for end in (self._server, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._server.accept()[0]
                upstream = socket.create_connection(self._target)
                self._sockets |= {client, upstream}
                for source, sink, slow in ((client, upstream, False), (upstream, client, True)):
                    threading.Thread(target=self._pump, args=(source, sink, slow), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if slow:
                    self._hold(len(data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _hold(self, size: int) -> None:
        if self._opened.is_set():
            return
        time.sleep(TRICKLE)
        with self._lock:
            self._left -= size
            shut = self._left < 0
        if shut:
            self._opened.wait()


@contextlib.contextmanager
def both_platforms(engine: Any, image: str, address: str, other: Any) -> Iterator[str]:
    """A name in the registry that stands for `image`, and on the platform `other` for an image that nothing runs."""
    repository = f"team/{uuid.uuid4().hex[:8]}"
    name = f"{address}/{repository}"
    engine.load_image(_saved(f"{name}:other", other.arch))
    engine.tag(image, name, "native")
    entries = []
    for tag in ("native", "other"):
        engine.push(name, tag, auth_config=LOGIN)
        architecture = engine.inspect_image(f"{name}:{tag}")["Architecture"]
        entries.append(_entry(address, repository, tag, architecture))
        engine.remove_image(f"{name}:{tag}")
    kind = "application/vnd.docker.distribution.manifest.list.v2+json"
    document = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    ask(address, "PUT", f"/v2/{repository}/manifests/1", document, {"Content-Type": kind}).close()
    try:
        yield f"{name}:1"
    finally:
        with contextlib.suppress(docker.errors.ImageNotFound):
            engine.remove_image(f"{name}:1", force=True)


def _saved(name: str, architecture: str) -> bytes:
    """An image of nothing for an architecture, as `docker save` writes it."""
    layer = archive_of({})
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]}}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"config.json": config, "manifest.json": manifest}
    return archive_of({"layer.tar": layer} | {key: json.dumps(value).encode() for key, value in files.items()})


def archive_of(files: dict[str, bytes]) -> bytes:
    """A tar archive."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def _entry(address: str, repository: str, tag: str, architecture: str) -> dict[str, Any]:
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    with ask(address, "GET", f"/v2/{repository}/manifests/{tag}", None, {"Accept": kind}) as answer:
        body = answer.read()
        digest = answer.headers["Docker-Content-Digest"]
    platform = {"os": "linux", "architecture": architecture}
    return {"mediaType": kind, "size": len(body), "digest": digest, "platform": platform}


def ask(address: str, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
    """One request to the registry, with the password."""
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    request = urllib.request.Request(f"http://{address}{path}", body, method=method)
    for key, value in {**headers, "Authorization": f"Basic {secret}"}.items():
        request.add_header(key, value)
    return urllib.request.urlopen(request, timeout=30)
