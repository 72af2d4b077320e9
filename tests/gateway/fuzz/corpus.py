"""The inputs that the fuzzers start from: seeds written here, and those that once reached new code, a line each."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.gateway.messages import BODIES, ESSENTIAL, FIELDS

FOUND = Path(__file__).parent / "found"
MOST_BYTES = 40_000
"""Most that is kept for one target; the shortest inputs stay, which are the ones that say most."""
WHOLE = b"\x00\x00\x00\x00"
BLOCK = b"\r\n".join([*ESSENTIAL, b""])

SEEDS: dict[str, list[bytes]] = {
    "client": [
        *(WHOLE + b"GET / HTTP/1.1\r\n" + BLOCK + field + b"\r\n\r\n" for field in FIELDS),
        *(WHOLE + b"POST / HTTP/1.1\r\n" + BLOCK + b"Transfer-Encoding: chunked\r\n\r\n" + body for body in BODIES),
        WHOLE + b"POST / HTTP/1.1\r\n" + BLOCK + b"Content-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n" + BLOCK + b"\r\n",
    ],
    "sandbox": [
        WHOLE + b"GHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        WHOLE + b"HHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        WHOLE + b"GHTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
        WHOLE + b"GHTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello",
        *(WHOLE + b"GHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body for body in BODIES),
    ],
    "chunked": [WHOLE + body for body in BODIES],
    "frames": [WHOLE + b"\x82\x05hello\x81\x7e\x00\x7ex", WHOLE + b"\x88\x82mask12\x82\x7f" + b"\x00" * 8],
    "router": [
        b"abc/80/x\nhost",
        b"x\nabc-80.sandbox.test:8080",
        b"x\nhost\nabc-80-1abc-12345678k",
        b"v1/sandboxes/abc/proxy/80/x?y\nhost",
    ],
}


def unpack(target: str, folder: Path) -> None:
    """Writes what there is for the target, a file each."""
    found = FOUND / f"{target}.txt"
    kept = [base64.b64decode(line) for line in found.read_text().split()] if found.exists() else []
    for number, data in enumerate([*SEEDS[target], *kept]):
        (folder / str(number)).write_bytes(data)


def pack(target: str, folder: Path) -> int:
    """Keeps the inputs in this folder for the target; returns how many."""
    lines: list[str] = []
    for data in sorted((file.read_bytes() for file in folder.iterdir()), key=len):
        line = base64.b64encode(data).decode()
        if sum(map(len, lines)) + len(line) > MOST_BYTES:
            break
        lines.append(line)
    FOUND.mkdir(exist_ok=True)
    (FOUND / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines))
    return len(lines)
