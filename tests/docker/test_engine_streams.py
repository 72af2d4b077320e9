"""Streams of the Engine that the other end has left already: closing them is no failure."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import requests
from docker.types import CancellableStream

from manager.runtime.docker.engine.connection import _Stream

ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nitem\r\n"


def answer_once(server: socket.socket) -> None:
    """One item of a stream, then nothing until the reader is gone."""
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(ANSWER)
        connection.recv(1)


@pytest.fixture
def lost() -> Iterator[tuple[Iterator[bytes], _Stream[bytes]]]:
    """A stream with one item read whose connection is gone on both sides: the SDK cannot close it any more."""
    with socket.create_server(("127.0.0.1", 0)) as server, requests.Session() as session:
        session.trust_env = False
        engine = threading.Thread(target=answer_once, args=(server,))
        engine.start()
        host, port = server.getsockname()
        response = session.get(f"http://{host}:{port}/", stream=True)
        theirs = CancellableStream(response.iter_content(4), response)
        ours = _Stream(theirs)
        reader = iter(ours)
        assert next(reader) == b"item"
        theirs.close()
        engine.join()
        with pytest.raises(OSError, match="not connected"):
            theirs.close()
        yield reader, ours
        response.close()


def test_a_reader_that_leaves(lost: tuple[Iterator[bytes], _Stream[bytes]]) -> None:
    """Its generator ends quietly: collected, it would have nobody to raise to."""
    reader, _ = lost
    reader.close()  # type: ignore[attr-defined]
    assert list(reader) == []


def test_closing_again(lost: tuple[Iterator[bytes], _Stream[bytes]]) -> None:
    """What is gone is closed."""
    _, stream = lost
    stream.close()
