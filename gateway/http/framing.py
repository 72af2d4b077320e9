"""Message framing: where a message ends; every ambiguous form is refused.

A proxy is safe when both sides believe the same message boundaries. llhttp, which parses our heads, hides or
accepts more than that allows (other protocols' versions, no or two Hosts, `gzip, chunked`, chunk extensions), so
the raw bytes are held against one strict grammar first (RFC 9112 §2–§5), and bodies are delimited here:

* a body has a length (`0` and up), or it is `CHUNKED`, or, in answers only, it lasts `UNTIL_CLOSE`;
* Transfer-Encoding beside Content-Length, more than one of either, any coding but `chunked`, signs, commas, blanks
  inside numbers: refused, never repaired (RFC 9112 §6.3 allows both; repairing is where smuggling lives);
* chunks are decoded strictly and written anew, so a malformed size, a bare LF or an odd extension never travels on.
"""

from __future__ import annotations

import re

from gateway.errors import BadRequest

CHUNKED = -1
UNTIL_CLOSE = -2

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# A group is never repeated possessively: before Python 3.11.5 the engine then forgets where a failed turn began.
_FIELDS = rb"(?:" + _TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*"
_TRAILERS = re.compile(_FIELDS + rb"\r\n")
# RFC 3986 §3.2.2 lets a name hold percent-encoded octets and sub-delims. No name that resolves does, and programs
# differ on what `a%00b`, `a,b` or `a..b` is: so a Host is labels of letters, digits, `-` and `_`, or an address.
# (Groups that repeat are not possessive: CPython 3.11.2 goes on in the middle of an iteration that failed.)
_LABEL = rb"[0-9A-Za-z_-]++"
_ADDRESS = rb"\[[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?:\.[0-9]{1,3}){3})?\]"
_HOST = re.compile(rb"(?:%b(?:\.%b)*\.?|%b)(?::[0-9]{1,5})?" % (_LABEL, _LABEL, _ADDRESS))
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_EXTENSION = rb"(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb'|"[^"\\\x00-\x08\x0a-\x1f\x7f]*+"))?)*'
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})" + _EXTENSION)
_BARE_LF = re.compile(rb"(?<!\r)\n|\r(?!\n)(?=.)", re.DOTALL)

_PLAIN_SIZE = 8
"""Digits of a size line that is worth remembering: with an extension it may be long, and different each time."""
_REMEMBERED_SIZES = 4096
_REMEMBERED_HOST = 128
_REMEMBERED_HOSTS = 4096

MAX_CHUNK_LINE = 256
FEW_CHUNKS = 64
"""Most chunks of what was just read that are taken apart at once, in some 0.03 ms: a read can hold 40 000 of them."""
MAX_CHUNKS = 256
"""Most chunks at each turn after that, for which one has to wait."""
MAX_TRAILER_BYTES = 16384
MAX_TRAILERS = 256


class _Hosts(dict[bytes, bool]):
    """Values of Host → whether they are valid; learned once per spelling, since every new head brings one."""

    def __missing__(self, host: bytes) -> bool:
        valid = _HOST.fullmatch(host) is not None
        if len(host) <= _REMEMBERED_HOST:
            if len(self) >= _REMEMBERED_HOSTS:
                self.clear()
            self[host] = valid
        return valid


known_hosts = _Hosts()
is_host = known_hosts.__getitem__


def refuse_partial(data: bytes | bytearray, seen: int = 0) -> None:
    """Raises BadRequest when the beginning of a head can no longer become a valid one (a bare CR or LF in it).

    The first `seen` bytes have been looked at before.
    """
    if _BARE_LF.search(data, max(0, seen - 1)) is not None:
        raise BadRequest("a line of the request head ends in a bare LF or CR; lines end in CR LF")


def content_length(value: bytes) -> int:
    """The value of one Content-Length field (RFC 9110 §8.6). Raises BadRequest for anything but digits."""
    if _LENGTH.fullmatch(value) is None:
        raise BadRequest("Content-Length is not a plain decimal number")
    return int(value)


def body_length(lengths: list[bytes], codings: list[bytes], minor: int) -> int | None:
    """How the body is delimited by its head: a length, CHUNKED, or None when the head says nothing.

    `lengths` and `codings` are the values of all Content-Length and Transfer-Encoding fields, `minor` the minor
    version of HTTP/1. Raises BadRequest for every form two parsers could read differently.
    """
    if codings:
        if lengths:
            raise BadRequest("Transfer-Encoding and Content-Length must not come together")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadRequest("Transfer-Encoding must be exactly 'chunked'")
        if minor == 0:
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding")
        return CHUNKED
    if lengths:
        if len(lengths) > 1:
            raise BadRequest("there must be one Content-Length only")
        return content_length(lengths[0])
    return None


