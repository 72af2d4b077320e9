"""Log handlers and formats; every line carries the id of the current request.

Lines are plain text, with colour on a terminal, or JSON (`log.format`). The access log is a logger of its own, always
with JSON lines.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
import time
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Final

from manager.settings.model import Settings
from manager.settings.server import LogSettings
from manager.settings.text import printable
from manager.terminal import TerminalHandler, console

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="-")
"""Set by the REST API for the time of one request."""

ACCESS_LOGGER: Final = "gateway.access"
_LINE: Final = "%(asctime)s.%(msecs)03dZ %(levelname)s [%(request_id)s] %(name)s: %(message)s"
_TIME: Final = "%Y-%m-%dT%H:%M:%S"
_COLOURS: Final = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31", logging.DEBUG: "2"}
_CHATTY: Final = ("urllib3", "docker", "asyncio", "aiohttp.access")
"""Libraries whose debug output drowns ours."""

_Failure = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_FILE: Final = "~/logs/opensandbox/server.log"
_ACCESS_FILE: Final = "~/logs/opensandbox/access.log"


class LineFormatter(logging.Formatter):
    """One line per record in UTC, with colour where a terminal shows it; control characters cannot forge a line."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__(_LINE, _TIME)
        self._colour = colour

    def converter(self, seconds: float | None) -> time.struct_time:
        """The time of a record, in UTC."""
        return time.gmtime(seconds)

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.request_id = printable(REQUEST_ID.get())
        record.message = printable(record.message)
        line = super().formatMessage(record)
        code = _COLOURS.get(record.levelno) if self._colour else None
        return f"\x1b[{code}m{line}\x1b[0m" if code else line

    def formatException(self, ei: _Failure) -> str:
        """The trace with what the error says in it, which may have come from outside: no line of it looks like ours."""
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, request id, logger and message, and the trace of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime(_TIME, time.gmtime(record.created))
        told = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "requestId": REQUEST_ID.get(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)  # in ASCII: nothing in it ends a line or drives a terminal


def configure(settings: Settings) -> None:
    """Sets up all logging of the process; raises OSError when a log file cannot be opened."""
    root = logging.getLogger()
    _replace_handlers(root, _handler(settings.log, settings.log.file_path or _FILE))
    if settings.log.format == "json":
        root.handlers[0].setFormatter(JsonFormatter())
    else:
        root.handlers[0].setFormatter(LineFormatter(colour=isinstance(root.handlers[0], TerminalHandler)))
    set_level(settings.log.level)
    _configure_access(settings)


def set_level(level: str) -> None:
    """Changes the least severe messages that are logged, for a running server."""
    root = logging.getLogger()
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


def _configure_access(settings: Settings) -> None:
    access = logging.getLogger(ACCESS_LOGGER)
    access.propagate = False
    access.setLevel(logging.INFO)
    if not settings.gateway.access_log:
        _replace_handlers(access, logging.NullHandler())
        return
    handler = _handler(settings.log, settings.log.access_file_path or _ACCESS_FILE)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _replace_handlers(access, handler)


def _handler(log: LogSettings, path: str) -> logging.Handler:
    if not log.file_enabled:
        return console() if log.format == "auto" else logging.StreamHandler(sys.stdout)
    file = Path(path).expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    return logging.handlers.RotatingFileHandler(
        file, maxBytes=log.file_max_bytes, backupCount=log.file_backup_count, encoding="utf-8"
    )


def _replace_handlers(logger: logging.Logger, handler: logging.Handler) -> None:
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
