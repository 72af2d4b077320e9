"""The PROXY protocol, versions 1 and 2: a load balancer sends the client's address before the first request.

Specification: HAProxy's `proxy-protocol.txt`, 2020-03-05. Only proxies we trust may say it, and a listener that expects
the line refuses connections without it, since anybody could leave it out.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from gateway.errors import BadRequest

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V1 = re.compile(
    rb"PROXY (?:UNKNOWN[^\r\n]*|(TCP4|TCP6) ([0-9A-Fa-f.:]{2,45}) [0-9A-Fa-f.:]{2,45} \d{1,5} \d{1,5})\r\n"
)
_V1_LONGEST: Final = 107
_V2_HEADER: Final = 16
_V2_LONGEST: Final = 4096
_ADDRESS_BYTES: Final = {0x1: 4, 0x2: 16}


class Preface(NamedTuple):
    """What stood before the first request."""

    peer: bytes | None
    """The client's address, or None when the proxy speaks for itself (a health check)."""
    size: int
    """How many bytes it took."""


def read_preface(data: bytes) -> Preface | None:
    """The preface at the start of `data`, or None while it is incomplete. Raises BadRequest when there is none."""
    if data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _read_v2(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _read_v1(data)
    raise BadRequest("this listener expects the PROXY protocol before the first request")


def _read_v1(data: bytes) -> Preface | None:
    match = _V1.match(data)
    if match is not None:
        return Preface(_checked(match[2]) if match[1] else None, match.end())
    if len(data) < _V1_LONGEST and b"\n" not in data:
        return None
    raise BadRequest("the PROXY line is malformed")


def _checked(address: bytes) -> bytes:
    try:
        return str(ipaddress.ip_address(address.decode("ascii"))).encode("ascii")
    except ValueError:
        raise BadRequest("the PROXY line names no address") from None


def _read_v2(data: bytes) -> Preface | None:
    if len(data) < _V2_HEADER:
        return None
    version, command = data[12] >> 4, data[12] & 0xF
    length = int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1 or length > _V2_LONGEST:
        raise BadRequest("the PROXY header is malformed")
    end = _V2_HEADER + length
    if len(data) < end:
        return None
    size = _ADDRESS_BYTES.get(data[13] >> 4)
    if command == 0 or size is None:
        return Preface(None, end)
    if length < 2 * size + 4:
        raise BadRequest("the PROXY header is too short for its addresses")
    packed = data[_V2_HEADER : _V2_HEADER + size]
    return Preface(str(ipaddress.ip_address(packed)).encode("ascii"), end)
