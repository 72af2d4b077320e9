"""Finds the configuration file, applies environment variables and validates the result before anything starts."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from manager.settings.environment import CONFIG_PATH, overlay
from manager.settings.explain import explain
from manager.settings.model import Settings
from manager.settings.startup_warnings import advice
from manager.settings.unknown import UnknownKey, unknown_keys

DEFAULT_PATH: Final = "~/.sandbox.toml"
_SKELETON: Final = (
    "is the skeleton that the released opensandbox-server writes, in which every value is empty; fill in what you need "
    "and remove the rest, or write another with: opensandbox-server init-config {file} --example docker --force"
)
_UNCLOSED: Final = "a string is not closed: its last quote is missing"
_OPEN_STRINGS: Final = ("Unterminated string", "Illegal character '\\n'", 'Expected "\'"', "Expected \"'''\"")
"""What the parser says where a line, or the file, ends within quotes."""
_PLACE: Final = re.compile(r"(?P<what>.*) \(at (?P<where>line \d+, column \d+|end of document)\)", re.DOTALL)


class ConfigError(Exception):
    """Raised when a configuration cannot be used; `lines` says why, one line per thing that is wrong."""

    def __init__(self, path: Path, lines: Sequence[str]) -> None:
        super().__init__("\n".join(f"{path}: {line}" for line in lines))
        self.path = path
        self.lines = tuple(lines)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Valid settings, warnings for the operator, and the file they came from."""

    settings: Settings
    warnings: tuple[str, ...]
    path: Path


def load_settings(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Reads and checks the configuration: `path`, else SANDBOX_CONFIG_PATH, else ~/.sandbox.toml.

    Raises ConfigError for a file that is missing, unreadable or malformed, and for every value that is not allowed.
    """
    variables = os.environ if environ is None else environ
    file = find(path, variables)
    document = parse(file)
    unknown = unknown_keys(document)
    settings = _validated(file, document, variables, unknown)
    return Loaded(settings, (*(key.warning for key in unknown), *advice(settings)), file)


def find(path: str | Path | None, environ: Mapping[str, str]) -> Path:
    """The file that is to be read, whether or not it exists."""
    return Path(path or environ.get(CONFIG_PATH) or DEFAULT_PATH).expanduser()


def parse(file: Path) -> dict[str, Any]:
    """The TOML document in `file`; raises ConfigError, with line and column where the TOML is malformed."""
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        line = f"there is no such file; write one with: opensandbox-server init-config {file} --example docker"
    except OSError as error:
        line = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        line = f"is not UTF-8: byte {error.start} cannot be decoded"
    except tomllib.TOMLDecodeError as error:
        line = _malformed(str(error))
    raise ConfigError(file, [line])


def _malformed(message: str) -> str:
    found = _PLACE.fullmatch(message)
    if found is None:
        return message
    what = _UNCLOSED if found["what"] in _OPEN_STRINGS else found["what"]
    return f"{found['where']}: {what}"


def _validated(
    file: Path, document: Mapping[str, Any], environ: Mapping[str, str], unknown: Sequence[UnknownKey]
) -> Settings:
    laid = overlay(document, environ)
    try:
        settings = Settings.model_validate(laid.document)
    except ValidationError as error:
        if document and _is_blank(document):
            raise ConfigError(file, [_SKELETON.format(file=file)]) from None
        problems = [*laid.problems, *explain(error, laid.document, laid.origins)]
    else:
        problems = laid.problems
    if problems or any(key.refused for key in unknown):
        # All of them: what is missing may be what was misspelt.
        problems += [key.problem for key in unknown if problems or key.refused]
        raise ConfigError(file, [str(problem) for problem in problems]) from None
    return settings


def _is_blank(value: object) -> bool:
    """Whether nothing is set anywhere in it, as in the skeleton of the released server."""
    return all(map(_is_blank, value.values())) if isinstance(value, Mapping) else value in ("", [])
