"""Each kind of value: what is accepted, what it becomes, and the one line a bad one gets."""

from __future__ import annotations

from ipaddress import ip_network
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.settings.values import host, parse_wildcard, split_address
from tests.manager.settings.conftest import Load, Refused

PORTS = "must be a whole number from 1 to 65535"
NETWORKS = 'must be "host", "bridge" or the name of a Docker network'
HOSTS = "must be an IP address or a host name, without scheme, port or path"
LEVELS = "must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"
PIDS = 'must be a whole number of at least 1, or 0 or "unlimited" for no limit'

ACCEPTED: list[tuple[str, str, Any]] = [
    ('[log]\nfile_path = "~/x.log"', "log.file_path", str(Path.home() / "x.log")),
    ('[server]\ncors_origins = ["https://A.example:8443"]', "server.cors_origins", ("https://a.example:8443",)),
    ('[[server.api_keys]]\nname = "a"\nkey = "eight-long"', "server.has_keys", True),
    ('[server]\napi_key = "k"', "server.has_keys", True),
    ("[server]\ncors_origins = []", "server.has_keys", False),
    ('[server]\nhost = "::1"', "server.host", "::1"),
    ('[server]\nhost = "[::1]"', "server.host", "::1"),
    ('[server]\nhost = "localhost"', "server.host", "localhost"),
    ('[server]\napi_key = ""', "server.api_key", None),
    ('[server]\napi_key = "  "', "server.api_key", None),
    (
        '[server]\ntrusted_proxies = ["10.0.0.1/8", "::1"]',
        "server.trusted_proxies",
        (ip_network("10.0.0.0/8"), ip_network("::1/128")),
    ),
    ('[server]\nmax_sandbox_timeout_seconds = ""', "server.max_sandbox_timeout_seconds", None),
    ('[log]\nlevel = "debug"', "log.level", "DEBUG"),
    ('[log]\nlevel = "Warn"', "log.level", "WARNING"),
    ("[docker]\npids_limit = 0", "docker.pids_limit", None),
    ('[docker]\npids_limit = "unlimited"', "docker.pids_limit", None),
    ("[docker]\npids_limit = 17", "docker.pids_limit", 17),
    ('[docker]\nnetwork_mode = "BRIDGE"', "docker.network_mode", "bridge"),
    ('[docker]\nnetwork_mode = "My_Net.1"', "docker.network_mode", "My_Net.1"),
    ("[docker]\ndrop_capabilities = []", "docker.drop_capabilities", ()),
    ('[docker]\ndrop_capabilities = ["cap_net_raw"]', "docker.drop_capabilities", ("NET_RAW",)),
    ('[docker]\napparmor_profile = ""', "docker.apparmor_profile", None),
    ('[docker]\npublish_host = ""', "docker.publish_host", "0.0.0.0"),
    ('[docker]\nulimits = {nofile = "1024:4096"}', "docker.ulimits", {"nofile": "1024:4096"}),
    ('[secure_runtime]\ntype = "Kata-QEMU"\noci_runtime_name = "kata"', "secure_runtime.type", "kata-qemu"),
    ('[ingress]\nmode = "Direct"', "ingress.mode", "direct"),
]


@pytest.mark.parametrize(("text", "path", "expected"), ACCEPTED)
def test_a_value_is_accepted(load: Load, text: str, path: str, expected: Any) -> None:
    """Values are normalised, so that nobody else has to."""
    assert attrgetter(path)(load(text).settings) == expected


REFUSED = [
    ("server.cors_origins", '"*"', 'must be a list of "*" or origins such as ["https://console.example.com"]'),
    ("server.host", '"http://x"', HOSTS),
    ("server.host", '"1.2.3.444"', HOSTS),
    ("server.host", '""', HOSTS),
    ("server.port", "0", PORTS),
    ("server.port", "65536", PORTS),
    ("server.port", '"http"', PORTS),
    ("server.port", "80.5", PORTS),
    ("server.max_sandbox_timeout_seconds", "59", "must be a whole number of at least 60"),
    ("server.log_level", '"LOUD"', LEVELS),
    ("server.loop", '"trio"', 'must be "auto", "uvloop" or "asyncio"'),
    ("server.shutdown_grace_seconds", "inf", "must be a number of at least 0"),
    ("log.level", '"LOUD"', LEVELS),
    ("log.level", '""', LEVELS),
    ("docker.host_ip", '"10.0.0.1:80"', HOSTS),
    ("docker.host_ip", '"my host"', HOSTS),
    ("docker.pids_limit", "-1", PIDS),
    ("docker.pids_limit", '"many"', PIDS),
    ("docker.pids_limit", "false", PIDS),
    ("docker.pids_limit", "true", PIDS),
    ("server.port", "true", PORTS),
    ("server.shutdown_grace_seconds", "true", "must be a number of at least 0"),
    ("gateway.limits.connect_timeout", "true", "must be a number of at least 0.05"),
    ("docker.network_mode", '"container:x"', NETWORKS),
    ("docker.network_mode", '"none"', NETWORKS),
    ("docker.drop_capabilities", '"ALL"', 'must be a list of names of Linux capabilities such as ["NET_RAW"]'),
    ("docker.publish_host", '"::1"', "must be an IPv4 address"),
    ("docker.no_new_privileges", '"perhaps"', "must be true or false"),
    ("docker.pull_limit", "0", "must be a number above 0"),
    ("egress.mode", '"nft"', 'must be "dns" or "dns+nft"'),
    ("egress.otlp_endpoint", '"collector"', 'must be a URL such as "http://collector:4318"'),
    ("storage.allowed_host_paths", '["data"]', 'must be absolute paths; "data" is not one'),
    ("ingress.mode", '"both"', 'must be "direct" or "gateway"'),
    ("ingress.gateway.route.mode", '"path"', 'must be "wildcard", "uri" or "header"'),
    ("ingress.secure_access.active_key", '"ab"', "must be one character of 0-9 and a-z"),
    ("gateway.limits.max_url_bytes", "255", "must be a whole number of at least 256"),
    ("gateway.limits.connect_timeout", "nan", "must be a number of at least 0.05"),
    (
        "kubernetes.namespace",
        '"Not-One"',
        "must be a Kubernetes namespace: up to 63 lower-case letters, digits and '-'",
    ),
    ("agent_sandbox.shutdown_policy", '"Keep"', 'must be "Delete" or "Retain"'),
]


