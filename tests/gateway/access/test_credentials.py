"""Who may enter a sandbox: the platform's matrix of tokens and signatures."""

from __future__ import annotations

import contextlib

import pytest

from gateway import signing
from gateway.access.credentials import AccessRule, Keyring, check
from gateway.access.throttle import BURST, REFILL, FailureThrottle
from gateway.errors import AccessDenied, GatewayError, NoKeys, TooManyFailures
from gateway.http.fields import CREDENTIALS
from gateway.signing import Signature

NOW = 1_900_000_000.0
LATER = 2_000_000_000
TOKEN = b"correct-token"
SECRET = b"signing-secret"
ID, PORT = b"sb", 8080

SECURED = AccessRule(TOKEN)
KEYS = Keyring({b"k": SECRET})
NO_KEYS = Keyring()

GOOD = signing.sign("k", SECRET, "sb", PORT, LATER)
FORGED = Signature(GOOD.expires, b"00000000k")
EXPIRED = signing.sign("k", SECRET, "sb", PORT, int(NOW) - 1)
LAST_SECOND = signing.sign("k", SECRET, "sb", PORT, int(NOW))
FOREVER = signing.sign("k", SECRET, "sb", PORT, signing.MAX_EXPIRES)
OTHER_KEY = signing.sign("x", SECRET, "sb", PORT, LATER)
OTHER_PORT = signing.sign("k", SECRET, "sb", 8081, LATER)
OTHER_ID = signing.sign("k", SECRET, "sc", PORT, LATER)

# name, what the sandbox asks for, keys, header, signature, outcome
MATRIX: list[tuple[str, AccessRule | None, Keyring, bytes | None, Signature | None, type[GatewayError] | None]] = [
    ("A1 open, nothing", None, KEYS, None, None, None),
    ("A2 open, any header", None, KEYS, b"anything", None, None),
    ("A2 open, empty header", None, KEYS, b"", None, None),
    ("A3 open, any signature", None, KEYS, None, FORGED, None),
    ("A3 open, no keys", None, NO_KEYS, None, GOOD, None),
    ("A7 secured, nothing", SECURED, KEYS, None, None, AccessDenied),
    ("A7 secured, nothing, no keys", SECURED, NO_KEYS, None, None, AccessDenied),
    ("A8 right token", SECURED, KEYS, TOKEN, None, None),
    ("A8 right token, blanks around", SECURED, KEYS, b"\t correct-token ", None, None),
    ("A8 right token, no keys", SECURED, NO_KEYS, TOKEN, None, None),
    ("A9 wrong token", SECURED, KEYS, b"wrong-token", None, AccessDenied),
    ("A9 part of the token", SECURED, KEYS, TOKEN[:-1], None, AccessDenied),
    ("A9 more than the token", SECURED, KEYS, TOKEN + b"x", None, AccessDenied),
    ("A9 other case", SECURED, KEYS, TOKEN.upper(), None, AccessDenied),
    ("A9 latin-1 bytes", SECURED, KEYS, b"\xe9\xff", None, AccessDenied),
    ("A10 empty header", SECURED, KEYS, b"", None, AccessDenied),
    ("A10 blank header", SECURED, KEYS, b"  ", None, AccessDenied),
    ("A10 empty header, signature", SECURED, KEYS, b"", GOOD, AccessDenied),
    ("A11 signature", SECURED, KEYS, None, GOOD, None),
    ("A12 signature, wrong header", SECURED, KEYS, b"wrong-token", GOOD, AccessDenied),
    ("A13 forged signature", SECURED, KEYS, None, FORGED, AccessDenied),
    ("A14 forged signature, right token", SECURED, KEYS, TOKEN, FORGED, None),
    ("A15 signature, no keys", SECURED, NO_KEYS, None, GOOD, NoKeys),
    ("A16 expired", SECURED, KEYS, None, EXPIRED, AccessDenied),
    ("A16 last second", SECURED, KEYS, None, LAST_SECOND, None),
    ("A17 unknown key", SECURED, KEYS, None, OTHER_KEY, AccessDenied),
    ("A18 latest expiry", SECURED, KEYS, None, FOREVER, None),
    ("signature of another port", SECURED, KEYS, None, OTHER_PORT, AccessDenied),
    ("signature of another sandbox", SECURED, KEYS, None, OTHER_ID, AccessDenied),
    ("empty token in the rule, empty header", AccessRule(b""), KEYS, b"", None, AccessDenied),
    ("empty token in the rule, nothing", AccessRule(b""), KEYS, None, None, AccessDenied),
]


