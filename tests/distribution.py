"""How the suite is shared out among the workers of pytest-xdist: which tests stay together, and who begins.

A file is one piece of work, so that what its fixtures start is started once. Files that wait for an Engine come first,
and those that only compute fill the gaps at the end. What a test makes on the Engine carries an instance label of its
own, and whoever needs an Engine as a whole starts one: no test has to run alone.
"""

from __future__ import annotations

import re
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

FOLDERS: Final = ("docker", "clients", "refusals", "browser", "manager", "strangers", "conformance", "gateway")
"""Where tests wait most, in falling order."""
MODE: Final = re.compile(r"^tests/clients/.*\[(?:.*-)?(direct|server-proxy|header|wildcard|uri)(?:-.*)?\]$")


class Sharing(LoadScopeScheduling):  # type: ignore[misc]  # xdist is not typed
    """Gives workers whole pieces in the order of collection.

    xdist's own groups do nothing with pytest 9.2: they are written into an attribute that no test has any more.
    """

    def _split_scope(self, nodeid: str) -> str:
        return piece(nodeid)


def piece(nodeid: str) -> str:
    """Tests of one piece are run by one worker: a file's, or what the clients do to the server of one mode."""
    mode = MODE.match(nodeid)
    return f"clients in {mode[1]} mode" if mode else nodeid.partition("::")[0]


def turn(item: pytest.Item) -> int:
    """The place of a test's folder among all."""
    folder = item.nodeid.removeprefix("tests/").partition("/")[0]
    return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)
