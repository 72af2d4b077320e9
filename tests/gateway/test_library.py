"""The data plane alone, as a library: the example of docs/data-plane.md, run as it is printed."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway
from tests.server_process import free_port, wait_until

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


class Hello(http.server.BaseHTTPRequestHandler):
    """The program in the sandbox."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.path)))
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def program() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except urllib.error.URLError:
        return b""


def test_example(program: int) -> None:
    """The printed program leads a request to its sandbox, and uses exported names only."""
    (source,) = EXAMPLE.findall((ROOT / "docs" / "data-plane.md").read_text())
    assert len(source.splitlines()) <= 30
    assert re.findall(r"^from gateway\S+ import", source, re.MULTILINE) == []
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", source, str(port), str(program)], cwd=ROOT)
    try:
        wait_until(lambda: fetched(f"http://127.0.0.1:{port}/demo/8080/x") == b"/x", 10, "an answer by the gateway")
    finally:
        process.kill()
        process.wait()


def test_exports() -> None:
    """Every exported name exists."""
    assert [name for name in gateway.__all__ if not hasattr(gateway, name)] == []
