"""What two keys must agree on, and the address forms of the gateway."""

from __future__ import annotations

import pytest

from manager.settings.values import Wildcard
from tests.manager.settings.conftest import Load, Refused

KUBERNETES = '[runtime]\ntype = "kubernetes"\nexecd_image = "execd"\n'
GATEWAY = '[ingress]\nmode = "gateway"\n[ingress.gateway]\n'
UPSTREAM = '[egress]\nmode = "dns+nft"\n[egress.upstream_proxy]\n'

TWICE = '[server]\napi_key = "eightlong"\n[[server.api_keys]]\nname = "a"\nkey = "eightlong"'
NAMED = '[[server.api_keys]]\nname = "a"\nkey = "key-number-{}"\n'
DOCKER_CONFLICTS = [
    (TWICE, "server.api_keys: holds the same key twice"),
    (NAMED.format(1) + NAMED.format(2), 'server.api_keys: has the name "a" twice'),
    ('[server.tls]\ncertificate = "a.pem"', "server.tls.key: is required beside server.tls.certificate"),
    ('[server.tls]\nkey = "a.pem"', "server.tls.certificate: is required beside server.tls.key"),
    ("[server]\nmetrics_port = 8080", "server.metrics_port = 8080: must differ from server.port"),
    ("[server]\nproxy_protocol = true", "server.proxy_protocol = true: needs server.trusted_proxies"),
    ('[kubernetes]\nnamespace = "x"', 'kubernetes: has no meaning with runtime.type = "docker"'),
    ('[agent_sandbox]\nshutdown_policy = "Retain"', 'agent_sandbox: has no meaning with runtime.type = "docker"'),
    ('[tenants]\nprovider = "file"', 'tenants: needs runtime.type = "kubernetes"'),
    ("[docker]\nport_range_max = 40000", "docker.port_range_max = 40000: must be above docker.port_range_min = 40000"),
    ('[docker.pools.warm]\nimage = "x"\nsize = 2', 'docker.pools.warm: is on network_mode "host"'),
    ('[ingress.gateway]\naddress = "a.example"', 'ingress.gateway: needs ingress.mode = "gateway"'),
    ('[ingress]\nmode = "gateway"', "ingress.gateway.address: is required"),
    (
        '[ingress.secure_access]\nactive_key = "a"\nkeys = [{key_id = "a", key = "eA"}]',
        'ingress.secure_access: needs ingress.mode = "gateway"',
    ),
    (
        '[secure_runtime]\noci_runtime_name = "runsc"',
        'secure_runtime.oci_runtime_name = "runsc": needs secure_runtime.type',
    ),
    (
        '[secure_runtime]\ndocker_runtime = "runsc"',
        'secure_runtime.docker_runtime = "runsc": needs secure_runtime.type',
    ),
    ('[secure_runtime]\ntype = "gvisor"', "secure_runtime.oci_runtime_name: is required"),
    (
        '[secure_runtime]\ntype = "firecracker"\nk8s_runtime_class = "fc"',
        'secure_runtime.type = "firecracker": needs runtime.type = "kubernetes"',
    ),
    (
        '[egress.requests]\ncpu = "2"\n[egress.limits]\ncpu = "1500m"',
        'egress.requests.cpu = "2": must not exceed the same name of egress.limits',
    ),
    (
        '[egress.limits]\nephemeral-storage = "1Gi"',
        'egress.limits.ephemeral-storage: has no meaning with runtime.type = "docker"',
    ),
    ('[egress.requests]\nmemory = "0"', 'egress.requests.memory = "0": must be more than nothing'),
    ('[egress.upstream_proxy]\nurl = "http://proxy:3128"', 'egress.upstream_proxy: needs egress.mode = "dns+nft"'),
    (UPSTREAM + 'authorization = "x"', "egress.upstream_proxy.url: is required"),
    (UPSTREAM + 'url = "http://u:p@proxy"', "egress.upstream_proxy.url: must be http://host[:port]"),
    (UPSTREAM + 'url = "http://proxy/path"', "egress.upstream_proxy.url: must be http://host[:port]"),
    (
        UPSTREAM + 'url = "http://proxy"\nca_cert_path = "ca.pem"',
        'egress.upstream_proxy.ca_cert_path = "ca.pem": must be an absolute path',
    ),
    (
        UPSTREAM + 'url = "http://proxy"\nca_secret_name = "ca"',
        "egress.upstream_proxy.ca_secret_name: is for Kubernetes",
    ),
    ('[store]\ntype = "postgresql"', "store.postgresql.dsn: is required"),
    ("[store.postgresql]\nmin_pool_size = 11", "store.postgresql.min_pool_size = 11: must not exceed"),
    ("[renew_intent.redis]\nenabled = true", "renew_intent.redis.dsn: is required"),
]


