"""The prompts and messages of the `glance` program, and its field=value arguments."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Sequence
from typing import Any, TextIO


class CommandRefused(Exception):
    """The command cannot continue; its text is for the user, and the exit code is 1.

    WIRE: the text goes to standard output, where scripts look for Diablo's messages.
    """


class CommandFailed(CommandRefused):
    """The same for newer messages: one line on standard error."""


class Interrupted(KeyboardInterrupt):
    """The user ended a command; its text says what remains, and how to go on or clean up."""


class Terminated(KeyboardInterrupt):
    """The program was asked to end, by SIGTERM."""


def ask(question: str, *, default: bool) -> bool:
    """Print `question`, return the answer: `default` for an empty line, False at end of input."""
    sys.stdout.write(printable(question))
    sys.stdout.flush()
    try:
        line = sys.stdin.readline() if sys.stdin is not None else ""
    except KeyboardInterrupt:
        print()
        raise
    if not line:
        print()
        return False
    answer = line.strip().lower()
    return default if not answer else answer in ("y", "yes")


def pauses() -> bool:
    """Return whether the user can be asked between two pages.

    This is so if standard output is a terminal, or if standard input has answers to read.
    """
    return sys.stdout.isatty() or bool(stdin_holds_data())


def stdin_holds_data() -> int:
    """Return how many bytes can be read from standard input without waiting.

    That is the rest of a file, at least one byte of a pipe that has data, 0 for a terminal.
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
    """Return the text of `value` without characters that could control a terminal."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def say(*lines: object, end: str = "\n", to: TextIO | None = None) -> None:
    """Print lines, by default on standard output, without what could control a terminal.

    SECURITY: whatever holds a name, of an image or from the command line, is printed with this.
    """
    if to is not None and to is sys.stderr and sys.stdout is not None:
        # Where both streams are one file, the lines are to be in the order of the program.
        sys.stdout.flush()
    for line in lines:
        print(printable(line), end=end, file=to)


def json_text(value: object) -> str:
    """Return a value as JSON for programs and people.

    Characters that could control a terminal are escaped (RFC 8259, section 7), which changes
    nothing for programs.
    """
    import json  # PERF: for this format only

    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def complain(text: str) -> None:
    """Print one line about an error on standard error."""
    say(f"glance: {' '.join(text.split())}", to=sys.stderr)


def print_error(error: BaseException) -> None:
    """Print an error of the server or the client, with its status first."""
    from glance.common import statuses

    status = getattr(error, "status", None)
    if status in statuses.REASONS:
        print(statuses.status_line(status))
    say(*str(error).splitlines())


def fields(args: Sequence[str]) -> dict[str, str]:
    """Return the attributes in arguments of the form field=value; raise CommandRefused for others.

    Names are lower-cased, `-` becomes `_`, commas around an argument are removed, the last of two
    equal names wins. A value may contain `=`.
    """
    found = {}
    for argument in args:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            # The argument was not UTF-8; it would be sent as a different name.
            raise CommandFailed(f"This argument is not UTF-8 text: {printable(argument)}")
        name, equals, value = argument.strip(",").partition("=")
        if not equals or not name:
            raise CommandRefused(
                "Arguments should be in the form of field=value. "
                f"You specified {printable(argument)}."
            )
        found[field_name(argument)] = value
    return found


def field_name(argument: str) -> str:
    """Return the name of a field=value argument as the server knows it."""
    return argument.strip(",").partition("=")[0].lower().replace("-", "_")


def decoded(word: str) -> str:
    """Return a word of the command line as text in UTF-8, whatever the locale is.

    A word that is not UTF-8 stays as it is. Not for names of files, which have no encoding.
    """
    if word.isascii():
        return word
    try:
        return os.fsencode(word).decode("utf-8")
    except UnicodeError:
        return word


def is_true(value: str) -> bool:
    """Return whether a word of the command line means true."""
    return value.strip().lower() in ("true", "on", "1")
