"""The four ways to address a port of a sandbox, both ways."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.addressing.routing import (
    RESERVED,
    AddressForm,
    Route,
    Router,
    RoutingConfig,
    format_host,
    format_label,
    format_path,
    format_proxy,
)
from gateway.errors import BadRoute
from gateway.signing import Signature

UUID = "72ac4884-17d2-4919-8e6a-da9c45ca92bf"
DOMAIN = b"sandbox.example.com"
PUBLIC = b"gateway.example.com"
API_HOST = b"api.sandbox.example.com"
SIGNED = Signature(b"1a2b3c", b"01234567a")

EVERYTHING = RoutingConfig(gateway=True, uri=True, wildcard=DOMAIN, api_hosts=frozenset({API_HOST}))
HEADERS_ONLY = RoutingConfig(gateway=True)
DIRECT = RoutingConfig(gateway=False, uri=True, wildcard=DOMAIN)


def by_header(value: bytes, config: RoutingConfig = EVERYTHING, target: bytes = b"/") -> Route | None:
    return Router(config).route(target, PUBLIC, value)


def by_host(host: bytes, config: RoutingConfig = EVERYTHING, target: bytes = b"/") -> Route | None:
    return Router(config).route(target, host, None)


def by_path(target: bytes, config: RoutingConfig = EVERYTHING, host: bytes = PUBLIC) -> Route | None:
    return Router(config).route(target, host, None)


LABELS = [
    (b"sandbox-1234", b"sandbox", 1234, None),
    (b"alpha-beta-8080", b"alpha-beta", 8080, None),
    (UUID.encode() + b"-8080", UUID.encode(), 8080, None),
    (b"sandbox--5", b"sandbox-", 5, None),
    (b"a-b-c-80", b"a-b-c", 80, None),
    (b"a_b-80", b"a_b", 80, None),
    (b"0-1", b"0", 1, None),
    (b"sb-65535", b"sb", 65535, None),
    (b"80-80-80", b"80-80", 80, None),
    (b"sb-80-81", b"sb-80", 81, None),
    (b"x" * 57 + b"-65535", b"x" * 57, 65535, None),
    (b"sb-80-1a2b3c-01234567a", b"sb", 80, SIGNED),
    (b"d-e-3000-1a2b3c-01234567a", b"d-e", 3000, SIGNED),
    (b"sb-80-0-01234567a", b"sb", 80, Signature(b"0", b"01234567a")),
    (b"sb-1-2-80-1a2b3c-01234567a", b"sb-1-2", 80, SIGNED),
    (b"sb-80-3w5e11264sgsf-01234567a", b"sb", 80, Signature(b"3w5e11264sgsf", b"01234567a")),
]

BAD_LABELS = [
    b"",
    b"-",
    b"-1234",
    b"--80",
    b"_a-80",
    b"sb",
    b"sb-",
    b"sb-abc",
    b"sb-0",
    b"sb-00",
    b"sb-08080",
    b"sb-65536",
    b"sb-99999",
    b"sb-100000",
    b"sb-+80",
    b"sb--80-",
    b"sb- 80",
    b"sb-8_0",
    b"sb-80\n",
    b"sb-\xd9\xa1",
    b"s\xc3\xa9-80",
    b"s%62-80",
    b"a/b-80",
    b"sb-08080-0-01234567a",
    b"sb-0-0-01234567a",
    b"sb-65536-0-01234567a",
    b"-80-0-01234567a",
    b"sb-80-01-01234567a",
    b"sb-80-3w5e11264sgsg-01234567a",
    b"sb-80-10000000000000-01234567a",
    b"sb-80-0-0123456a",
    b"sb-80-0-012345678a",
    b"sb-80-0-0123456ga",
    b"sb-80-0-01234567_",
    b"sb-80--01234567a",
    b"x" * 64 + b"-80",
]


@pytest.mark.parametrize(("label", "id", "port", "signature"), LABELS)
@pytest.mark.parametrize("form", [AddressForm.HEADER, AddressForm.HOST])
def test_label(label: bytes, id: bytes, port: int, signature: Signature | None, form: AddressForm) -> None:
    """A label is read from the right, the signed form first, the same way in the header and in the host."""
    route = by_header(label) if form is AddressForm.HEADER else by_host(label + b"." + DOMAIN)
    assert route == Route(form, id, port, signature, b"/", b"", None)


@pytest.mark.parametrize("label", BAD_LABELS)
def test_malformed_label(label: bytes) -> None:
    """What is no label is refused in the header and in the host, and never becomes an API call."""
    with pytest.raises(BadRoute):
        by_header(label)
    with pytest.raises(BadRoute):
        by_host(label + b"." + DOMAIN)


@pytest.mark.parametrize("target", [b"/", b"/a%2Fb/../c//d;x?y=#z&k", b"/v1/sandboxes", b"/sb/80/", b"*", b"//x"])
def test_target_is_not_touched(target: bytes) -> None:
    """In the header and host forms the target goes upstream as it came, whatever it resembles."""
    by_label = [by_header(b"sb-80", target=target), by_host(b"sb-80." + DOMAIN, target=target)]
    assert [route and (route.target, route.prefix) for route in by_label] == [(target, b"")] * 2


HEADER_VALUES = [
    (b"https://alpha-beta-8080.sandbox.test", b"alpha-beta", 8080),
    (b"http://sb-80.x", b"sb", 80),
    (b"https://http://sb-80.x", b"sb", 80),
    (b"sb-80.anything.example.com:8443", b"sb", 80),
    (b" \tsb-80 ", b"sb", 80),
    (b"Sb-80", b"Sb", 80),
]


@pytest.mark.parametrize(("value", "id", "port"), HEADER_VALUES)
def test_header_value(value: bytes, id: bytes, port: int) -> None:
    """The header takes a whole address too, of which the first label counts; an id keeps its case."""
    route = by_header(value)
    assert route is not None
    assert (route.id, route.port) == (id, port)


@pytest.mark.parametrize(
    "value",
    [
        b"127.0.0.1:28888",
        b"invalidhost",
        b"sb-8080:28888",
        b"sb-80-1A-01234567a",
        b"sb-80-0-ABCDEF12k",
        b"sb-8080/path",
        b"sb-80.x/path",
        b"sb-80.x:port",
        b"sb-80, sb-81",
        b"http://https://sb-80",
        b"f1.dGVuYW50LWE.c2FuZGJveC0xMjM.44772.k.gtJzW337dCO-kStxh2GPfA",
    ],
)
def test_malformed_header_value(value: bytes) -> None:
    """A routing header that is there and says nothing valid is refused even where the host or the path would do."""
    with pytest.raises(BadRoute):
        Router(EVERYTHING).route(b"/sb/80/", b"sb-80." + DOMAIN, value)


HOSTS = [
    b"SB-80.Sandbox.EXAMPLE.com",
    b"sb-80.sandbox.example.com:8443",
    b"sb-80.sandbox.example.com:",
    b"sb-80.sandbox.example.com.",
    b"sb-80.sandbox.example.com.:80",
]


@pytest.mark.parametrize("host", HOSTS)
def test_host_spellings(host: bytes) -> None:
    """Case, a port and one trailing dot make no difference in a host; ids come out in lower case."""
    route = by_host(host)
    assert route is not None
    assert (route.form, route.id, route.port) == (AddressForm.HOST, b"sb", 80)


@pytest.mark.parametrize("host", [b"a.sb-80." + DOMAIN, b"sb-80.a." + DOMAIN, b"www." + DOMAIN, b"." + DOMAIN])
def test_other_hosts_under_the_domain(host: bytes) -> None:
    """A host under the wildcard domain that is no address is refused: it never reaches the API."""
    with pytest.raises(BadRoute):
        by_host(host, target=b"/v1/sandboxes")


OURS = [
    API_HOST,
    API_HOST.upper() + b":8080",
    DOMAIN,
    PUBLIC,
    b"sb-80.example.com",
    b"sb-80.evil-sandbox.example.com",
    b"sb-80.sandbox.example.com.evil.test",
    b"sb-80sandbox.example.com",
    b"127.0.0.1:8080",
    b"[::1]:8080",
    b"localhost",
    b"",
]


@pytest.mark.parametrize("host", OURS)
def test_hosts_that_are_no_sandbox(host: bytes) -> None:
    """The manager's hosts, the bare domain and every host outside it are no sandbox addresses."""
    assert by_host(host, target=b"/v1/sandboxes") is None


