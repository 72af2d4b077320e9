"""How tests are shared out among workers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distribution import piece

ROOT = Path(__file__).parent.parent
RAN = re.compile(r"^\[(gw\d)\] .*PASSED (tests/\S+)", re.MULTILINE)


@pytest.mark.parametrize(
    ("test", "together"),
    [
        ("tests/docker/test_x.py::test_a[uri-b]", "tests/docker/test_x.py"),
        ("tests/clients/test_x.py::test_a", "tests/clients/test_x.py"),
        ("tests/clients/test_x.py::test_a[async-uri]", "clients in uri mode"),
        ("tests/clients/test_x.py::test_a[server-proxy-sync-1]", "clients in server-proxy mode"),
    ],
)
def test_what_stays_together(test: str, together: str) -> None:
    """A file, and among the clients' tests those of one server."""
    assert piece(test) == together


@pytest.mark.timeout(120)
def test_a_file_is_run_by_one_worker() -> None:
    """Each test once."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadscope"]
    files = ["tests/test_tables.py", "tests/test_engine.py"]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=True)
    ran = RAN.findall(done.stdout)
    pairs = {(worker, test.partition("::")[0]) for worker, test in ran}
    assert sorted(file for _, file in pairs) == sorted(files)
    assert len({test for _, test in ran}) == len(ran) > len(files)
