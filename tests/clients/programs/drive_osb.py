"""The released command line, called again and again without the cost of starting it: `drive_osb.py GLOBAL_OPTIONS…`.

Each line of standard input is one call, a JSON list of arguments; each is answered by one line, a JSON object with the
name of the command, the exit code and both outputs. An empty list is answered with the names of all commands.
"""

import contextlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click
from opensandbox_cli.main import cli


def names(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command of the tree, `command session run` and the like."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from names(command, (*above, name))
        else:
            yield " ".join((*above, name))


def named(arguments: Sequence[str]) -> str:
    """The command that these arguments begin with."""
    return next((name for name in names(cli) if [*arguments[: len(name.split())]] == name.split()), "")


def call(options: Sequence[str], arguments: Sequence[str]) -> dict[str, Any]:
    """One call, as the program's own entry point makes it."""
    out, error = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            cli.main([*options, *arguments], prog_name="osb")
        except SystemExit as ended:
            code = ended.code
    return {"command": named(arguments), "code": code or 0, "stdout": out.getvalue(), "stderr": error.getvalue()}


def main(*options: str) -> None:
    """Serves calls until standard input ends."""
    for line in sys.stdin:
        arguments = json.loads(line)
        print(json.dumps(call(options, arguments) if arguments else sorted(names(cli))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
