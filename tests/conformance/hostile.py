"""What a client may send to be as much work as it can, as raw bytes for each way of addressing (address.py)."""

from __future__ import annotations

SIZE = 120_000
"""Bytes of hostile input, which a single read can bring."""
LONG = 60_000
"""Bytes of one hostile header line."""

GET = b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\n"
HEAD = b"GET {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n\r\n"
POST = b"POST {path}/x HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n"
NOBODY = b"GET /x HTTP/1.1\r\nHost: x\r\nOpenSandbox-Ingress-To: nobody-80\r\n%b\r\n"
LAST = b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def fill(part: bytes, size: int = SIZE) -> bytes:
    """The part as often as it fits."""
    return part * (size // len(part))


def lines(count: int, line: bytes) -> bytes:
    """Header lines, each with its end."""
    return (line + b"\r\n") * count


FROM_CLIENTS = {
    "empty lines": fill(b"\r\n"),
    "1-byte chunks": POST + fill(b"1\r\nx\r\n") + b"0\r\n\r\n",
    "extensions": POST + fill(b"1;a=b;c=d\r\nx\r\n") + b"0\r\n\r\n",
    "trailers": POST + b"0\r\n" + fill(b"a:\r\n", 16_000) + b"\r\n",
    "malformed chunks": POST + fill(b"1\r\nx\r\n") + b"z",
    "refused requests": NOBODY % b"" * (SIZE // len(NOBODY)),
    "refused requests of browsers": NOBODY % b"Accept: text/html\r\n" * (SIZE // len(NOBODY)),
    "pipelined requests": GET * 500,
    "pipelined bodies": (POST + b"1\r\nx\r\n0\r\n\r\n") * 500,
    "Accept": NOBODY % (b"Accept: " + fill(b",", LONG) + b"\r\n"),
    "Accept with weights": NOBODY % (b"Accept: " + fill(b"a;q=0,", LONG) + b"\r\n"),
    "Connection": HEAD % (b"Connection: " + fill(b"a,", LONG)),
    "Upgrade": HEAD % (b"Connection: upgrade\r\nUpgrade: " + fill(b"a,", LONG)),
    "Transfer-Encoding": HEAD % (b"Transfer-Encoding: " + fill(b"chunked,", LONG)),
    "cookies": HEAD % (b"Cookie: " + fill(b"a=b;", LONG)),
    "cookies of ours": HEAD % (b"Cookie: " + fill(b"opensandbox-last=/a;", LONG)),
    "a page's cookies": b"GET /x HTTP/1.1\r\nHost: x\r\nCookie: %b\r\n\r\n" % fill(b"opensandbox-last=;", LONG),
    "Referer": b"GET /x HTTP/1.1\r\nHost: x\r\nReferer: http://x%b\r\n\r\n" % fill(b"/sb/8080", LONG),
    "X-Forwarded-For": HEAD % (b"X-Forwarded-For: " + fill(b"127.0.0.1,", LONG)),
    "lines": HEAD % lines(180, b"a:")[:-2],
    "lines with underscores": HEAD % lines(180, b"a_" * 150 + b":")[:-2],
    "target": b"GET {path}/%b HTTP/1.1\r\n{host}\r\n\r\n" % fill(b"/", 16_000),
}
