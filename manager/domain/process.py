"""Limits of execve(2): names of environment variables, and the size of arguments. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

LONGEST_TEXT = 128 * 1024 - 1
"""Bytes of one argument, or of one variable with its name (`MAX_ARG_STRLEN` of Linux, without the closing zero)."""


def process_problems(env: Mapping[str, str | None], arguments: Iterable[str]) -> Iterator[str]:
    """All reasons why the program could not start, as sentences that name the field and never a value."""
    for name, value in env.items():
        if not name or "=" in name or not name.isprintable():
            yield f"env: {name[:40]!r} cannot be the name of a variable: it is empty, holds '=' or control characters"
        elif len(name.encode()) + 1 + len((value or "").encode()) > LONGEST_TEXT:
            yield f"env.{name[:40]}: is longer than {LONGEST_TEXT} bytes, which no program can be started with"
    for place, argument in enumerate(arguments):
        if len(argument.encode()) > LONGEST_TEXT:
            yield f"entrypoint.{place}: is longer than {LONGEST_TEXT} bytes, which no program can be started with"
