"""Environment variables: which are read, and how they change the configuration."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from manager.settings.model import Settings
from manager.settings.problem import Problem
from manager.settings.schema import Kind, Path, Section, sections

CONFIG_PATH: Final = "SANDBOX_CONFIG_PATH"
SIGNING_KEYS: Final = "OPENSANDBOX_SECURE_ACCESS_KEYS"
ACTIVE_KEY: Final = "OPENSANDBOX_SECURE_ACCESS_ACTIVE_KEY"
ANY_KEY: Final = "OPENSANDBOX__"
ANY_KEY_SEPARATOR: Final = "__"
_SIGNING: Final[Path] = ("ingress", "secure_access")


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable, what it does, and the key it overrides, if it is a plain value of one."""

    name: str
    doc: str
    path: Path | None = None
    blank_counts: bool = False


VARIABLES: Final = (
    Variable(CONFIG_PATH, "Configuration file, unless --config names one; default ~/.sandbox.toml"),
    Variable(
        "OPENSANDBOX_SERVER_API_KEY",
        "Overrides server.api_key; set but empty, it switches authentication off",
        ("server", "api_key"),
        blank_counts=True,
    ),
    Variable(
        "OPENSANDBOX_INSECURE_SERVER",
        "YES: a server that others reach starts without a key of its own, and they may do everything",
    ),
    Variable("DOCKER_HOST", "Docker Engine, such as unix:///var/run/docker.sock or ssh://user@host"),
    Variable("DOCKER_TLS_VERIFY", "Non-empty: the Engine is spoken to by TLS and its certificate checked"),
    Variable("DOCKER_CERT_PATH", "Directory of ca.pem, cert.pem and key.pem for it"),
    Variable(
        "PENDING_FAILURE_TTL",
        "Overrides runtime.pending_failure_ttl_seconds; default 3600",
        ("runtime", "pending_failure_ttl_seconds"),
    ),
    Variable(SIGNING_KEYS, "Overrides ingress.secure_access.keys: id=base64,id=base64; needs the next one"),
    Variable(ACTIVE_KEY, "Overrides ingress.secure_access.active_key"),
    Variable(
        "OPENSANDBOX_STORE_POSTGRESQL_DSN",
        "Overrides store.postgresql.dsn",
        ("store", "postgresql", "dsn"),
    ),
)


@dataclass(frozen=True, slots=True)
class Overlay:
    """The document with the environment's values in it, which variable each came from, and what was wrong."""

    document: dict[str, Any]
    origins: dict[Path, str]
    problems: list[Problem]


def overlay(document: Mapping[str, Any], environ: Mapping[str, str]) -> Overlay:
    """Applies the environment to a copy of a configuration document; a variable with a name of its own wins."""
    result = Overlay(dict(document), {}, [])
    _any_key(result, environ)
    for variable in VARIABLES:
        value = environ.get(variable.name)
        if variable.path is not None and value is not None and (value.strip() or variable.blank_counts):
            _set(result, variable.path, value.strip(), variable.name)
    _signing_keys(result, environ.get(SIGNING_KEYS, "").strip(), environ.get(ACTIVE_KEY, "").strip())
    return result


def variable_of(path: Path) -> str:
    """The variable that overrides any key of a table that is written once."""
    # Two underscores: with one, `OPENSANDBOX_SERVER_PORT` would be what Docker and Kubernetes set in containers beside
    # a service that is called opensandbox-server.
    return ANY_KEY + ANY_KEY_SEPARATOR.join(path).upper()


def _any_key(result: Overlay, environ: Mapping[str, str]) -> None:
    given = {name: value for name, value in environ.items() if name.startswith(ANY_KEY)}
    if not given:
        return
    known = {
        variable_of(key.path): key
        for section in sections(Settings)
        if not any(above.kind is not Kind.TABLE for above in _upwards(section.path))
        for key in section.own_keys()
    }
    for name, value in given.items():
        if name in known:
            _set(result, known[name].path, _parsed(value, known[name].type), name)
        else:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            meant = f"; did you mean {near[0]}?" if near else ""
            result.problems.append(Problem(name, f"overrides no setting{meant or '; unset it'}"))


def _upwards(path: Path) -> Iterator[Section]:
    return (section for section in sections(Settings) if path[: len(section.path)] == section.path)


def _parsed(text: str, kind: str) -> Any:
    """The text as a value of this type, as TOML writes it; as it is where it is none, for the validation to refuse."""
    if kind == "string":
        return text
    if kind == "array" and not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _signing_keys(result: Overlay, keys: str, active: str) -> None:
    if not keys and not active:
        return
    if not keys or not active:
        lacking, given = (SIGNING_KEYS, ACTIVE_KEY) if active else (ACTIVE_KEY, SIGNING_KEYS)
        result.problems.append(Problem(given, f"needs {lacking} beside it; set both or neither"))
        return
    pairs = [item.strip().partition("=") for item in keys.split(",")]
    if not all(name.strip() and secret for name, _, secret in pairs):
        result.problems.append(Problem(SIGNING_KEYS, "must be id=base64 pairs with commas between them", "(hidden)"))
        return
    tables = [{"key_id": name.strip(), "key": secret.strip()} for name, _, secret in pairs]
    _set(result, (*_SIGNING, "keys"), tables, SIGNING_KEYS)
    _set(result, (*_SIGNING, "active_key"), active, ACTIVE_KEY)


def _set(result: Overlay, path: Path, value: Any, name: str) -> None:
    table = result.document
    for part in path[:-1]:
        inner = table.get(part, {})
        if not isinstance(inner, Mapping):
            return  # not a table: left to validation
        table[part] = dict(inner)
        table = table[part]
    table[path[-1]] = value
    result.origins[path] = name