def test_no_wildcard() -> None:
    """Without a wildcard domain no host is a sandbox address."""
    assert by_host(b"sb-80." + DOMAIN, HEADERS_ONLY) is None


PROXY_PATHS = [
    (b"/sandboxes/sb/proxy/80", b"/sandboxes/sb/proxy/80", b"/"),
    (b"/sandboxes/sb/proxy/80/", b"/sandboxes/sb/proxy/80", b"/"),
    (b"/sandboxes/sb/proxy/80?a=1", b"/sandboxes/sb/proxy/80", b"/?a=1"),
    (b"/sandboxes/sb/proxy/80?", b"/sandboxes/sb/proxy/80", b"/?"),
    (b"/sandboxes/sb/proxy/80/?/x", b"/sandboxes/sb/proxy/80", b"/?/x"),
    (b"/v1/sandboxes/sb/proxy/80/x", b"/v1/sandboxes/sb/proxy/80", b"/x"),
    (b"/v1/sandboxes/sb/proxy/80/a%2Fb//../c;d?e=%23&f#g", b"/v1/sandboxes/sb/proxy/80", b"/a%2Fb//../c;d?e=%23&f#g"),
    (b"/sandboxes/sb/proxy/80//x", b"/sandboxes/sb/proxy/80", b"//x"),
    (b"/sandboxes/sb/proxy/80/1a2b3c/01234567a/x", b"/sandboxes/sb/proxy/80", b"/1a2b3c/01234567a/x"),
    (b"/sandboxes/sb/proxy/80/sandboxes/x/proxy/0", b"/sandboxes/sb/proxy/80", b"/sandboxes/x/proxy/0"),
]


