"""What a header line means, and what is remembered of the lines that came."""

from __future__ import annotations

import pytest

from gateway.errors import BadRequest
from gateway.http.fields import COOKIE, HOST, REQUEST_ID, TWIN, KnownLines, request_lines

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def lines() -> KnownLines:
    """A memory of its own."""
    return request_lines(BadRequest)


def test_a_line_of_no_concern_means_nothing(lines: KnownLines) -> None:
    """And its second coming is a look-up."""
    assert lines[b"Accept: */*"] is None
    assert b"Accept: */*" in lines


def test_a_line_of_ours_is_read(lines: KnownLines) -> None:
    """Kind, name in lower case, value without the white space around it."""
    assert lines[b"hOsT: \tsandbox.example \t"] == (HOST, b"host", b"sandbox.example")
    assert lines[b"Content_Length: 1"] == (TWIN, b"content_length", b"1")


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_of_a_name(lines: KnownLines, octet: int) -> None:
    """RFC 9110 §5.6.2: a name is a token; a colon ends it."""
    line = b"a%bb: 1" % bytes([octet])
    if octet in TOKEN or octet == ord(":"):
        assert lines[line] is None
    else:
        with pytest.raises(BadRequest):
            lines[line]


@pytest.mark.parametrize("octet", range(256))
@pytest.mark.parametrize("known", [False, True], ids=["new name", "known name"])
def test_every_octet_of_a_value(lines: KnownLines, octet: int, known: bool) -> None:
    """RFC 9110 §5.5: no control character but the tab, whether the name has been seen or not."""
    if known:
        assert lines[b"Accept: 1"] is None
    line = b"Accept: a%bb" % bytes([octet])
    if octet == 0x09 or (octet >= 0x20 and octet != 0x7F):
        assert lines[line] is None
    else:
        with pytest.raises(BadRequest):
            lines[line]


@pytest.mark.parametrize("line", [b"", b":", b": 1", b"Accept", b"Accept : 1", b" Accept: 1", b"\tAccept: 1"])
def test_lines_that_are_none(lines: KnownLines, line: bytes) -> None:
    """Neither at first, nor once the name is known."""
    for _ in range(2):
        with pytest.raises(BadRequest):
            lines[line]
        assert lines[b"Accept: 1"] is None


def test_a_name_with_another_value_each_time_does_not_crowd_out_the_others(lines: KnownLines) -> None:
    """A hundred thousand trace ids leave the memory as small as it was, and what repeats is still in it."""
    assert lines[b"Host: sandbox.example"] is not None
    for number in range(100_000):
        field = lines[b"X-Request-ID: %d" % number]
        assert field == (REQUEST_ID, b"x-request-id", b"%d" % number)
    assert b"Host: sandbox.example" in lines
    assert len(lines) < 1000


def test_any_number_of_names_is_bounded(lines: KnownLines) -> None:
    """A client that invents names makes the memory start anew."""
    for number in range(20_000):
        assert lines[b"X-%d: 1" % number] is None
    assert len(lines) <= 8192
    assert len(lines._names) <= 8192


def test_long_lines_are_not_kept(lines: KnownLines) -> None:
    """Nor long names."""
    assert lines[b"Accept: %b" % (b"a" * 1000)] is None
    assert lines[b"%b: 1" % (b"a" * 1000)] is None
    assert not lines
    assert list(lines._names) == [b"Accept"]


@pytest.mark.parametrize("line", [b"Authorization: x", b"OpenSandbox-Secure-Access: x", b"OPEN-SANDBOX-API-KEY: x"])
def test_credentials_are_not_kept(lines: KnownLines, line: bytes) -> None:
    """They are not worth keeping in memory for longer than their request."""
    assert lines[line] is not None
    assert not lines


def test_cookies_of_ours_are_not_kept(lines: KnownLines) -> None:
    """The application's are of no concern."""
    assert lines[b"Cookie: a=1"] is None
    field = lines[b"Cookie: a=1; opensandbox-link=2"]
    assert field is not None
    assert field.kind == COOKIE
    assert list(lines) == [b"Cookie: a=1"]