@pytest.mark.parametrize(
    ("rule", "keys", "header", "signature", "outcome"), [row[1:] for row in MATRIX], ids=[row[0] for row in MATRIX]
)
def test_matrix(
    rule: AccessRule | None,
    keys: Keyring,
    header: bytes | None,
    signature: Signature | None,
    outcome: type[GatewayError] | None,
) -> None:
    """The header decides alone when it is there; else a good signature; else nobody enters a secured sandbox."""
    if outcome is None:
        check(rule, keys, ID, PORT, header, signature, NOW)
        return
    with pytest.raises(outcome):
        check(rule, keys, ID, PORT, header, signature, NOW)


def test_expired_is_told_apart() -> None:
    """Somebody with an old link is told to ask for a new one, not that it was never good."""
    with pytest.raises(AccessDenied, match="expired"):
        check(SECURED, KEYS, ID, PORT, None, EXPIRED, NOW)


@pytest.mark.parametrize("header", [b"wrong-token", b"", None])
def test_refusals_keep_secrets(header: bytes | None) -> None:
    """No refusal repeats the token that was sent or the one that was asked for."""
    with pytest.raises(AccessDenied) as refusal:
        check(SECURED, KEYS, ID, PORT, header, None, NOW)
    assert "correct-token" not in str(refusal.value)
    assert "wrong-token" not in str(refusal.value)


LONG = signing.sign_long("k", SECRET, "sb", PORT, LATER)
LONG_READ = signing.sign_long("k", SECRET, "sb", PORT, LATER, methods=["GET"], path="/api")


def test_long_signature() -> None:
    """A long signature lets in; one that is bound lets in where it is bound to."""
    check(SECURED, KEYS, ID, PORT, None, LONG, NOW)
    check(SECURED, KEYS, ID, PORT, None, LONG_READ, NOW, method=b"GET", target=b"/api/x")


@pytest.mark.parametrize(
    ("method", "target"), [(b"POST", b"/api/x"), (b"GET", b"/other"), (None, b"/api/x"), (b"GET", None), (None, None)]
)
def test_bound_signature_elsewhere(method: bytes | None, target: bytes | None) -> None:
    """A bound signature is refused elsewhere, and where it is not known where that is."""
    with pytest.raises(AccessDenied):
        check(SECURED, KEYS, ID, PORT, None, LONG_READ, NOW, method=method, target=target)


def test_long_signature_of_an_unknown_key() -> None:
    """A long signature names its key, too."""
    with pytest.raises(AccessDenied):
        check(SECURED, Keyring({b"x": SECRET}), ID, PORT, None, LONG, NOW)


def guessed(times: int) -> FailureThrottle:
    throttle = FailureThrottle()
    for _ in range(times):
        with pytest.raises(AccessDenied):
            check(SECURED, KEYS, ID, PORT, None, FORGED, NOW, throttle=throttle)
    return throttle


def test_guessing_is_throttled() -> None:
    """After some failures short signatures are refused unchecked, good ones included, for a while."""
    throttle = guessed(BURST)
    for signature in (FORGED, GOOD):
        with pytest.raises(TooManyFailures) as refusal:
            check(SECURED, KEYS, ID, PORT, None, signature, NOW, throttle=throttle)
        assert refusal.value.retry_after == REFILL
    check(SECURED, KEYS, ID, PORT, None, GOOD, NOW + REFILL, throttle=throttle)