@pytest.mark.parametrize(("text", "start"), DOCKER_CONFLICTS)
def test_a_conflict_is_one_line(refused: Refused, text: str, start: str) -> None:
    """Keys that contradict each other are refused, naming the one to change."""
    (line,) = refused(text)

    assert line.startswith(start)


KUBERNETES_CONFLICTS = [
    ('[agent_sandbox]\nshutdown_policy = "Retain"', "agent_sandbox: needs kubernetes.workload_provider"),
    (UPSTREAM + 'url = "http://proxy"\nca_cert_path = "/ca.pem"', "egress.upstream_proxy.ca_cert_path: is for Docker"),
    ('[secure_runtime]\ntype = "firecracker"', "secure_runtime.k8s_runtime_class: is required"),
    ('[tenants]\nprovider = "http"', "tenants.endpoint: is required"),
    ('[tenants]\nprovider = "file"\n[server]\napi_key = "k"', "server.api_key: must be empty"),
]


@pytest.mark.parametrize(("text", "start"), KUBERNETES_CONFLICTS)
def test_a_conflict_on_kubernetes_is_one_line(refused: Refused, text: str, start: str) -> None:
    """The other runtime has conflicts of its own."""
    (line,) = refused(text, runtime=KUBERNETES)

    assert line.startswith(start)


def test_two_ports_are_a_range(load: Load) -> None:
    """As many as one sandbox takes."""
    docker = load("[docker]\nport_range_min = 41000\nport_range_max = 41001").settings.docker
    assert (docker.port_range_min, docker.port_range_max) == (41000, 41001)


def test_empty_tables_mean_nothing(load: Load) -> None:
    """A header without keys, as the skeleton writes it, conflicts with nothing."""
    load(
        "[kubernetes]\n[agent_sandbox]\n[tenants]\n[ingress.gateway]\n[ingress.gateway.route]\n[egress.upstream_proxy]\n"
    )


ADDRESSES = [
    ("wildcard", "*.sandbox.example.com", Wildcard("sandbox.example.com")),
    ("wildcard", "sandbox.example.com", Wildcard("sandbox.example.com")),
    ("wildcard", "*.Example.com:8443", Wildcard("example.com", 8443)),
    ("wildcard", "*.localhost:8080", Wildcard("localhost", 8080)),
    ("uri", "10.0.0.1:8000", None),
    ("uri", "gateway.example.com", None),
    ("uri", "[::1]:8000", None),
    ("uri", "gateway.example.com/boxes", None),
    ("header", "gateway.example.com", None),
    ("header", "gateway.example.com:28888", None),
    ("header", "10.0.0.1", None),
]


@pytest.mark.parametrize(("mode", "address", "wildcard"), ADDRESSES)
def test_an_address_of_each_form_is_accepted(load: Load, mode: str, address: str, wildcard: Wildcard | None) -> None:
    """Gateway mode is allowed with Docker, in all three forms."""
    gateway = load(f'{GATEWAY}address = "{address}"\nroute.mode = "{mode}"\n').settings.ingress.gateway

    assert gateway.address == address
    assert gateway.wildcard_domain == wildcard


