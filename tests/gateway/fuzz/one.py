"""One fuzzer in its process: `python -m tests.gateway.fuzz.one TARGET [libFuzzer options, folders or inputs]`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["gateway"]):
    from tests.gateway.fuzz.targets import TARGETS

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], "-timeout=10", "-max_len=4096", *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