@pytest.mark.parametrize("config", [EVERYTHING, HEADERS_ONLY, DIRECT], ids=["all", "header", "direct"])
@pytest.mark.parametrize(("target", "prefix", "upstream"), PROXY_PATHS)
def test_proxy_path(target: bytes, prefix: bytes, upstream: bytes, config: RoutingConfig) -> None:
    """The API's proxy path is active in every mode and passes its rest on byte for byte."""
    expected = Route(AddressForm.PROXY, b"sb", 80, None, upstream, prefix, None)
    assert by_path(target, config) == expected


@pytest.mark.parametrize(
    "target",
    [
        b"/sandboxes/sb/proxy",
        b"/sandboxes/sb/proxy/",
        b"/sandboxes/sb/proxy?x",
        b"/sandboxes/sb/proxy/0/",
        b"/sandboxes/sb/proxy/080/",
        b"/sandboxes/sb/proxy/65536/",
        b"/sandboxes/sb/proxy/+80/",
        b"/sandboxes/sb/proxy/8a/",
        b"/sandboxes/sb/proxy/%380/",
        b"/sandboxes/sb/proxy/80%2Fx",
        b"/sandboxes/sb/proxy/80#x",
        b"/sandboxes//proxy/80/",
        b"/sandboxes/../proxy/80/",
        b"/sandboxes/a.b/proxy/80/",
        b"/sandboxes/%73b/proxy/80/",
        b"/v1/sandboxes/" + b"x" * 64 + b"/proxy/80/",
    ],
)
@pytest.mark.parametrize("config", [EVERYTHING, DIRECT], ids=["all", "direct"])
def test_malformed_proxy_path(target: bytes, config: RoutingConfig) -> None:
    """A proxy path with a bad id or port is refused rather than handed to the API."""
    with pytest.raises(BadRoute):
        by_path(target, config)


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"*",
        b"/sandboxes",
        b"/sandboxes/sb",
        b"/v1/sandboxes/sb/endpoints/80",
        b"/sandboxes/sb/proxying/80/",
        b"/sandboxes/sb?/proxy/80/",
        b"/v1/v1/sandboxes/sb/proxy/80/",
        b"/v2/sandboxes/sb/proxy/80/",
        b"/health?x=/sandboxes/sb/proxy/80/",
        b"//sandboxes/sb/proxy/80/",
        b"/Sandboxes/sb/proxy/80/",
    ],
)
def test_paths_of_the_api(target: bytes) -> None:
    """Everything else under our own names is the manager's."""
    assert by_path(target, HEADERS_ONLY) is None


