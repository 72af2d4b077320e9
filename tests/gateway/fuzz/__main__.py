"""Runs fuzzers: `python -m tests.gateway.fuzz [TARGET …] [--seconds 180]`.
It needs atheris, which no other part does: `.venv/bin/python -m pip install "atheris>=3"`.

Each runs for so long, from the inputs in `corpus`; then those that are worth it are kept in `found/`. An input that
breaks a rule is written to the folder given by `--findings`, and replayed with `python -m tests.gateway.fuzz.one`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.gateway.fuzz.corpus import SEEDS, pack, unpack


def fuzz(target: str, seconds: int, findings: Path) -> bool:
    """Runs one fuzzer; whether every rule held."""
    one = [sys.executable, "-m", "tests.gateway.fuzz.one", target]
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name)
        unpack(target, corpus)
        options = [f"-max_total_time={seconds}", f"-artifact_prefix={findings}/{target}-", "-print_final_stats=1"]
        held = subprocess.run([*one, *options, name], check=False).returncode == 0
        print(f"{target}: {'held' if held else 'BROKEN'}, {pack(target, corpus)} inputs kept")  # noqa: T201
    return held


def main() -> None:
    """Fuzzes the targets named, or all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", choices=[*SEEDS, []], help="default: all")
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--findings", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    held = [fuzz(target, options.seconds, options.findings) for target in options.targets or SEEDS]
    sys.exit(0 if all(held) else 1)


main()
