"""The head of a sandbox's response: its framing, the lines that are forwarded, and how it is sent to the client."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import httptools

from gateway.errors import BadRequest, UpstreamInvalid
from gateway.http import framing
from gateway.http.cookies import is_ours
from gateway.http.fields import CODING, CONNECTION, COOKIE, LENGTH, ORIGIN_WIDE, UPGRADE, response_lines
from gateway.http.heads import REMEMBERED_HEAD, SILENT, find, has_too_many, joined, lines_named

_REMEMBERED_STATUSES: Final = 1024
_BEGINNING: Final = b"HTTP/"
MAX_LINES: Final = 1000
"""Most header lines of an answer: each costs a microsecond or two, and no real answer has 200."""
_response_fields = response_lines(UpstreamInvalid)
_is_status_line = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: [^\x00-\x08\x0a-\x1f\x7f]*+)?").fullmatch


class ResponseHead:
    """One response head of a sandbox: the facts we act on, and the lines that travel on."""

    __slots__ = (
        "_added",
        "_built",
        "_drop",
        "_is_page",
        "_start",
        "keep_alive",
        "length",
        "lines",
        "minor",
        "origin_wide",
        "status",
        "upgrade",
    )

    def __init__(self, start: bytes, status: int, minor: int, lines: list[bytes]) -> None:
        self._start = start
        self.status = status
        self.minor = minor
        self.lines = lines
        """The header lines as they came, without their ends."""
        self.length = 0
        """Number of body bytes, or framing.CHUNKED, or framing.UNTIL_CLOSE."""
        self.keep_alive = minor == 1
        self.upgrade = b""
        self.origin_wide: list[int] = []
        """Where lines stand that may not travel on where sandboxes share an origin."""
        self._drop: list[int] = []
        self._is_page: bool | None = None
        self._added: bytes | None = None
        self._built = b""

    def find(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name; for the rare questions."""
        return find(self.lines, name)

    def is_page(self) -> bool:
        """Whether the content is HTML."""
        known = self._is_page
        if known is None:
            content = self.find(b"content-type")
            known = self._is_page = content is not None and content.lower().startswith(b"text/html")
        return known


class ResponseReader:
    """Reads the response heads of one upstream connection, remembering the last of a final answer."""

    __slots__ = ("head", "last", "size", "to_head")

    last: ResponseHead
    """What `head` says; not there while `size` is 0."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes of `head`."""
        self.head = b""
        """The head remembered, for who would like to know whether another one is the same."""
        self.to_head = False
        """Whether it answered a HEAD request, which changes what it means."""

    def read(self, head: bytes, *, to_head: bool) -> ResponseHead:
        """As `parse_response`."""
        response = parse_response(head, to_head=to_head)
        if response.status >= 200 and len(head) <= REMEMBERED_HEAD:
            self.head, self.size, self.to_head, self.last = head, len(head), to_head, response
        return response


def begins_as_response(data: bytes | bytearray) -> bool:
    """Whether these first bytes of an answer may yet become an HTTP/1 response."""
    return _BEGINNING.startswith(data[: len(_BEGINNING)])


class _StatusLines(dict[bytes, tuple[bytes, int, int]]):
    """Status lines → the line as we send it, status and minor version; learned once per spelling."""

    def __missing__(self, line: bytes) -> tuple[bytes, int, int]:
        if _is_status_line(line) is None:
            raise UpstreamInvalid if begins_as_response(line) else UpstreamInvalid.no_http(line)
        known = (b"HTTP/1.1" + line[8:], int(line[9:12]), line[7] - 0x30)
        if len(self) >= _REMEMBERED_STATUSES:
            self.clear()
        if len(line) <= 64:
            self[line] = known
        return known


_status_lines = _StatusLines()


def parse_response(head: bytes, *, to_head: bool) -> ResponseHead:
    """Takes apart one whole response head; `to_head` says the request was HEAD, whose answers have no body.

    Raises UpstreamInvalid.
    """
    lines = head[:-4].split(b"\r\n")
    if len(lines) > MAX_LINES:
        raise UpstreamInvalid
    start, status, minor = _status_lines[lines.pop(0)]
    response = ResponseHead(start, status, minor, lines)
    length = _read_response_lines(response)
    try:
        httptools.HttpResponseParser(SILENT).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise UpstreamInvalid from None
    if status >= 200 and status != 204 and status != 304 and not to_head:
        response.length = framing.UNTIL_CLOSE if length is None else length
    elif length == framing.CHUNKED and not to_head and status != 304:
        raise UpstreamInvalid  # RFC 9112 §6.1: these have no body, so a coding can only be a misunderstanding
    return response


def _read_response_lines(response: ResponseHead) -> int | None:
    known = _response_fields
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    drop = response._drop
    for index, line in enumerate(response.lines):
        field = known[line]
        if field is None:
            continue
        kind, _, value = field
        if kind == LENGTH:
            lengths.append(value)
            if response.status >= 200 and response.status != 204:
                continue  # the others have no body, so they must not name a length (RFC 9110 §8.6)
        if kind == UPGRADE:
            response.upgrade = value
            if response.status == 426:
                continue  # has to name what it asks for (RFC 9110 §15.5.22), though hop-by-hop elsewhere
        if kind == ORIGIN_WIDE:
            response.origin_wide.append(index)
            continue
        if kind == COOKIE and not is_ours(value):
            continue
        drop.append(index)
        if kind == CONNECTION:
            connection.append(value)
        elif kind == CODING:
            codings.append(value)
    if connection:
        _read_response_connection(response, b",".join(connection).lower())
    if not lengths and not codings:
        return None
    try:
        return framing.body_length(lengths, codings, response.minor)
    except BadRequest as error:
        raise UpstreamInvalid from error


def _read_response_connection(response: ResponseHead, value: bytes) -> None:
    if value == b"keep-alive":
        response.keep_alive = True
        return
    if has_too_many(value):
        raise UpstreamInvalid
    tokens = {token.strip(b" \t") for token in value.split(b",")}
    response.keep_alive = b"close" not in tokens and (response.minor == 1 or b"keep-alive" in tokens)
    named = tokens - {b"", b"close", b"keep-alive", b"upgrade", b"content-length"}
    if named:
        response._drop.extend(lines_named(response.lines, named, response._drop))


def build_response(response: ResponseHead, added: bytes, *, shared: bool = False) -> bytes:
    """The head that goes to the client: `added` are whole lines, each ending in CR LF, that come last.

    `shared` says that other sandboxes have the same origin.
    """
    if shared and response.origin_wide:
        return b"%b\r\n%b%b\r\n" % (response._start, _confined(response), added)
    if added != response._added:
        response._added = added
        response._built = b"%b\r\n%b%b\r\n" % (response._start, joined(response.lines, response._drop), added)
    return response._built


def build_rewritten(
    response: ResponseHead, added: bytes, change: Callable[[bytes], bytes], *, shared: bool = True
) -> bytes:
    """The same with the sandbox's lines changed on the way."""
    lines = change(_confined(response) if shared else joined(response.lines, response._drop))
    return b"%b\r\n%b%b\r\n" % (response._start, lines, added)


def _confined(response: ResponseHead) -> bytes:
    withheld = response.origin_wide
    return joined(response.lines, response._drop + withheld if withheld else response._drop)