URI_PATHS = [
    (b"/my-sandbox/8080", b"my-sandbox", 8080, b"/my-sandbox/8080", b"/"),
    (b"/my-sandbox/8080/", b"my-sandbox", 8080, b"/my-sandbox/8080", b"/"),
    (b"/sb/80?a=/b/c", b"sb", 80, b"/sb/80", b"/?a=/b/c"),
    (b"/sb/80/?a", b"sb", 80, b"/sb/80", b"/?a"),
    (b"/sb/80/%2F/%2e%2e/../x?y#z", b"sb", 80, b"/sb/80", b"/%2F/%2e%2e/../x?y#z"),
    (b"/sb/80//", b"sb", 80, b"/sb/80", b"//"),
    (b"/Sb_1/65535/v1/sandboxes", b"Sb_1", 65535, b"/Sb_1/65535", b"/v1/sandboxes"),
    (b"/sb/80/1a2b3c", b"sb", 80, b"/sb/80", b"/1a2b3c"),
    (b"/sb/80/1a2b3c/01234567/x", b"sb", 80, b"/sb/80", b"/1a2b3c/01234567/x"),
    (b"/sb/80/1A2b3c/01234567a/x", b"sb", 80, b"/sb/80", b"/1A2b3c/01234567a/x"),
    (b"/sb/80/01/01234567a/x", b"sb", 80, b"/sb/80", b"/01/01234567a/x"),
    (b"/sb/80/3w5e11264sgsg/01234567a/x", b"sb", 80, b"/sb/80", b"/3w5e11264sgsg/01234567a/x"),
]


@pytest.mark.parametrize(("target", "id", "port", "prefix", "upstream"), URI_PATHS)
def test_uri(target: bytes, id: bytes, port: int, prefix: bytes, upstream: bytes) -> None:
    """The uri form takes two raw segments away and passes the rest on byte for byte."""
    assert by_path(target) == Route(AddressForm.URI, id, port, None, upstream, prefix, None)


@pytest.mark.parametrize(
    ("rest", "signed", "unsigned"),
    [
        (b"/extra/path", b"/extra/path", b"/1a2b3c/01234567a/extra/path"),
        (b"", b"/", b"/1a2b3c/01234567a"),
        (b"/", b"/", b"/1a2b3c/01234567a/"),
        (b"?q=/", b"/?q=/", b"/1a2b3c/01234567a?q=/"),
    ],
)
def test_signed_uri_has_two_readings(rest: bytes, signed: bytes, unsigned: bytes) -> None:
    """A path that looks signed is read both ways, since it may be an application's own path."""
    plain = Route(AddressForm.URI, b"sb", 9090, None, unsigned, b"/sb/9090", None)
    prefix = b"/sb/9090/1a2b3c/01234567a"
    assert by_path(prefix + rest) == Route(AddressForm.URI, b"sb", 9090, SIGNED, signed, prefix, plain)


@pytest.mark.parametrize(
    "target",
    [
        b"/sb/08080",
        b"/sb/65536/x",
        b"/sb/0/x",
        b"/sb/abc/x",
        b"/sb/+80/x",
        b"/sb/80%2Fx",
        b"/sb/80#x",
        b"/sb%2F8080/x/",
        b"//8080/x",
        b"/../80/",
        b"/%2e%2e/80/",
        b"/a.b/80/",
        b"/-sb/80/",
        b"/" + b"x" * 64 + b"/80/",
    ],
)
def test_malformed_uri(target: bytes) -> None:
    """Two segments that are no sandbox and port are refused, unless the first is one of our names."""
    with pytest.raises(BadRoute):
        by_path(target)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_our_names_are_no_ids(name: bytes) -> None:
    """The first segments that the manager answers to are never taken for an id."""
    assert by_path(b"/" + name + b"/80/x") is None


