"""Environment variables override the file, and what is wrong with them names the variable."""

from __future__ import annotations

from operator import attrgetter

import pytest

from manager.settings.environment import variable_of
from manager.settings.model import Settings
from manager.settings.schema import sections
from tests.manager.settings.conftest import Load, Refused

GATEWAY = '[ingress]\nmode = "gateway"\n[ingress.gateway]\naddress = "*.a.example"\n'
KEYS = "OPENSANDBOX_SECURE_ACCESS_KEYS"
ACTIVE = "OPENSANDBOX_SECURE_ACCESS_ACTIVE_KEY"
API_KEY = "OPENSANDBOX_SERVER_API_KEY"


def test_the_api_key_is_overridden(load: Load) -> None:
    """The environment wins over the file."""
    settings = load('[server]\napi_key = "file"\n', environ={API_KEY: "environment"}).settings

    assert settings.server.api_key is not None
    assert settings.server.api_key.get_secret_value() == "environment"


def test_an_empty_api_key_switches_authentication_off(load: Load) -> None:
    """Set but empty is a statement, not an oversight."""
    assert load('[server]\napi_key = "file"\n', environ={API_KEY: ""}).settings.server.api_key is None


def test_the_time_failures_are_kept_is_overridden(load: Load) -> None:
    """PENDING_FAILURE_TTL is seconds; empty it is not there."""
    assert load(environ={"PENDING_FAILURE_TTL": "60"}).settings.runtime.pending_failure_ttl_seconds == 60
    assert load(environ={"PENDING_FAILURE_TTL": ""}).settings.runtime.pending_failure_ttl_seconds == 3600


def test_a_bad_value_names_its_variable(refused: Refused) -> None:
    """Who reads the line must know that the file is not to blame."""
    assert refused(environ={"PENDING_FAILURE_TTL": "soon"}) == (
        'runtime.pending_failure_ttl_seconds (from PENDING_FAILURE_TTL) = "soon": must be a number of at least 0',
    )


def test_signing_keys_are_overridden(load: Load) -> None:
    """Keys and the active one come together and replace those of the file."""
    file = f'{GATEWAY}[ingress.secure_access]\nactive_key = "z"\nkeys = [{{key_id = "z", key = "eg"}}]\n'
    access = load(file, environ={KEYS: "a=eA==, b=eQ", ACTIVE: "b"}).settings.ingress.secure_access

    assert access.secrets == {"a": b"x", "b": b"y"}
    assert access.active_key == "b"


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({KEYS: "a=eA"}, f"{KEYS}: needs {ACTIVE} beside it; set both or neither"),
        ({ACTIVE: "a"}, f"{ACTIVE}: needs {KEYS} beside it; set both or neither"),
        ({KEYS: "eA", ACTIVE: "a"}, f"{KEYS} = (hidden): must be id=base64 pairs with commas between them"),
    ],
)
def test_signing_keys_that_do_not_fit_are_refused(refused: Refused, environ: dict[str, str], line: str) -> None:
    """The values are never shown."""
    assert refused(GATEWAY, environ=environ) == (line,)


def test_signing_keys_need_gateway_mode(refused: Refused) -> None:
    """In direct mode nobody would check a signature."""
    (line,) = refused(environ={KEYS: "a=eA", ACTIVE: "a"})

    assert line.startswith('ingress.secure_access: needs ingress.mode = "gateway"')


ANY = {
    "OPENSANDBOX__SERVER__PORT": ("9000", "server.port", 9000),
    "OPENSANDBOX__DOCKER__NETWORK_MODE": ("bridge", "docker.network_mode", "bridge"),
    "OPENSANDBOX__DOCKER__NO_NEW_PRIVILEGES": ("false", "docker.no_new_privileges", False),
    "OPENSANDBOX__STORAGE__ALLOWED_HOST_PATHS": ("/srv, /data", "storage.allowed_host_paths", ("/srv", "/data")),
    "OPENSANDBOX__DOCKER__DNS": ('["192.0.2.1"]', "docker.dns", ("192.0.2.1",)),
    "OPENSANDBOX__DOCKER__SANDBOX_ENV": ('{A = "b"}', "docker.sandbox_env", {"A": "b"}),
    "OPENSANDBOX__GATEWAY__LIMITS__MAX_CONNECTIONS": ("77", "gateway.limits.max_connections", 77),
    "OPENSANDBOX__SERVER__SHUTDOWN_GRACE_SECONDS": ("1.5", "server.shutdown_grace_seconds", 1.5),
}


@pytest.mark.parametrize("name", ANY)
def test_any_key_is_overridden(load: Load, name: str) -> None:
    """By its path with two underscores between the parts; the value is as TOML writes it, strings without quotes."""
    text, path, value = ANY[name]

    assert attrgetter(path)(load(environ={name: text}).settings) == value


def test_what_overrides_nothing_is_refused(refused: Refused) -> None:
    """A misspelt variable would leave the file's value in force; a bad value names its variable."""
    assert refused(environ={"OPENSANDBOX__SERVER__PROT": "1", "OPENSANDBOX__DOCKER__PIDS_LIMIT": "many"}) == (
        "OPENSANDBOX__SERVER__PROT: overrides no setting; did you mean OPENSANDBOX__SERVER__PORT?",
        'docker.pids_limit (from OPENSANDBOX__DOCKER__PIDS_LIMIT) = "many": must be a whole number of at least 1, '
        'or 0 or "unlimited" for no limit',
    )


def test_what_others_set_is_left_alone(load: Load) -> None:
    """Docker links and Kubernetes services make such variables for a service of this name."""
    assert load(environ={"OPENSANDBOX_SERVER_PORT": "tcp://10.0.0.1:8080"}).settings.server.port == 8080


def test_a_variable_stands_for_one_key() -> None:
    """No two paths give the same name."""
    names = [variable_of(key.path) for section in sections(Settings) for key in section.own_keys()]
    assert len(set(names)) == len(names)