def chunk(payload: bytes) -> bytes:
    """One chunk on the wire; `payload` must not be empty, since that would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


LAST_CHUNK = b"0\r\n\r\n"


def last_chunk(trailers: bytes) -> bytes:
    """The end of a chunked body with its trailer lines (each ending in CR LF, possibly none)."""
    return b"0\r\n%b\r\n" % trailers


class _SizeLines(dict[bytes, int]):
    """Chunk size lines (without their CR LF) → sizes; learned once per spelling."""

    def __missing__(self, line: bytes) -> int:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise BadRequest("a chunk size line is malformed")
        size = int(match[1], 16)
        if len(line) <= _PLAIN_SIZE:
            if len(self) >= _REMEMBERED_SIZES:
                self.clear()
            self[line] = size
        return size


_size_lines = _SizeLines()


class ChunkedDecoder:
    """Takes a chunked body apart as it arrives (RFC 9112 §7.1).

    `feed` returns the payload found, at most that of `FEW_CHUNKS`: when `more` is set there was more, and `feed(b"")`
    goes on with it, `MAX_CHUNKS` at a time. `done` tells that the last chunk and the trailers have been read; `rest`
    is what followed them; `trailers` are the trailer lines as they came.
    """

    __slots__ = ("_held", "_left", "done", "more", "rest", "trailers")

    _SIZE = -1
    _END_OF_DATA = -2
    _TRAILERS = -3

    def __init__(self) -> None:
        self._left = self._SIZE
        self._held = b""
        """What could not be used yet."""
        self.more = False
        self.done = False
        self.rest = b""
        self.trailers = b""

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`. Raises BadRequest at the first byte that is not a well-formed chunked body."""
        held = len(self._held)
        if held:
            data = self._held + data
            self._held = b""
        elif self._left == self._SIZE:
            # What most reads of an event stream bring: one chunk, whole.
            end = data.find(b"\r\n", 0, _PLAIN_SIZE + 2)
            if end > 0 and 0 < _size_lines[data[:end]] == len(data) - end - 4 and data.endswith(b"\r\n"):
                return data[end + 2 : -2]
        payload: list[bytes] = []
        most = MAX_CHUNKS if self.more else FEW_CHUNKS
        at = 0 if self._left == self._TRAILERS else self._read_chunks(data, payload, most)
        self.more = False
        if self._left == self._TRAILERS:
            self._read_trailers(data, at, held - at)
        elif at < len(data):
            self._held = data[at:]
            self.more = len(payload) >= most
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _read_chunks(self, data: bytes, payload: list[bytes], most: int) -> int:
        """Adds the payload of the next chunks; returns where it has stopped."""
        at, size, left = 0, len(data), self._left
        while at < size and len(payload) < most:
            if left == self._SIZE:
                end = data.find(b"\r\n", at, at + MAX_CHUNK_LINE)
                if end < 0:
                    _check_partial_size(data[at : at + MAX_CHUNK_LINE])
                    break
                left = _size_lines[data[at:end]]
                at = end + 2
                if not left:
                    left = self._TRAILERS
                    break
            if left > 0:
                part = data[at : at + left]
                payload.append(part)
                at += len(part)
                left -= len(part)
                if left or at == size:
                    left = left or self._END_OF_DATA
                    break
                left = self._END_OF_DATA
            if not data.startswith(b"\r\n", at):
                if data[at:] != b"\r":
                    raise BadRequest("a chunk is longer than its size says")
                break
            at += 2
            left = self._SIZE
        self._left = left
        return at

    def _read_trailers(self, data: bytes, at: int, seen: int) -> None:
        """Looks for the end of the trailers, which begin at `at`; `seen` bytes of them have been looked at before."""
        if data.startswith(b"\r\n", at):
            end = at + 2
        else:
            end = data.find(b"\r\n\r\n", at + max(0, seen - 3))
            if end < 0:
                if len(data) - at > MAX_TRAILER_BYTES or _BARE_LF.search(data, at + max(0, seen - 1)) is not None:
                    raise BadRequest("the trailers are malformed or too long")
                self._held = data[at:]
                return
            end += 4
        section = data[at:end]
        if (
            len(section) > MAX_TRAILER_BYTES
            or section.count(b"\n") > MAX_TRAILERS
            or _TRAILERS.fullmatch(section) is None
        ):
            raise BadRequest("the trailers are malformed or too long")
        self.trailers = section[:-2]
        self.rest = data[end:]
        self.done = True


def _check_partial_size(line: bytes) -> None:
    if len(line) >= MAX_CHUNK_LINE or b"\n" in line:
        raise BadRequest("a chunk size line is malformed")
