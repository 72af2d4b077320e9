"""What changes while the server runs: keys, log level and certificate are read again, and nothing broken is taken."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.gateway import Gateway
from gateway.listener import Certificate
from manager import process
from manager.gateway_options import build_gateway
from manager.process import Reload
from manager.workers.supervisor import Workers
from tests.gateway.certificate import Files
from tests.manager.harness import House, open_house, until
from tests.manager.logging_state import logging_as_before
from tests.server_process import to_toml

RUNTIME = {"type": "docker", "execd_image": "execd:1"}
ACCESS = {"active_key": "n", "keys": [{"key_id": "n", "key": "bmV3"}]}
CHANGED: dict[str, dict[str, Any]] = {
    "server": {"api_key": "another"},
    "runtime": RUNTIME,
    "log": {"level": "ERROR"},
    "ingress": {"mode": "gateway"},
    "ingress.gateway": {"address": "gw.test"},
    "ingress.gateway.route": {"mode": "uri"},
    "ingress.secure_access": ACCESS,
}


class Running:
    """A server's parts, with its configuration and its certificate in files."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        self.config = folder / "server.toml"
        self.files = Files(folder)
        self.gateway: Gateway = build_gateway(house.services.settings, house.table, house.services)
        self.certificate = Certificate(str(self.files.chain), str(self.files.key))
        workers = Workers(0, house.table, house.services.resolver)
        self.reload = Reload(self.config, house.services, self.gateway, workers, self.certificate)

    def write(self, tables: dict[str, dict[str, Any]]) -> None:
        """Another configuration."""
        self.config.write_text(to_toml(tables))

    @property
    def signs(self) -> bool:
        """Whether addresses signed with the new key are let in."""
        return self.gateway._plane.keyring.get(b"n") is not None

    @property
    def api_keys(self) -> list[str]:
        """The keys of the API."""
        return [key.secret for key in self.house.services.keys]


class Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def said() -> Iterator[list[str]]:
    """Everything that is logged, at the level that a server has; logging is put back afterwards."""
    with logging_as_before():
        handler = Said()
        logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(logging.INFO)
        yield handler.lines


@pytest.fixture
async def running(tmp_path: Path, said: list[str]) -> AsyncIterator[Running]:
    """A server."""
    async with open_house(tmp_path, server={"api_key": "key"}) as house:
        yield Running(house, tmp_path)


async def test_keys_and_log_level(running: Running) -> None:
    """On SIGHUP the new ones count, in the API and in the data plane."""
    assert (running.signs, running.api_keys) == (False, ["key"])
    running.write(CHANGED)
    running.reload.all()
    assert (running.signs, running.api_keys) == (True, ["another"])
    assert logging.getLogger().level == logging.ERROR


async def test_what_waits_for_a_restart_is_named(running: Running, said: list[str]) -> None:
    """By its key, without the value; what needs none is not, and is taken over."""
    running.write({**CHANGED, "docker": {"pids_limit": 77}, "log": {"level": "INFO"}})
    running.reload.all()
    (line,) = [line for line in said if "by a restart only" in line]
    keys = line.partition(": ")[2].split(", ")
    assert "docker.pids_limit" in keys
    assert {"server.api_key", "log.level", "ingress.secure_access.keys"}.isdisjoint(keys)
    assert "77" not in line
    assert running.api_keys == ["another"]


@pytest.mark.parametrize(
    "broken",
    [
        {**CHANGED, "server": {"host": "127.0.0.1"}},
        {**CHANGED, "server": {"api_key": "your-secret-api-key"}},
        {**CHANGED, "log": {"level": "LOUD"}},
        {**CHANGED, "server": {"port": 0.5}},
        {"runtime": {"type": "none"}},
    ],
)
async def test_a_broken_configuration(running: Running, said: list[str], broken: dict[str, dict[str, Any]]) -> None:
    """Nothing of it is taken, and one line says what is wrong with it."""
    running.write(broken)
    running.reload.all()
    assert (running.signs, running.api_keys) == (False, ["key"])
    assert len([line for line in said if line.startswith("not reloaded: ")]) == 1


async def test_the_certificate_is_read_again(running: Running) -> None:
    """On SIGHUP a new pair is used from then on."""
    running.write(CHANGED)
    running.files.prepare()
    running.files.replace("chain.pem", "key.pem")
    running.reload.all()
    assert not running.certificate.refresh(), "it was not taken up"


async def test_half_a_renewal_is_waited_for(running: Running, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to tell: a new pair is taken up once it is whole, and until then the old one is used."""
    monkeypatch.setattr(process, "CERTIFICATE_SECONDS", 0.01)
    watching = asyncio.ensure_future(running.reload.watch_certificate())
    running.files.prepare()
    running.files.replace("chain.pem")
    await until(lambda: any("the old one stays" in line for line in said))
    running.files.replace("key.pem")
    await until(lambda: "the new TLS certificate is in use" in said)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
