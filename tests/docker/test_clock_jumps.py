"""The wall clock is set forward and back under a running server: sandboxes end when it says so, not early, not never.

An expiry is a moment of the wall clock: what `expiresAt` says is what counts, however the clock got there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import docker
import pytest

from manager.runtime.docker import garbage
from tests.conftest import StartServer
from tests.server_process import SANDBOX_IMAGE, ServerProcess, wait_until

pytestmark = pytest.mark.timeout(240)
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
DEADLINE = 60.0
HOUR, DAY = 3600, 86400
SPANS = (3, 12, 48)
AFTERWARDS = timedelta(seconds=2)
APP_PORT = 8000


class WallClock:
    """What time it is for one process: that of the machine and some seconds more."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        """For the process; timers and timeouts follow the machine's steady clock as ever."""
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead: int) -> None:
        """Sets it to so many seconds after the machine's, before it if negative."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead:+d}\n")
        new.rename(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    """A clock that goes right."""
    if not LIBRARIES:
        pytest.skip("needs libfaketime")
    return WallClock(tmp_path)


@pytest.fixture
def server(start_server: StartServer, clock: WallClock) -> Iterator[ServerProcess]:
    """A server in gateway mode that looks at that clock."""
    tables = {
        "ingress": {"mode": "gateway"},
        "ingress.gateway": {"address": "127.0.0.1:8080"},
        "ingress.gateway.route": {"mode": "header"},
    }
    yield start_server(tables, environment=clock.environment)
    clock.set(0)


def now(server: ServerProcess) -> datetime:
    """What time it is for the server."""
    with urlopen(f"{server.url}/health", timeout=10) as answer:
        return parsedate_to_datetime(answer.headers["Date"])


def create(server: ServerProcess, timeout: int) -> str:
    """The id of a sandbox that serves a page."""
    body = {"image": {"uri": SANDBOX_IMAGE}, "timeout": timeout, "resourceLimits": {}}
    status, made = server.call(
        "POST", "/v1/sandboxes", {**body, "entrypoint": ["python3", "-m", "http.server", str(APP_PORT)]}
    )
    assert status == 202, made
    wait_until(lambda: page(server, made["id"]) == 200, DEADLINE, "the first page")
    return str(made["id"])


def page(server: ServerProcess, sandbox_id: str) -> int:
    """The status with which the sandbox's page is answered through the gateway."""
    return server.call("GET", "/", headers={"OpenSandbox-Ingress-To": f"{sandbox_id}-{APP_PORT}"})[0]


def shown(server: ServerProcess, sandbox_id: str) -> tuple[int, Any]:
    """The sandbox as the API shows it."""
    return server.call("GET", f"/v1/sandboxes/{sandbox_id}")


def expired(server: ServerProcess, sandbox_id: str) -> Callable[[], bool]:
    """Whether the API says that the sandbox has expired."""
    return lambda: shown(server, sandbox_id)[0] == 410


def test_a_clock_set_forward(server: ServerProcess, clock: WallClock) -> None:
    """What is over by the new time ends within seconds; what is not stays, with its expiry and its route."""
    short, long = create(server, 600), create(server, 4 * HOUR)
    expiry = shown(server, long)[1]["expiresAt"]
    clock.set(HOUR)
    wait_until(expired(server, short), DEADLINE, "the end of what is over")
    assert now(server) > datetime.now(UTC) + timedelta(seconds=HOUR / 2)
    assert (shown(server, long)[1]["status"]["state"], shown(server, long)[1]["expiresAt"]) == ("Running", expiry)
    assert page(server, long) == 200


def ends_soon(server: ServerProcess, clock: WallClock) -> tuple[str, datetime]:
    """A sandbox and the moment at which it was about to end when the clock was set back by a day.

    A machine that is too slow for the shortest span gets a longer one.
    """
    for span in SPANS:
        sandbox_id, soon = create(server, 600), datetime.now(UTC) + timedelta(seconds=span)
        server.call("POST", f"/v1/sandboxes/{sandbox_id}/renew-expiration", {"expiresAt": soon.isoformat()})
        clock.set(-DAY)
        if datetime.now(UTC) < soon:
            return sandbox_id, soon
        clock.set(0)
    raise TimeoutError("not even the longest span was enough")


def test_a_clock_set_back(server: ServerProcess, clock: WallClock, engine: docker.APIClient) -> None:
    """Nothing ends before the clock says so again, the Engine's news arrive as ever, and then it does end."""
    other = create(server, 600)
    kept, soon = ends_soon(server, clock)
    wait_until(lambda: datetime.now(UTC) > soon + AFTERWARDS, DEADLINE, "the moment at which it would have ended")
    assert now(server) < soon
    assert page(server, kept) == 200
    engine.remove_container(f"sandbox-{other}", force=True)
    wait_until(lambda: shown(server, other)[0] == 404, DEADLINE, "the news of a removal")
    clock.set(60)
    wait_until(expired(server, kept), DEADLINE, "the end at last")


def test_a_server_started_with_a_wrong_clock(start_server: StartServer, clock: WallClock) -> None:
    """A day ahead at start and put right later: what it makes has the expiry that was told, and ends by it."""
    clock.set(DAY)
    server = start_server({}, environment=clock.environment)
    body = {"image": {"uri": SANDBOX_IMAGE}, "timeout": 60, "resourceLimits": {}, "entrypoint": ["sleep", "600"]}
    _, made = server.call("POST", "/v1/sandboxes", body)
    told = datetime.fromisoformat(made["expiresAt"])
    assert told > datetime.now(UTC) + timedelta(seconds=DAY)
    clock.set(0)
    for word, state in (("pause", "Paused"), ("resume", "Running")):
        assert server.call("POST", f"/v1/sandboxes/{made['id']}/{word}")[0] == 202
        assert shown(server, made["id"])[1]["status"]["state"] == state
    clock.set(DAY + 120)
    wait_until(expired(server, made["id"]), DEADLINE, "the end")


class MovedTime:
    """Both clocks of a process, moved apart."""

    def __init__(self) -> None:
        self.wall, self.steady = time.time(), 0.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady


def test_leftovers_are_not_young_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock set back by a year they seem to come from the future, and go after the same grace."""
    clocks = MovedTime()
    monkeypatch.setattr(garbage, "time", clocks)
    leftovers = garbage.GarbageCollector(None, _Nobody(), None, set, grace=60.0)  # type: ignore[arg-type]
    created = clocks.wall + 365 * DAY
    assert leftovers._is_young("x", created)
    clocks.steady += 59
    assert leftovers._is_young("x", created)
    clocks.steady += 1
    assert not leftovers._is_young("x", created)
    assert leftovers._is_young("y", clocks.wall - 59)
    assert not leftovers._is_young("y", clocks.wall - 60)


class _Nobody:
    instance = "nobody"
