"""How the `glance` program talks to a person: questions, messages, arguments as fields."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Sequence
from typing import Any


class CommandRefused(Exception):
    """The command cannot go on; its text is for the user and the exit code is 1.

    WIRE: the text goes to standard output, where scripts look for the messages of old.
    """


class CommandFailed(CommandRefused):
    """The same for messages that are new: one line on standard error."""


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


def pauses() -> bool:
    """Return whether somebody reads along and can be asked between two pages.

    That is, when standard output is a terminal, or when answers stand ready in standard input.
    """
    return sys.stdout.isatty() or bool(stdin_holds_data())


def stdin_holds_data() -> int:
    """Return how many bytes of standard input are there to be read, without waiting: those of a
    file, or at least one of a pipe; none of a terminal.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return 0
    try:
        descriptor = sys.stdin.fileno()
        info = os.fstat(descriptor)
    except (OSError, ValueError):
        return 0
    if stat.S_ISREG(info.st_mode):
        return max(0, info.st_size - os.lseek(descriptor, 0, os.SEEK_CUR))
    if not (stat.S_ISFIFO(info.st_mode) or stat.S_ISSOCK(info.st_mode)):
        return 0
    if not select.select([descriptor], [], [], 0)[0]:
        return 0
    reader: Any = sys.stdin.buffer
    return len(reader.peek(1))


def printable(value: object) -> str:
    """Return the text of `value` with everything replaced that could steer a terminal."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def complain(text: str) -> None:
    """Print one line about something that went wrong on standard error."""
    print(f"glance: {printable(' '.join(text.split()))}", file=sys.stderr)


def print_error(error: BaseException) -> None:
    """Print what a server or the client said went wrong, status first."""
    from glance.common import statuses

    status = getattr(error, "status", None)
    if status in statuses.REASONS:
        print(statuses.status_line(status))
    for line in str(error).splitlines():
        print(printable(line))


def fields(args: Sequence[str]) -> dict[str, str]:
    """Return the attributes in arguments of the form field=value; raise Refused for others.

    Names are lower-cased, `-` becomes `_`, commas around an argument are dropped, the last of
    two equal names wins. A value may hold `=`.
    """
    found = {}
    for argument in args:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            # What the shell handed over was not text; sent on, it would be another name.
            raise CommandFailed(f"This argument is not UTF-8 text: {printable(argument)}")
        name, equals, value = argument.strip(",").partition("=")
        if not equals or not name:
            raise CommandRefused(
                "Arguments should be in the form of field=value. "
                f"You specified {printable(argument)}."
            )
        found[name.lower().replace("-", "_")] = value
    return found


def is_true(value: str) -> bool:
    """Return whether a word of the command line means true."""
    return value.strip().lower() in ("true", "on", "1")