@pytest.mark.parametrize(
    ("mode", "address"),
    [
        ("wildcard", "*.10.0.0.1"),
        ("wildcard", "10.0.0.1:8000"),
        ("wildcard", "https://*.example.com"),
        ("wildcard", "*.*.example.com"),
        ("wildcard", "*.example.com:99999"),
        ("uri", "*.example.com"),
        ("uri", "http://example.com"),
        ("uri", "example.com//path"),
        ("header", "example.com/path"),
        ("header", "*.example.com"),
        ("header", "example.com:0"),
        ("header", "::1"),
    ],
)
def test_an_address_of_another_form_is_refused(refused: Refused, mode: str, address: str) -> None:
    """The line names the address, what it must be, and the route mode that asks for it."""
    (line,) = refused(f'{GATEWAY}address = "{address}"\nroute.mode = "{mode}"\n')

    assert line.startswith(f'ingress.gateway.address = "{address}": must ')
    assert line.endswith(f"(route mode {mode})")


def test_wildcard_hosts_stand_beside_another_mode(load: Load) -> None:
    """The second form has a key of its own, and hosts of the API below it are listed."""
    text = f'{GATEWAY}address = "a.example"\nwildcard = "s.example:8443"\napi_hosts = ["api.s.example"]\n'
    gateway = load(text + 'route.mode = "uri"\n').settings.ingress.gateway

    assert gateway.wildcard_domain == Wildcard("s.example", 8443)
    assert str(gateway.wildcard_domain) == gateway.wildcard == "*.s.example:8443"
    assert gateway.api_hosts == ("api.s.example",)


def test_a_second_wildcard_is_refused(refused: Refused) -> None:
    """In wildcard mode the address is the wildcard; another one would never be answered with."""
    (line,) = refused(f'{GATEWAY}address = "*.a.example"\nwildcard = "*.b.example"\n')

    assert line.startswith('ingress.gateway.wildcard = "*.b.example": differs from ingress.gateway.address')


def test_api_hosts_need_wildcard_hosts(refused: Refused) -> None:
    """Without a wildcard domain every host is the API's already."""
    (line,) = refused(f'{GATEWAY}address = "a.example"\napi_hosts = ["b.example"]\nroute.mode = "uri"\n')

    assert line.startswith("ingress.gateway.api_hosts: has no meaning")


KEY_A = '[[ingress.secure_access.keys]]\nkey_id = "a"\nkey = "eA=="\n'
KEY_B = '[[ingress.secure_access.keys]]\nkey_id = "b"\nkey = "eQ"\n'
WITH_KEYS = f'{GATEWAY}address = "*.a.example"\n[ingress.secure_access]\nactive_key = "a"\n'


def test_signing_keys_are_read(load: Load) -> None:
    """Base64 is taken with and without padding."""
    access = load(WITH_KEYS + KEY_A + KEY_B).settings.ingress.secure_access

    assert access.secrets == {"a": b"x", "b": b"y"}
    assert access.active_key == "a"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (WITH_KEYS + KEY_A + KEY_A, 'ingress.secure_access.keys: has key_id "a" twice'),
        (WITH_KEYS + KEY_B, 'ingress.secure_access.active_key = "a": must be one of the key ids: b'),
        (WITH_KEYS, 'ingress.secure_access.active_key = "a": must be one of the key ids: there are none'),
        (f'{GATEWAY}address = "*.a.example"\n{KEY_A}', "ingress.secure_access.active_key: is required beside keys"),
    ],
)
def test_signing_keys_that_do_not_fit_are_refused(refused: Refused, text: str, start: str) -> None:
    """Ids are unique, and the active one is among them."""
    (line,) = refused(text)

    assert line.startswith(start)
