"""The grammar of cookies as far as our own are concerned: find them, take them out. Pure functions on bytes."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

ACCESS: Final = b"opensandbox-access-"
"""Prefix of the name of a link cookie; id and port follow."""
LAST: Final = b"opensandbox-last"
"""Name of the cookie that says which prefix the browser was under last: a hint, no credential."""
LOCKED: Final = b"__Host-"
"""In front of these names over TLS: such a cookie no other host of the domain can set (RFC 6265bis §4.1.3.2). Browsers
take it with Secure only, which not all of them take from http: on localhost; so over http the bare names stay."""
_OURS: Final = b"opensandbox-"
_OUR_NAMES: Final = (ACCESS, LAST + b"=", LOCKED + ACCESS, LOCKED + LAST + b"=")
_MOST_COOKIES: Final = 4
_PAIRS: Final = re.compile(rb"(?:\A|;)[ \t]*+((?:" + LOCKED + rb")?" + _OURS + rb"[^=;]*+)=([^;]*+)")
"""Only our own cookies: of others a page can set thousands, and looking at each would cost everybody's time."""
_OUR_PAIRS: Final = re.compile(rb";[ \t]*+(?:" + LOCKED + rb")?(?:" + ACCESS + rb"|" + LAST + rb"=)[^;]*+")


def cookie_values(cookies: bytes | None, name: bytes) -> list[bytes]:
    """The values of the cookies with this name, at most a few: a page can set any number of them."""
    if cookies is None or name not in cookies:
        return []
    named = (pair[2].rstrip(b" \t") for pair in _PAIRS.finditer(cookies) if pair[1] == name)
    return list(islice(named, _MOST_COOKIES))


def strip_cookies(cookies: bytes) -> bytes:
    """A Cookie value without our cookies; empty when nothing is left, the same object when there were none."""
    if _OURS not in cookies:
        return cookies
    kept, dropped = _OUR_PAIRS.subn(b"", b";" + cookies)
    return kept[1:].lstrip(b" \t") if dropped else cookies


def is_ours(cookie: bytes) -> bool:
    """Whether a Cookie pair or the value of a Set-Cookie is for a cookie of ours."""
    return cookie.lstrip(b" \t").startswith(_OUR_NAMES)
