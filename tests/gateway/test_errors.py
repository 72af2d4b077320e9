"""Every failure has its own status, code and words, and a line in the documentation."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from pathlib import Path

import pytest

from gateway.errors import GatewayError, SandboxStarting, every_error
from gateway.proxy import resolve
from gateway.table import Removal, RouteState

EVERY = list(every_error())
DOCUMENT = (Path(__file__).parents[2] / "docs" / "errors.md").read_text().partition("\n# ")[0]
"""The first part of the page; what follows is about the management API."""
INTERNAL = re.compile(r"\d+\.\d+\.\d+\.\d+|Traceback|asyncio|Errno")
LOOPBACK_ADVICE = ("0.0.0.0", "127.0.0.1")


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_each_says_when_it_is_raised(kind: type[GatewayError]) -> None:
    """The docstring is one sentence about the cause."""
    assert kind.__doc__ is not None
    assert kind.__doc__.startswith("Raised when ")
    assert kind.__doc__.count("\n\n") == 0


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_each_has_an_answer(kind: type[GatewayError]) -> None:
    """Status, code, title and message are there, and the message says what to do next."""
    error = kind()
    assert isinstance(error.status, HTTPStatus)
    assert error.status >= 400
    assert re.fullmatch(r"(GATEWAY::)?[A-Z_]+", error.code)
    assert error.title
    assert error.message.count(". ") >= 1
    assert error.message.endswith(".")
    assert error.log_level in (logging.DEBUG, logging.INFO, logging.WARNING)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_no_internals(kind: type[GatewayError]) -> None:
    """No message holds an address of ours or a trace; advice on where to listen is no address of ours."""
    text = kind().message
    for address in LOOPBACK_ADVICE:
        text = text.replace(address, "")
    assert INTERNAL.search(text) is None


def test_codes_are_unique() -> None:
    """A program can tell every failure by its code."""
    codes = [kind.code for kind in EVERY]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_retry_after_only_where_waiting_helps(kind: type[GatewayError]) -> None:
    """Whoever is told when to come back is told so because the same request may then succeed."""
    assert kind.retryable or kind.wait is None


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_each_is_documented(kind: type[GatewayError]) -> None:
    """The page has a row with the status, the code and whether to come back."""
    row = f"| {int(kind.status)} | `{kind.code}` |"
    assert row in DOCUMENT


def test_documented_codes_exist() -> None:
    """The page lists no code that is never sent."""
    listed = set(re.findall(r"^\| \d{3} \| `([A-Z_:]+)` \|", DOCUMENT, re.MULTILINE))
    assert listed == {kind.code for kind in EVERY}


def test_raiser_knows_better() -> None:
    """A message or a waiting time of the raiser replaces the one of the class."""
    error = SandboxStarting("The image is being pulled. Try again later.", retry_after=7)
    assert (error.message, error.retry_after, str(error)) == (
        "The image is being pulled. Try again later.",
        7,
        "The image is being pulled. Try again later.",
    )


@pytest.mark.parametrize(
    ("state", "status"),
    [(RouteState.STARTING, 503), (RouteState.PAUSED, 409), (RouteState.STOPPED, 409), (RouteState.RUNNING, None)],
)
def test_states(state: RouteState, status: int | None) -> None:
    """A sandbox that runs answers itself; the others are answered for, 503 only where waiting alone helps."""
    error = resolve.for_state(state)
    assert (None if error is None else error.status) == status


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Removal.DELETED, 410),
        (Removal.EXPIRED, 410),
        (Removal.PAUSED, 409),
        (Removal.STOPPED, 409),
        (Removal.REPLACED, 503),
        (Removal.REVOKED, 503),
    ],
)
def test_removals(reason: Removal, status: int) -> None:
    """Every reason for leaving the table has its answer."""
    assert resolve.for_removal(reason).status == status


def test_no_reason_is_forgotten() -> None:
    """A reason added to the table gets an answer too."""
    assert all(resolve.for_removal(reason) for reason in Removal)
