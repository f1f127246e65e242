"""How the `glance` program talks to a person: questions, messages, arguments as fields."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from glance.common import httperror


class Refused(Exception):
    """The command cannot go on; its text is for the user and the exit code is 1."""


def ask(question: str, *, default: bool) -> bool:
    """Print `question` and return the answer; nothing typed is the default, end of input is no."""
    sys.stdout.write(question)
    sys.stdout.flush()
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        print()
        return False
    answer = line.strip().lower()
    return default if not answer else answer in ("y", "yes")


def printable(value: object) -> str:
    """Return the text of `value` with everything replaced that could steer a terminal."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def print_error(error: BaseException) -> None:
    """Print what a server or the client said went wrong, status first."""
    status = getattr(error, "status", None)
    if status in httperror.REASONS:
        print(f"{status} {httperror.REASONS[status]}")
    for line in str(error).splitlines():
        print(printable(line))


def fields(args: Sequence[str]) -> dict[str, str]:
    """Return the attributes in arguments of the form field=value; raise Refused for others.

    Names are lower-cased, `-` becomes `_`, commas around an argument are dropped, the last of
    two equal names wins. A value may hold `=`.
    """
    found = {}
    for argument in args:
        name, equals, value = argument.strip(",").partition("=")
        if not equals or not name:
            raise Refused(
                "Arguments should be in the form of field=value. "
                f"You specified {printable(argument)}."
            )
        found[name.lower().replace("-", "_")] = value
    return found


def is_true(value: str) -> bool:
    """Return whether a word of the command line means true."""
    return value.strip().lower() in ("true", "on", "1")
