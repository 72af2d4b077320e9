"""Log lines: their shape, their level, and that nothing a caller sends can forge one."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from manager import logs
from manager.settings.model import Settings
from tests.manager.logging_state import logging_as_before

LINE = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING \[r-1\] some\.place: text\n$"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leaves logging as the test found it."""
    with logging_as_before():
        yield


def _configure(**tables: object) -> None:
    logs.configure(Settings.model_validate({"runtime": {"type": "docker", "execd_image": "execd"}, **tables}))


def test_a_line_holds_time_level_request_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines are plain where no terminal watches."""
    _configure()
    token = logs.REQUEST_ID.set("r-1")
    logging.getLogger("some.place").warning("text")
    logs.REQUEST_ID.reset(token)

    assert re.match(LINE, capsys.readouterr().out)


def test_a_message_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Line ends and terminal controls of a message are written out."""
    _configure()
    logging.getLogger("x").warning("name %s", "a\nERROR forged \x1b[31m")

    assert capsys.readouterr().out.endswith("x: name a\\nERROR forged \\x1b[31m\n")


FORGED = "a\r\n2026-01-01T00:00:00.000Z ERROR [-] x: forged \x1b[2J\x1b]0;t\x07 "
HOSTILE = FORGED + "\x00\x7f\x9b31m\u2028\u2029\u202e\u2066\u200b\ufeff\udcff"


@pytest.mark.parametrize("place", ["argument", "message", "request id", "error", "cause"])
def test_what_comes_from_outside_forges_no_line(capsys: pytest.CaptureFixture[str], place: str) -> None:
    """In whichever part of a record hostile text is, one line begins like one of ours, and all of it prints."""
    _configure()
    logger = logging.getLogger("x")
    token = logs.REQUEST_ID.set(HOSTILE if place == "request id" else "r-1")
    try:
        if place == "argument":
            logger.warning("container %s", HOSTILE)
        elif place in ("message", "request id"):
            logger.warning(HOSTILE)
        else:
            _fail_with(HOSTILE, caused=place == "cause")
    except ValueError:
        logger.exception("failed")
    finally:
        logs.REQUEST_ID.reset(token)
    out = capsys.readouterr().out
    first, *rest = out.removesuffix("\n").split("\n")
    assert re.match(r"\d{4}-", first)
    assert all(line.startswith("  ") for line in rest)
    assert all(line.isprintable() for line in (first, *rest))


def _fail_with(text: str, *, caused: bool) -> None:
    if not caused:
        raise ValueError(text)
    try:
        raise OSError(text)
    except OSError as error:
        raise ValueError("unforeseen") from error


def test_letters_of_any_script_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Only what does not print is written out."""
    _configure()
    logging.getLogger("x").warning("größe 沙箱")

    assert capsys.readouterr().out.endswith("x: größe 沙箱\n")


def test_the_level_decides(capsys: pytest.CaptureFixture[str]) -> None:
    """What is less severe than log.level does not appear."""
    _configure(log={"level": "ERROR"})
    logging.getLogger("x").warning("quiet")
    logging.getLogger("x").error("loud")

    assert [line.split(": ")[-1] for line in capsys.readouterr().out.splitlines()] == ["loud"]


@pytest.mark.parametrize(("on", "expected"), [(True, '{"status": 200}\n'), (False, "")])
def test_the_access_log_is_on_when_asked_for(capsys: pytest.CaptureFixture[str], on: bool, expected: str) -> None:
    """Its lines are written as they are, once."""
    _configure(gateway={"access_log": on})
    logging.getLogger(logs.ACCESS_LOGGER).info("%s", '{"status": 200}')

    assert capsys.readouterr().out == expected


def test_files_take_the_place_of_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Directories are made, and files rotate at their size."""
    file = tmp_path / "new" / "server.log"
    _configure(log={"file_enabled": True, "file_path": str(file), "file_max_bytes": 200, "file_backup_count": 1})
    for number in range(5):
        logging.getLogger("x").warning("line %d", number)
    logging.getLogger().handlers[0].close()

    assert file.read_text().endswith("line 4\n")
    assert file.with_suffix(".log.1").is_file()
    assert capsys.readouterr().out == ""


def test_a_failure_keeps_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown error is told with the place it came from."""
    _configure()
    try:
        raise ValueError("unforeseen")
    except ValueError:
        logging.getLogger("x").exception("failed")

    assert "Traceback" in capsys.readouterr().out


def test_lines_are_json_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """One object each, the audit's too, with the request id; what comes from outside stays within its string."""
    _configure(log={"format": "json"})
    token = logs.REQUEST_ID.set(HOSTILE)
    try:
        logging.getLogger("manager.audit").info("%s", HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logging.getLogger("x").exception("failed")
    finally:
        logs.REQUEST_ID.reset(token)

    out = capsys.readouterr().out
    assert out.isascii()
    audit, failure = (json.loads(line) for line in out.splitlines())
    assert (audit["level"], audit["logger"], audit["message"], audit["requestId"]) == (
        "INFO",
        "manager.audit",
        HOSTILE,
        HOSTILE,
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", audit["time"])
    assert "ValueError" in failure["exception"]
