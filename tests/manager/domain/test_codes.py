"""The wire codes: each is spelled in one place."""

from __future__ import annotations

import re
from pathlib import Path

from manager.domain.codes import Codes

MANAGER = Path(__file__).resolve().parents[3] / "manager"
CODE = re.compile(r'"[A-Z]+::[A-Z_]+"')
EXAMPLES = {"api/examples.py", "api/schemas/server.py"}
"""What the OpenAPI document shows is written out."""


def test_codes_are_spelled_in_one_place() -> None:
    """In `codes.py`, of the domain or of one runtime."""
    spelled = {
        str(path.relative_to(MANAGER))
        for path in MANAGER.rglob("*.py")
        if path.name != "codes.py" and CODE.search(path.read_text())
    }
    assert spelled == EXAMPLES


def test_no_code_is_spelled_twice() -> None:
    """The same code under two names could become two codes."""
    found = [code for path in MANAGER.rglob("codes.py") for code in CODE.findall(path.read_text())]
    assert sorted(found) == sorted(set(found))


def test_the_name_of_the_runtime_heads_its_codes() -> None:
    """In capitals, as released clients match them."""
    assert Codes("docker").not_found == "DOCKER::SANDBOX_NOT_FOUND"
