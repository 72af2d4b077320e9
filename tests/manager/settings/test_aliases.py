"""Keys with two spellings: either may be written, the same attribute is read."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import pytest

from manager.settings.aliases import SPELLINGS, with_both_spellings
from tests.manager.settings.conftest import Load, Refused

PAIRS: list[tuple[str, str, Any, str, Any]] = [
    ("server.log_level", "log.level", "DEBUG", '"DEBUG"', '"ERROR"'),
    ("server.timeout_graceful_shutdown", "server.shutdown_grace_seconds", 7.0, "7", "8"),
    ("server.timeout_keep_alive", "gateway.limits.keep_alive_timeout", 7.0, "7", "8"),
    ("server.limit_concurrency", "gateway.limits.max_connections", 7, "7", "8"),
    ("secure_runtime.docker_runtime", "secure_runtime.oci_runtime_name", "runsc", '"runsc"', '"kata"'),
]


def _line(path: str, value: str) -> str:
    table, _, name = path.rpartition(".")
    return f"{table}.{name} = {value}\n"


def _document(*lines: str) -> str:
    gvisor = 'secure_runtime.type = "gvisor"\n' if any("secure_runtime" in line for line in lines) else ""
    return "".join(lines) + gvisor + 'runtime = {type = "docker", execd_image = "execd"}\n'


def test_every_pair_is_tested() -> None:
    """A new spelling needs a line in this table."""
    assert {tuple(pair[0].split(".")): tuple(pair[1].split(".")) for pair in PAIRS} == SPELLINGS


@pytest.mark.parametrize(("other", "read", "value", "text", "_"), PAIRS)
def test_the_other_spelling_sets_the_key(load: Load, other: str, read: str, value: Any, text: str, _: str) -> None:
    """Written in one way, read in one way."""
    settings = load(runtime=_document(_line(other, text))).settings

    assert attrgetter(read)(settings) == value


@pytest.mark.parametrize(("other", "read", "value", "text", "_"), PAIRS)
def test_both_may_say_the_same(load: Load, other: str, read: str, value: Any, text: str, _: str) -> None:
    """Two spellings that agree are no conflict."""
    settings = load(runtime=_document(_line(other, text), _line(read, text))).settings

    assert attrgetter(read)(settings) == value


@pytest.mark.parametrize(("other", "read", "_", "text", "differs"), PAIRS)
def test_they_may_not_differ(refused: Refused, other: str, read: str, _: Any, text: str, differs: str) -> None:
    """Which of two values is meant cannot be guessed."""
    lines = refused(runtime=_document(_line(other, text), _line(read, differs)))

    assert lines == (f"{other}: says something else than {read}, which is the same setting; remove one of them",)


def test_no_limit_of_concurrency_leaves_ours(load: Load) -> None:
    """0 meant "no limit"; our own limit then stands."""
    text = "[server]\nlimit_concurrency = 0\n[gateway.limits]\nmax_connections = 5\n"

    assert load(text).settings.gateway.limits.max_connections == 5


def test_the_document_is_left_as_it_is() -> None:
    """Folding spellings makes a new document."""
    document = {"server": {"log_level": "DEBUG"}}

    assert with_both_spellings(document) == {"server": {"log_level": "DEBUG"}, "log": {"level": "DEBUG"}}
    assert document == {"server": {"log_level": "DEBUG"}}
