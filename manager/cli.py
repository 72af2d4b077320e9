"""The command `opensandbox-server`: serve, init-config, doctor, config, store.

Exit codes: 0 done, 1 refused or failed with one line per reason on standard error, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from manager import logs, process
from manager.command_line import Parser
from manager.commands import config as config_command
from manager.commands import store as store_command
from manager.doctor.command import examine
from manager.settings.environment import VARIABLES
from manager.settings.load import DEFAULT_PATH, ConfigError, Loaded, load_settings
from manager.settings.model import Settings
from manager.settings.startup_warnings import OPEN_API
from manager.settings.template import write_config
from manager.settings.unsupported import OFFERED

DISTRIBUTION: Final = "opensandbox-gateway"
PROGRAM: Final = "opensandbox-server"
DOCTOR_IMAGE: Final = "python:3.11-slim"
INTERRUPTED: Final = 130
_BAR: Final = "*" * 100

Run = Callable[[Settings, Path], int]

_EXAMPLES: Final = f"""\
examples:
  {PROGRAM} init-config {DEFAULT_PATH} --example docker
                                    write a configuration to start from
  {PROGRAM}                start with it
  {PROGRAM} --config /etc/opensandbox/config.toml
                                    start with another one
  {PROGRAM} doctor         check what the server needs around it
  curl http://localhost:8080/health is it up?

environment:
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        return run_command(arguments, process.run)
    except KeyboardInterrupt:
        # Ctrl-C outside of serving, which handles it itself: no trace, the shell's own code for it.
        return INTERRUPTED


def run_command(arguments: Sequence[str] | None, run: Run) -> int:
    """Runs the command line with `run` as what serves until it is told to stop."""
    options = _parser().parse_args(arguments)
    if options.command == "init-config":
        return _init_config(Path(options.path).expanduser(), options.example, force=options.force)
    if options.command == "doctor":
        deep_image = options.image if options.deep else None
        return examine(options.config, deep_image=deep_image, as_json=options.json, strict=options.strict)
    if options.command == "config" and options.action == "schema":
        return config_command.schema()
    try:
        loaded = load_settings(options.config)
    except ConfigError as error:
        return _refuse(error.path, error.lines)
    if options.command == "config":
        return (config_command.show if options.action == "show" else config_command.check)(loaded)
    if options.command == "store":
        return _store(loaded.settings, options)
    return _serve(loaded, run)


def _store(settings: Settings, options: argparse.Namespace) -> int:
    if options.action == "check":
        return store_command.check_store(settings)
    file = Path(options.file).expanduser()
    work = store_command.back_up if options.action == "backup" else store_command.put_back
    return work(settings, file)


def _serve(loaded: Loaded, run: Run) -> int:
    refused = config_command.obstacles(loaded.settings)
    if refused:
        return _refuse(loaded.path, [str(problem) for problem in refused])
    try:
        logs.configure(loaded.settings)
    except OSError as error:
        return _refuse(loaded.path, [f"log.file_enabled: {error.filename} cannot be opened: {error.strerror}"])
    logging.getLogger(__name__).info("%s %s, configuration %s", PROGRAM, version(DISTRIBUTION), loaded.path)
    _warn(loaded)
    return run(loaded.settings, loaded.path)


def _warn(loaded: Loaded) -> None:
    if not loaded.settings.server.has_keys:
        # Not by way of the log, whose level may hide it.
        _say(f"{_BAR}\nWARNING: {OPEN_API}\n{_BAR}")
    log = logging.getLogger(__name__)
    for warning in loaded.warnings:
        log.warning("%s: %s", loaded.path, warning)


def _init_config(path: Path, example: str | None, *, force: bool) -> int:
    try:
        write_config(path, example, force=force)
    except FileExistsError:
        return _refuse(path, ["is there already; use --force to overwrite it"])
    except OSError as error:
        return _refuse(path, [f"cannot be written: {error.strerror}"])
    what = "full configuration skeleton" if example is None else f"example configuration ({example})"
    start = PROGRAM if path == Path(DEFAULT_PATH).expanduser() else f"{PROGRAM} --config {path}"
    sys.stdout.write(f"Wrote {what} to {path}\nReview it, then start with: {start}\n")
    return 0


def _refuse(path: Path, lines: Sequence[str]) -> int:
    for line in lines:
        _say(f"{PROGRAM}: {path}: {line}")
    return 1


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    width = max(len(variable.name) for variable in VARIABLES)
    environment = "\n".join(f"  {variable.name:{width}}  {variable.doc}" for variable in VARIABLES)
    parser = Parser(
        prog=PROGRAM,
        description="Gateway to sandboxes and manager of their lives, in one process. Without a command it serves.",
        epilog=_EXAMPLES + environment,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version(DISTRIBUTION)}")
    _add_config(parser, None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_config(commands.add_parser("serve", help="run the server (the default)"), argparse.SUPPRESS)
    _add_init_config(commands.add_parser("init-config", help="write a configuration file to start from"))
    check = commands.add_parser("doctor", help="check configuration and surroundings, with a remedy for each finding")
    _add_config(check, argparse.SUPPRESS)
    check.add_argument("--deep", action="store_true", help="also drive the running server: create, reach, delete")
    check.add_argument("--json", action="store_true", help="print one JSON document instead")
    check.add_argument("--strict", action="store_true", help="let warnings fail too, in the exit code")
    check.add_argument(
        "--image",
        default=DOCTOR_IMAGE,
        metavar="IMAGE",
        help="image of the sandbox --deep makes (default: %(default)s)",
    )
    _add_config_command(commands.add_parser("config", help="show, check or describe the configuration"))
    _add_store_command(commands.add_parser("store", help="check, copy or put back what the server remembers"))
    return parser


def _add_config_command(parser: argparse.ArgumentParser) -> None:
    _add_config(parser, argparse.SUPPRESS)
    helps = (
        ("show", "print what is in force: file, environment and defaults, without secrets"),
        ("check", "tell whether a server starts with it; exit code 1 if not"),
        ("schema", "print its JSON Schema"),
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in helps:
        _add_config(actions.add_parser(name, help=text), argparse.SUPPRESS)


def _add_store_command(parser: argparse.ArgumentParser) -> None:
    _add_config(parser, argparse.SUPPRESS)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_config(actions.add_parser("check", help="tell whether the file is sound"), argparse.SUPPRESS)
    helps = (
        ("backup", "write a copy, also while the server runs", "the copy, which must not be there yet"),
        ("restore", "put a copy in its place, while no server runs", "the copy"),
    )
    for name, text, file in helps:
        action = actions.add_parser(name, help=text)
        _add_config(action, argparse.SUPPRESS)
        action.add_argument("file", help=file)


def _add_config(parser: argparse.ArgumentParser, default: str | None) -> None:
    # In a sub-command the default is suppressed, or it would overwrite what stood before the command.
    parser.add_argument(
        "--config", metavar="PATH", default=default, help=f"configuration file (default: {DEFAULT_PATH})"
    )


def _add_init_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", default=DEFAULT_PATH, help="where to write it (default: %(default)s)")
    parser.add_argument("--example", choices=list(OFFERED), help="a small ready example instead of the full skeleton")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