@pytest.mark.parametrize("target", [b"/", b"/sb", b"/sb?/80/", b"*", b"/favicon.ico"])
def test_one_segment_is_no_uri_address(target: bytes) -> None:
    """A path of less than two segments is left to the manager."""
    assert by_path(target) is None


def test_uri_needs_its_mode() -> None:
    """Paths are not looked at when the route mode is not uri."""
    assert by_path(b"/sb/80/", HEADERS_ONLY) is None


def test_mount() -> None:
    """A path in front of uri addresses is part of the prefix; addresses without it work as well."""
    mounted = RoutingConfig(gateway=True, uri=True, mount=b"/gw")
    inside, outside = by_path(b"/gw/sb/80/x", mounted), by_path(b"/sb/80/x", mounted)
    assert inside == Route(AddressForm.URI, b"sb", 80, None, b"/x", b"/gw/sb/80", None)
    assert outside == Route(AddressForm.URI, b"sb", 80, None, b"/x", b"/sb/80", None)


def test_direct_mode() -> None:
    """Without the gateway the header, the host and the uri path mean nothing."""
    assert Router(DIRECT).route(b"/sb/80/", b"sb-80." + DOMAIN, b"sb-80") is None


def test_header_before_host_before_path() -> None:
    """The header decides over the host, the host over the paths."""
    router, path = Router(EVERYTHING), b"/sandboxes/c/proxy/3/"
    found = [
        router.route(path, b"b-2." + DOMAIN, b"a-1"),
        router.route(path, b"b-2." + DOMAIN, None),
        router.route(path, PUBLIC, None),
    ]
    assert [route and (route.form, route.id) for route in found] == [
        (AddressForm.HEADER, b"a"),
        (AddressForm.HOST, b"b"),
        (AddressForm.PROXY, b"c"),
    ]


def test_same_answer_again() -> None:
    """What is remembered of a host or header never mixes with another target, form or refusal."""
    router = Router(EVERYTHING)
    host = b"sb-80." + DOMAIN
    for target in (b"/a", b"/b"):
        for ingress_to, form in ((None, AddressForm.HOST), (host, AddressForm.HEADER)):
            route = router.route(target, host, ingress_to)
            assert route is not None
            assert (route.form, route.target) == (form, target)
    for _ in range(2):
        with pytest.raises(BadRoute):
            router.route(b"/", b"www." + DOMAIN, None)


def test_memory_is_bounded() -> None:
    """Hosts and headers that clients make up do not pile up."""
    router = Router(EVERYTHING)
    for number in range(20_000):
        router.route(b"/", b"sb%d-80.%b" % (number, DOMAIN), None)
        router.route(b"/", b"x", b"sb%d-80" % number)
    router.route(b"/", b"h" * 1000, None)
    assert len(router._hosts) <= 16384
    assert len(router._headers) <= 16384
    assert max(map(len, router._hosts)) < 1000


def test_refusals_say_what_an_address_is() -> None:
    """The message names the form that was expected."""
    with pytest.raises(BadRoute, match=re.escape("/sandboxes/<sandbox id>/proxy/<port>/")):
        by_path(b"/sandboxes/sb/proxy/x/")


IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", fullmatch=True)
LOWER_IDS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,35}", fullmatch=True)
PORTS = st.integers(1, 65535)
SIGNATURES = st.none() | st.builds(
    lambda expires, code: Signature(expires.encode(), code.encode()),
    st.from_regex(r"0|[1-9a-z][0-9a-z]{0,6}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{8}[0-9a-z]", fullmatch=True),
)
RESTS = st.sampled_from([b""]) | st.binary(max_size=20).map(lambda text: b"/" + text)


