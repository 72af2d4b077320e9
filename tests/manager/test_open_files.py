"""The limit of open files: raised as far as it may be, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from manager.open_files import connections, needed

RAISE = """
import resource
from manager.open_files import raise_limit
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
hard = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
assert raise_limit() == hard
assert raise_limit() == hard
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
"""


def test_the_soft_limit_becomes_the_hard_one() -> None:
    """Once and again."""
    done = subprocess.run([sys.executable, "-c", RAISE], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_limit_is_good_for() -> None:
    """The two ways of counting agree, and too few files are good for no connection."""
    assert [connections(needed(most)) for most in (1, 1000)] == [1, 1000]
    assert connections(64) == 0