@pytest.mark.parametrize(("path", "value", "problem"), REFUSED)
def test_a_value_is_refused_in_one_line(refused: Refused, path: str, value: str, problem: str) -> None:
    """A bad value is one line that names the key, the value and what is allowed."""
    table, _, name = path.rpartition(".")

    assert refused(f"[{table}]\n{name} = {value}\n") == (f"{path} = {value}: {problem}",)


PLACES = {
    "[[server.api_keys]]\nname = 'default'\nkey = 'eight-long'": 'server.api_keys[0].name = "default": must ',
    "[[server.api_keys]]\nname = 'a'\nkey = 'short'": "server.api_keys[0].key = (hidden): must have at least 8",
    "[server]\ncors_origins = ['https://a.example/path']": "server.cors_origins[0] = ",
    "[server]\ncors_origins = ['a.example']": "server.cors_origins[0] = ",
    "[server]\ntrusted_proxies = ['::1', '10.0.0.0/33']": "server.trusted_proxies[1] = ",
    "[server]\ntrusted_proxies = [true]": "server.trusted_proxies[0] = true: must be an IP address or a network",
    "[server]\ntrusted_proxies = [1]": "server.trusted_proxies[0] = 1: must be an IP address or a network",
    "[docker]\ndrop_capabilities = ['NET RAW']": "docker.drop_capabilities[0] = ",
    "[docker]\nulimits = {nofile = '9:1'}": "docker.ulimits: must be ",
    "[docker.pools.py]\nimage = 'a'\nsize = 0": "docker.pools.py.size = 0: ",
    "[docker.pools.a]\nimage = 'a'\nsize = 1\nresource_limits = {cpu = '1m'}": "docker.pools.a.resource_limits: must ",
    "[docker.registries.'reg:5000']\nusername = 'a'": 'docker.registries."reg:5000".password: is required',
    "[[ingress.secure_access.keys]]\nkey = 'eA'": "ingress.secure_access.keys[0].key_id: is required",
    "[egress.limits]\ncpu = 'much'": "egress.limits: must be Kubernetes quantities",
    "[egress.limits]\ncpu = '1m'": 'egress.limits.cpu = "1m": is too little to be held; the least is 10m',
}


@pytest.mark.parametrize("text", PLACES)
def test_a_place_inside_a_list_or_table_is_named(refused: Refused, text: str) -> None:
    """Items are named by their index or name."""
    (line,) = refused(text)

    assert line.startswith(PLACES[text])


def test_a_value_where_a_table_belongs_is_refused(refused: Refused) -> None:
    """A section that is no table is told how it is written."""
    lines = refused(runtime='docker = 5\nruntime = {type = "docker", execd_image = "execd"}\n')

    assert lines == ("docker: must be a table, written [docker]",)


def test_every_problem_is_told_at_once(refused: Refused) -> None:
    """Whoever made two mistakes hears of both."""
    assert len(refused("[server]\nport = 0\n[docker]\npids_limit = -1\n")) == 2


@pytest.mark.parametrize("runtime", ["docker-compose", "", "podman"])
def test_an_unknown_runtime_is_refused(refused: Refused, runtime: str) -> None:
    """The type of runtime is one of two."""
    lines = refused(runtime=f'[runtime]\ntype = "{runtime}"\nexecd_image = "execd"\n')

    assert lines == (f'runtime.type = "{runtime}": must be "docker" or "kubernetes"',)


@pytest.mark.parametrize("image", ["", "a b", "a\\nb"])
def test_an_execd_image_that_is_none_is_refused(refused: Refused, image: str) -> None:
    """An image reference has no spaces and at least one character."""
    (line,) = refused(runtime=f'[runtime]\ntype = "docker"\nexecd_image = "{image}"\n')

    assert line.startswith("runtime.execd_image = ")


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_is_taken_apart(address: Any, port: int) -> None:
    """Host and port of an address come back, for both kinds of IP address."""
    written = f"[{address}]" if address.version == 6 else str(address)

    assert host(written) == str(address)
    assert split_address(f"{written}:{port}") == (str(address), port)
    assert split_address(written) == (str(address), None)


@given(st.text(max_size=40))
def test_no_text_breaks_a_check(text: str) -> None:
    """Any text is either accepted or refused with a sentence."""
    for check in (host, split_address, parse_wildcard):
        try:
            check(text)
        except ValueError as error:
            assert str(error).startswith("must ")  # noqa: PT017 - refusal is one of two right outcomes
