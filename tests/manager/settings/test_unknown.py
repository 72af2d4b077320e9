"""Keys that are no settings warn, with what was probably meant."""

from __future__ import annotations

import pytest

from manager.settings.load import Loaded
from tests.manager.settings.conftest import Load

SUGGESTIONS = {
    "[server]\nprot = 1": ("server.prot", "server.port"),
    '[server]\nlevel = "DEBUG"': ("server.level", "server.log_level"),
    "[docker]\npid_limit = 1": ("docker.pid_limit", "docker.pids_limit"),
    '[docker]\nHost_IP = "x"': ("docker.Host_IP", "docker.host_ip"),
    "[dokcer]\npids_limit = 1": ("dokcer", "docker"),
    "[gateway.limits]\nmax_header = 9": ("gateway.limits.max_header", "gateway.limits.max_headers"),
    '[[ingress.secure_access.keys]]\nkey_id = "a"\nkey = "eA"\nkeyid = "a"\n[ingress]\nmode = "gateway"\n'
    '[ingress.gateway]\naddress = "a.example"\n[ingress.secure_access]\nactive_key = "a"': (
        "ingress.secure_access.keys.keyid",
        "ingress.secure_access.keys.key_id",
    ),
    '[docker.pools.py]\nimage = "a"\nsize = 1\nsise = 2': ("docker.pools.py.sise", "docker.pools.size"),
}


def _warnings(loaded: Loaded) -> list[str]:
    return [line for line in loaded.warnings if "is not a setting" in line]


@pytest.mark.parametrize("text", SUGGESTIONS)
def test_an_unknown_key_warns_with_a_suggestion(load: Load, text: str) -> None:
    """A typing mistake is named with the key that was meant; the configuration loads."""
    key, meant = SUGGESTIONS[text]

    assert _warnings(load(text)) == [f"{key} is not a setting and has no effect; did you mean {meant}?"]


def test_nothing_is_suggested_for_what_is_like_nothing(load: Load) -> None:
    """A suggestion that helps nobody is not made."""
    assert _warnings(load("[xyzzy]\nfrobnicate = 1")) == ["xyzzy is not a setting and has no effect"]


def test_free_names_are_no_mistakes(load: Load) -> None:
    """Tables whose keys are the operator's own are not searched."""
    assert (
        _warnings(
            load('[docker.sandbox_env]\nprot = "1"\n[docker.registries."reg:5000"]\nusername = "a"\npassword = "b"')
        )
        == []
    )
