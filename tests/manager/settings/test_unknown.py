"""Keys that are no settings are refused or warned of, with what was probably meant."""

from __future__ import annotations

import pytest

from manager.settings.load import Loaded
from tests.manager.settings.conftest import Load, Refused

REFUSED = {
    "[server]\nprot = 1": ("server.prot", "server.port"),
    '[server]\nlevel = "DEBUG"': ("server.level", "server.log_level"),
    '[server]\napi_kye = "k"': ("server.api_kye", "server.api_key"),
    "[docker]\npid_limit = 1": ("docker.pid_limit", "docker.pids_limit"),
    '[docker]\nnetwrok_mode = "bridge"': ("docker.netwrok_mode", "docker.network_mode"),
    '[docker]\nHost_IP = "x"': ("docker.Host_IP", "docker.host_ip"),
    "[dokcer]\npids_limit = 1": ("dokcer", "docker"),
    "[ingres]\n": ("ingres", "ingress"),
    '[egress]\nimages = "e"': ("egress.images", "egress.image"),
    '[storage]\nallowed_paths = ["/srv"]': ("storage.allowed_paths", "storage.allowed_host_paths"),
    '[secure_runtime]\ntyp = "gvisor"': ("secure_runtime.typ", "secure_runtime.type"),
    '[[ingress.secure_access.keys]]\nkey_id = "a"\nkey = "eA"\nkeyid = "a"\n[ingress]\nmode = "gateway"\n'
    '[ingress.gateway]\naddress = "a.example"\n[ingress.secure_access]\nactive_key = "a"': (
        "ingress.secure_access.keys.keyid",
        "ingress.secure_access.keys.key_id",
    ),
    '[docker.pools.py]\nimage = "a"\nsize = 1\nsise = 2': ("docker.pools.py.sise", "docker.pools.size"),
}
WARNED = {
    "[gateway.limits]\nmax_header = 9": ("gateway.limits.max_header", "gateway.limits.max_headers"),
    '[log]\nlevle = "INFO"': ("log.levle", "log.level"),
    "[stroe]\n": ("stroe", "store"),
}
RELEASED = """
[server]
host = "127.0.0.1"
port = 8080
timeout_keep_alive = 30
limit_concurrency = 1024
timeout_graceful_shutdown = 5
backlog = 2048
thread_pool_size = 200
loop = "auto"
http = "auto"
api_key = "a key of its own"
eip = "203.0.113.9"
max_sandbox_timeout_seconds = 86400
[docker]
network_mode = "bridge"
api_timeout = 180
host_ip = "203.0.113.9"
drop_capabilities = ["NET_RAW"]
no_new_privileges = true
apparmor_profile = ""
seccomp_profile = ""
pids_limit = 4096
port_range_min = 40000
port_range_max = 60000
publish_host = "0.0.0.0"
sandbox_env = {A = "b"}
sandbox_binds = []
[ingress]
mode = "direct"
[egress]
image = "egress"
mode = "dns+nft"
disable_ipv6 = true
otlp_endpoint = "http://collector.test:4318"
readiness_timeout_seconds = 30.0
requests = {cpu = "50m"}
limits = {cpu = "100m"}
[egress.upstream_proxy]
url = "http://proxy.test:3128"
authorization = "Basic eDp5"
ca_cert_path = "/etc/ssl/ca.pem"
[secure_runtime]
type = "gvisor"
docker_runtime = "runsc"
k8s_runtime_class = "gvisor"
[storage]
allowed_host_paths = []
volume_default_size = "1Gi"
ossfs_mount_root = "/mnt/ossfs"
"""
"""Every key that the released server has in the tables in which unknown ones are refused."""


def _warnings(loaded: Loaded) -> list[str]:
    return [line for line in loaded.warnings if "is not a setting" in line]


@pytest.mark.parametrize("text", REFUSED)
def test_an_unknown_key_of_a_guarded_table_is_refused(refused: Refused, text: str) -> None:
    """What it was to say about access or isolation would not hold; the key that was meant is named."""
    key, meant = REFUSED[text]

    assert refused(text) == (f"{key}: is not a setting; did you mean {meant}?",)


@pytest.mark.parametrize("text", WARNED)
def test_an_unknown_key_elsewhere_warns(load: Load, text: str) -> None:
    """A typing mistake is named with the key that was meant; the configuration loads."""
    key, meant = WARNED[text]

    assert _warnings(load(text)) == [f"{key} is not a setting and has no effect; did you mean {meant}?"]


def test_it_is_told_beside_what_else_is_wrong(refused: Refused) -> None:
    """What another line says is missing may be what was misspelt, in whatever table."""
    lines = refused('[ingres]\nmode = "gateway"\n[ingress.gateway]\naddress = "a.test"\n[log]\nlevle = "INFO"\n')

    assert lines == (
        'ingress.gateway: needs ingress.mode = "gateway"; set it or remove [ingress.gateway]',
        "ingres: is not a setting; did you mean ingress?",
        "log.levle: is not a setting; did you mean log.level?",
    )


def test_keys_of_the_released_server_are_known(load: Load) -> None:
    """Its configuration loads as it is."""
    assert _warnings(load(RELEASED)) == []


def test_nothing_is_suggested_for_what_is_like_nothing(load: Load, refused: Refused) -> None:
    """A suggestion that helps nobody is not made."""
    assert _warnings(load("[xyzzy]\nfrobnicate = 1")) == ["xyzzy is not a setting and has no effect"]
    assert refused("[server]\nxyzzy = 1") == ("server.xyzzy: is not a setting; remove it",)


def test_free_names_are_no_mistakes(load: Load) -> None:
    """Tables whose keys are the operator's own are not searched."""
    assert (
        _warnings(
            load('[docker.sandbox_env]\nprot = "1"\n[docker.registries."reg:5000"]\nusername = "a"\npassword = "b"')
        )
        == []
    )
