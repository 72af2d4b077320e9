"""A path is under a prefix only when every program says so."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.paths import clean_prefix, has_two_readings, leading

UNCLEAR = [
    b"/a/../b",
    b"/a/..",
    b"/..",
    b"/./a",
    b"/a/.",
    b"/a//b",
    b"//a",
    b"/a%2fb",
    b"/a%2Fb",
    b"/a/%2e%2e/b",
    b"/a/.%2E/b",
    b"/a\\b",
    b"/a%5cb",
    b"/a/..;x/b",
    b"/a;x",
    b"/a%3bx",
    b"/a%00",
]
CLEAR = [b"/", b"/a", b"/a/", b"/a.b/..c/d../...", b"/%20%C3%A9", b"/a:b@c=d&e+f,g~h", b"/.well-known/x"]


@pytest.mark.parametrize("path", UNCLEAR)
def test_two_readings(path: bytes) -> None:
    """What servers and frameworks are known to read differently is found."""
    assert has_two_readings(path)


@pytest.mark.parametrize("path", CLEAR)
def test_one_reading(path: bytes) -> None:
    """Ordinary paths are not taken for trickery."""
    assert not has_two_readings(path)


LEADING = [
    (b"/", 0, b""),
    (b"*", 0, b""),
    (b"/a/../b", 0, b""),
    (b"/a", 1, b"/a"),
    (b"/a/", 1, b"/a"),
    (b"/a/b/c?d/../e", 2, b"/a/b"),
    (b"/a?b", 1, b"/a"),
    (b"/", 1, b"/"),
    (b"/a", 2, None),
    (b"/a/../b", 1, None),
    (b"*", 1, None),
    (b"", 1, None),
]


@pytest.mark.parametrize(("target", "count", "expected"), LEADING)
def test_leading(target: bytes, count: int, expected: bytes | None) -> None:
    """The first segments come as they are written, and not at all where they are not certain."""
    assert leading(target, count) == expected


@given(
    st.lists(st.sampled_from([b"/", b"a", b"..", b".", b"%2e", b"%2F", b"\\", b";", b"b"]), max_size=10).map(b"".join)
)
def test_any_reader_stays_under_the_prefix(rest: bytes) -> None:
    """A program that decodes and resolves the path afterwards cannot get out of the prefix."""
    target = b"/a" + rest
    if leading(target, 1) == b"/a":
        resolved = posixpath.normpath(unquote_to_bytes(target).replace(b"\\", b"/"))
        assert resolved == b"/a" or resolved.startswith(b"/a/")


@pytest.mark.parametrize(("path", "expected"), [("/", b""), ("/a", b"/a"), ("/a/", b"/a"), ("/a/b.c", b"/a/b.c")])
def test_clean_prefix(path: str, expected: bytes) -> None:
    """A slash at the end makes no difference."""
    assert clean_prefix(path) == expected


@pytest.mark.parametrize("path", ["a", "/a/../b", "/a//b", "/a?b", "/a#b", "/a b", "/é", "/a%2fb", "/a;b", "//"])
def test_no_prefix(path: str) -> None:
    """A prefix that could be read in two ways would protect nothing."""
    with pytest.raises(ValueError, match="path"):
        clean_prefix(path)
