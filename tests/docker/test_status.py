"""What the Engine says about a container, as a sandbox: pure."""

from __future__ import annotations

from typing import Any

import pytest

from manager.domain.sandbox import Addresses, SandboxState
from manager.runtime.docker.status import DialView, addresses_of, lifecycle_uid, status_of

HERE = DialView("127.0.0.1", lambda gateway: gateway == "172.18.0.1")
REMOTE = DialView("engine.example", lambda gateway: False)


def details(state: dict[str, Any] | None = None, **network: Any) -> dict[str, Any]:
    """An inspected container."""
    return {
        "Id": "a" * 64,
        "Created": "2026-01-01T00:00:00Z",
        "State": {"Status": "running", "Running": True, "StartedAt": "2026-01-01T00:00:01.5Z", **(state or {})},
        "HostConfig": {"NetworkMode": network.get("mode", "opensandbox")},
        "NetworkSettings": {"Networks": network.get("networks", {}), "Ports": network.get("ports", {})},
    }


@pytest.mark.parametrize(
    ("state", "expected", "reason"),
    [
        ({}, "Running", "CONTAINER_RUNNING"),
        ({"Paused": True, "Status": "paused"}, "Paused", "CONTAINER_PAUSED"),
        ({"Restarting": True}, "Running", "CONTAINER_RESTARTING"),
        ({"Running": False, "Status": "created"}, "Pending", "CONTAINER_STARTING"),
        ({"Running": False, "Status": "exited", "ExitCode": 0}, "Terminated", "CONTAINER_EXITED"),
        ({"Running": False, "Status": "exited", "ExitCode": 3}, "Failed", "CONTAINER_EXITED_ERROR"),
        ({"Running": False, "Status": "dead", "ExitCode": 0}, "Terminated", "CONTAINER_EXITED"),
        ({"Running": False, "Status": "exited", "ExitCode": 137, "OOMKilled": True}, "Failed", "CONTAINER_OOM_KILLED"),
        ({"Running": False, "Status": "removing"}, "Stopping", "CONTAINER_REMOVING"),
        ({"Running": False, "Status": "strange"}, "Unknown", "CONTAINER_STATE_UNKNOWN"),
        ({"Health": {"Status": "unhealthy"}}, "Running", "CONTAINER_UNHEALTHY"),
    ],
)
def test_states(state: dict[str, Any], expected: str, reason: str) -> None:
    """Each of the Engine's states has one of ours, with a reason."""
    status = status_of(details(state))
    assert (status.state, status.reason) == (SandboxState(expected), reason)


def test_the_exit_code_is_in_the_message() -> None:
    """A person sees why it ended."""
    status = status_of(details({"Running": False, "Status": "exited", "ExitCode": 3}))
    assert status.message == "Sandbox container exited with code 3."


def test_a_container_address_behind_our_own_gateway_is_dialled() -> None:
    """Every port is one hop away."""
    networks = {"opensandbox": {"IPAddress": "172.18.0.5", "Gateway": "172.18.0.1"}}
    assert addresses_of(details(networks=networks), details(), HERE) == Addresses(
        own=("172.18.0.5",), dial_host="172.18.0.5"
    )


def test_a_container_address_elsewhere_is_known_but_not_dialled() -> None:
    """It still tells which calls come from inside; a published port is dialled on the Engine's host."""
    networks = {"x": {"IPAddress": "172.18.0.5", "Gateway": "172.18.0.1"}}
    ports = {"44772/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40001"}], "8080/tcp": None}
    found = addresses_of(details(networks=networks, ports=ports), details(), REMOTE)
    assert found == Addresses(own=("172.18.0.5",), published={44772: ("engine.example", 40001)})


def test_a_port_published_on_one_address_is_dialled_there() -> None:
    """Loopback answers only where the Engine listens on it."""
    ports = {
        "44772/tcp": [{"HostIp": "192.0.2.9", "HostPort": "40001"}],
        "8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40002"}, {"HostIp": "::", "HostPort": "40003"}],
    }
    found = addresses_of(details(ports=ports), details(), HERE)
    assert found.published == {44772: ("192.0.2.9", 40001), 8080: ("127.0.0.1", 40002)}


def test_host_mode_is_the_engines_host() -> None:
    """Ports inside are ports there, as long as it runs."""
    running, stopped = details(mode="host"), details({"Running": False, "Status": "exited"}, mode="host")
    assert addresses_of(running, running, HERE) == Addresses(dial_host="127.0.0.1", host_network=True)
    assert addresses_of(stopped, stopped, HERE) == Addresses(dial_host=None, host_network=True)


def test_the_uid_changes_with_the_start_and_with_the_sidecar() -> None:
    """Whatever stands behind the addresses is part of it."""
    first, again = details(), details({"StartedAt": "2026-01-01T00:00:09Z"})
    assert len({lifecycle_uid(first), lifecycle_uid(again), lifecycle_uid(first, again)}) == 3
