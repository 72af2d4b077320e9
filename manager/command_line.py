"""A parser of command lines that names the word that was probably meant."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from typing import NoReturn

_WORD = re.compile(r"[A-Za-z-]{2,}")


class Parser(argparse.ArgumentParser):
    """As its base, with the nearest command, flag or choice behind what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Prints usage and message, and ends with exit code 2."""
        wrong, _, _ = message.partition("(choose from")
        near = nearest(_WORD.findall(wrong), self._known())
        super().error(f"{message}; did you mean {near}?" if near else message)

    def _known(self) -> list[str]:
        """Every word that this parser and those of its commands take."""
        words: list[str] = []
        for action in self._actions:
            words += action.option_strings
            words += [] if action.choices is None else [str(choice) for choice in action.choices]
            if isinstance(action, argparse._SubParsersAction):
                words += [word for parser in action.choices.values() for word in parser._known()]
        return words


def nearest(words: Iterable[str], known: Iterable[str]) -> str | None:
    """The known word that is nearest to one of these but is none of them, or None when nothing is near."""
    candidates = list(dict.fromkeys(known))
    for word in words:
        if word not in candidates and (found := difflib.get_close_matches(word, candidates, n=1, cutoff=0.7)):
            return found[0]
    return None