@given(IDS, PORTS, SIGNATURES)
@example("a-80-1a2b3c-01234567a", 80, None)
@example("a-80-1a2b3c", 80, SIGNED)
def test_header_round_trip(id: str, port: int, signature: Signature | None) -> None:
    """Every label that is formatted is read back as the same address."""
    route = by_header(format_label(id, port, signature).encode())
    assert route == Route(AddressForm.HEADER, id.encode(), port, signature, b"/", b"", None)


@given(LOWER_IDS, PORTS, SIGNATURES)
def test_host_round_trip(id: str, port: int, signature: Signature | None) -> None:
    """Every host name that is formatted is read back as the same address, or DNS could not carry it."""
    try:
        host = format_host("sandbox.example.com:8443", id, port, signature).encode()
    except ValueError:
        assert len(format_label(id, port, signature)) > 63
        return
    route = by_host(host)
    assert route == Route(AddressForm.HOST, id.encode(), port, signature, b"/", b"", None)


@given(IDS.filter(lambda id: id.encode() not in RESERVED), PORTS, SIGNATURES, RESTS)
def test_uri_round_trip(id: str, port: int, signature: Signature | None, rest: bytes) -> None:
    """Every path that is formatted is read back, and what follows it is a suffix of the target."""
    prefix = format_path(id, port, signature).encode()
    route = by_path(prefix + rest)
    assert route is not None
    reading = route if signature is not None or route.unsigned is None else route.unsigned
    expected = Route(AddressForm.URI, id.encode(), port, signature, rest or b"/", prefix, None)
    assert replace(reading, unsigned=None) == expected


@given(IDS, PORTS, RESTS, st.booleans())
def test_proxy_round_trip(id: str, port: int, rest: bytes, version: bool) -> None:
    """Every proxy path that is formatted is read back, and what follows it is a suffix of the target."""
    prefix = format_proxy(id, port, version=version).encode()
    route = by_path(prefix + rest, DIRECT)
    assert route == Route(AddressForm.PROXY, id.encode(), port, None, rest or b"/", prefix, None)


@given(st.binary(max_size=80), st.binary(max_size=80), st.none() | st.binary(max_size=80))
def test_any_bytes(target: bytes, host: bytes, ingress_to: bytes | None) -> None:
    """Whatever comes in is an address, ours, or a bad route; what goes upstream is a suffix of what came."""
    try:
        route = Router(EVERYTHING).route(target, host, ingress_to)
    except BadRoute:
        return
    if route is not None:
        assert target in (route.prefix + route.target, route.prefix + route.target.removeprefix(b"/"))


@pytest.mark.parametrize(
    ("id", "port", "reason"),
    [("", 80, "id"), ("-a", 80, "id"), ("a.b", 80, "id"), ("a" * 64, 80, "id"), ("a", 0, "port"), ("a", 65536, "port")],
)
def test_what_no_address_can_hold(id: str, port: int, reason: str) -> None:
    """Formatting refuses what parsing would refuse, and says which part is wrong."""
    for form in (format_label, format_path, format_proxy):
        with pytest.raises(ValueError, match=reason):
            form(id, port)


@pytest.mark.parametrize(
    ("id", "signature", "fits"),
    [
        (UUID, Signature(b"x2qxvk", b"742674cfa"), True),
        (UUID, Signature(b"3w5e11264sgsf", b"742674cfa"), False),
        ("x" * 57, None, True),
        ("x" * 58, None, False),
    ],
)
def test_label_length(id: str, signature: Signature | None, fits: bool) -> None:
    """A host name whose first label would pass 63 characters is refused with both numbers."""
    if fits:
        assert len(format_host("x.test", id, 44772, signature).partition(".")[0]) <= 63
        return
    with pytest.raises(ValueError, match=r"6[4-9] characters and DNS allows 63"):
        format_host("x.test", id, 44772, signature)


def test_host_names_keep_no_capitals() -> None:
    """An id with capitals would come back as another id, so it gets no host name."""
    with pytest.raises(ValueError, match="capital"):
        format_host("x.test", "Sb", 80)
