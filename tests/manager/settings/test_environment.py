"""Environment variables override the file, and what is wrong with them names the variable."""

from __future__ import annotations

import pytest

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
