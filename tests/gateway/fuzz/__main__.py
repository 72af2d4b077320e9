"""Runs one fuzzer: `python -m tests.gateway.fuzz TARGET [-max_total_time=180 …]`; needs the dependency group `fuzz`.

Options go to libFuzzer. Inputs that reach new code are kept in `corpus/TARGET`, which starts from the seeds here; an
input that breaks a rule is written to `crash-…` in the current directory and can be given as an argument to replay it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gateway"]):
    from tests.gateway.fuzz.targets import TARGETS

from tests.gateway.messages import BODIES, ESSENTIAL, FIELDS

HERE = Path(__file__).parent
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


def main() -> None:
    """Fuzzes the target named first."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"usage: python -m tests.gateway.fuzz {{{'|'.join(TARGETS)}}} [libFuzzer options]")
    corpus = HERE / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [option for option in sys.argv[2:] if option.startswith("-")]
    inputs = [path for path in sys.argv[2:] if not path.startswith("-")] or [str(corpus)]
    atheris.Setup([sys.argv[0], "-timeout=10", "-max_len=4096", *options, *inputs], TARGETS[name])
    atheris.Fuzz()


main()
