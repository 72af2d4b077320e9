"""A gateway and a backend for every test, on the loop that the server runs on."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.conformance.harness import World, running
from tests.conformance.sockets import Sockets


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The suite runs on uvloop, whose transports differ from asyncio's in what they do at the end of a connection."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """The gateway with its backend."""
    async with running(World()) as made:
        yield made


@pytest.fixture
async def trusting() -> AsyncIterator[World]:
    """A gateway that takes the test for a proxy whose word counts."""
    async with running(World(trusted=["127.0.0.0/8"])) as made:
        yield made


@pytest.fixture
async def sockets(world: World) -> AsyncIterator[Sockets]:
    """WebSockets through the gateway."""
    made = Sockets(world)
    yield made
    await made.stop()


# TLS.


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the wildcard domain, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    names = "subjectAltName=DNS:*.sandbox.test,DNS:gateway.test"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=test",
        "-addext",
        names,
    ]
    done = subprocess.run([*made, "-keyout", "-", "-out", "-"], check=True, capture_output=True, text=True)
    path.write_text(done.stdout)
    return path


@pytest.fixture
def serves(certificate: Path) -> ssl.SSLContext:
    """A server that holds the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trust(certificate: Path) -> ssl.SSLContext:
    """A client that trusts the certificate and checks names."""
    return ssl.create_default_context(cafile=str(certificate))