def test_throttled_holders_of_other_credentials() -> None:
    """Guessing locks out neither the token nor long signatures, and no other sandbox."""
    throttle = guessed(BURST)
    check(SECURED, KEYS, ID, PORT, TOKEN, None, NOW, throttle=throttle)
    check(SECURED, KEYS, ID, PORT, None, LONG, NOW, throttle=throttle)
    check(SECURED, KEYS, b"sc", PORT, None, OTHER_ID, NOW, throttle=throttle)


def test_throttled_holder_of_two_cookies() -> None:
    """A short signature in one cookie does not keep a long one in another from being looked at."""
    assert check(SECURED, KEYS, ID, PORT, None, None, NOW, throttle=guessed(BURST), cookies=[GOOD, LONG]) is LONG


def test_pages_of_a_key_that_is_gone() -> None:
    """A page that was let in by a key that was taken away asks on and on, and locks nobody out."""
    throttle = FailureThrottle()
    for _ in range(2 * BURST):
        with pytest.raises(AccessDenied):
            check(SECURED, KEYS, ID, PORT, None, None, NOW, throttle=throttle, cookies=[OTHER_KEY])
    check(SECURED, KEYS, ID, PORT, None, GOOD, NOW, throttle=throttle)


@pytest.mark.parametrize(("header", "signature"), [(None, None), (b"wrong-token", None), (None, EXPIRED), (None, GOOD)])
def test_what_is_no_guess(header: bytes | None, signature: Signature | None) -> None:
    """A missing credential, a wrong token and an expired address say nothing about the key, so they do not count."""
    throttle = guessed(BURST - 1)
    for _ in range(10):
        with contextlib.suppress(AccessDenied):
            check(SECURED, KEYS, ID, PORT, header, signature, NOW, throttle=throttle)
    check(SECURED, KEYS, ID, PORT, None, GOOD, NOW, throttle=throttle)


COOKIES = [
    ([], None, False),
    ([GOOD], None, True),
    ([FORGED, EXPIRED, GOOD], None, True),
    ([FORGED, EXPIRED], None, False),
    ([LONG], None, True),
    ([GOOD], FORGED, False),
    ([FORGED], GOOD, True),
]


@pytest.mark.parametrize(("cookies", "signature", "enters"), COOKIES)
def test_cookies(cookies: list[Signature], signature: Signature | None, enters: bool) -> None:
    """One good cookie is enough, and it counts only where the address is not signed."""
    outcome = contextlib.nullcontext() if enters else pytest.raises(AccessDenied)
    with outcome:
        check(SECURED, KEYS, ID, PORT, None, signature, NOW, cookies=cookies)


def test_wrong_token_and_good_cookie() -> None:
    """The header decides alone over cookies, too."""
    with pytest.raises(AccessDenied):
        check(SECURED, KEYS, ID, PORT, b"wrong-token", None, NOW, cookies=[GOOD])


@pytest.mark.parametrize(
    ("rule", "header", "signature", "cookies", "expected"),
    [
        (None, None, GOOD, [], None),
        (SECURED, TOKEN, GOOD, [], None),
        (SECURED, None, GOOD, [], GOOD),
        (SECURED, None, LONG, [], LONG),
        (SECURED, None, None, [FORGED, LONG, GOOD], LONG),
    ],
)
def test_what_let_in(
    rule: AccessRule | None,
    header: bytes | None,
    signature: Signature | None,
    cookies: list[Signature],
    expected: Signature | None,
) -> None:
    """The signature that let a request in is returned, since what it holds open ends with its key."""
    assert check(rule, KEYS, ID, PORT, header, signature, NOW, cookies=cookies) == expected


def test_keyring_is_a_copy() -> None:
    """Changing the mapping that a keyring was made from does not change the keyring."""
    keys = {b"k": SECRET}
    ring = Keyring(keys)
    keys.clear()
    assert ring
    assert ring.get(b"k") == SECRET


def test_rules_and_keys_do_not_print_secrets() -> None:
    """A record that ends up in a log line shows no secret."""
    text = repr([SECURED, KEYS])
    assert "correct-token" not in text
    assert "signing-secret" not in text


def test_credentials_are_lower_case() -> None:
    """Names are compared after lower-casing, so the set holds lower-case names."""
    assert all(name == name.lower() for name in CREDENTIALS)
