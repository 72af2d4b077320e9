"""Which Engine the tests look at, and clean."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.engine import api_client, engine_socket

TESTS = Path(__file__).parent
CLIENT = re.compile(r"\bAPIClient\((?![^)]*base_url)")
SOCKET = re.compile(r"open_unix_connection\(\s*[\"']/|[\"']/(?:var/)?run/docker\.sock:")


def test_clients_are_of_the_engine_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """DOCKER_HOST says which; without it, this machine's."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
    assert engine_socket() == f"{tmp_path}/engine.sock"
    client = api_client(version="1.41")
    assert client._custom_adapter.socket_path == f"{tmp_path}/engine.sock"  # type: ignore[attr-defined]
    client.close()
    assert engine_socket({}) == "/var/run/docker.sock"


def test_an_engine_elsewhere_has_no_socket_here() -> None:
    """Tests that need one say so instead of taking this machine's."""
    with pytest.raises(RuntimeError, match="DOCKER_HOST=tcp"):
        engine_socket({"DOCKER_HOST": "tcp://engine:2375"})


def test_no_test_names_an_engine_by_itself() -> None:
    """Whoever wants a client or the socket asks `tests.engine`."""
    sources = [path for path in TESTS.rglob("*.py") if path.name not in ("engine.py", "test_engine.py")]
    found = [path.name for path in sources if CLIENT.search(text := path.read_text()) or SOCKET.search(text)]
    assert found == []
