"""Refusals: what a server answers when it will not or cannot, each with a way to make a real server do it.

A case is a function that brings a server to refuse one request and returns the answer; the decorator says which answer
that has to be. The files `on_…` hold the cases; `test_catalogue.py` fails when a code of the product has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.refusals.stage import Answer, Stage

Case = Callable[[Stage], Answer]
ID = r"[0-9a-f-]{36}"


@dataclass(frozen=True)
class Refusal:
    """The answer that a case has to get; `message` is a pattern for all of it."""

    code: str
    status: int
    message: str
    case: Case
    name: str


CASES: list[Refusal] = []


def refusal(code: str, status: int, message: str) -> Callable[[Case], Case]:
    """Puts the case that follows into the catalogue."""

    def keep(case: Case) -> Case:
        CASES.append(Refusal(code, status, message, case, case.__name__))
        return case

    return keep


def refused_creates(code: str, status: int, *rows: tuple[str, dict[str, object], str], house: str = "gateway") -> None:
    """Puts creates into the catalogue that differ from a plain one: name, what differs, and the message."""

    def case(changes: dict[str, object]) -> Case:
        return lambda stage: stage.house(house).create(**changes)

    CASES.extend(Refusal(code, status, message, case(changes), name) for name, changes, message in rows)


NEVER = {
    "DOCKER::CREATE_ABANDONED": "ends a create that nobody waits for any more",
    "DOCKER::EVENTS_ENDED": "makes the server list again; `/health` says so meanwhile",
    "DOCKER::INVALID_SECURITY_PROFILE": "keeps the server from starting",
    "SNAPSHOT::RUNTIME_CREATE_FAILED": "makes the snapshot `Failed`; its status has the message",
    "VOLUME::OSSFS_UNMOUNT_FAILED": "is a line in the log",
}
"""Codes of the source that no request is answered with; `test_told_elsewhere.py` shows where each is told."""
