"""Texts that the manual pages and the reference of the programs share, and their parsing.

`glance.cli.docs.manpages` and `glance.cli.docs.reference` format them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from glance.cli.option import ProgramOption
from glance.cli.program import Word

GENERATED = "Made by `tox -e docs`; change the declarations in glance/cli instead."

DESCRIPTION = """\
The glance program registers, uploads, finds, shares, downloads and deletes disk images. It is a
client of version 1 of the Images API, which glance-api serves, and can show what version 2 knows
of an image besides.

Options and arguments may be given in any order. Every command accepts every option, and ignores
those that do not apply to it.
"""

MESSAGES = """\
Messages of the Diablo release, including errors, go to standard output, because scripts look for
them there. Newer messages are single lines on standard error. With --format=json, standard output
contains only JSON, an array for lists and an object for one image, and all messages go to standard
error.
"""

PROGRESS = """\
If standard error is a terminal, add, download and glance-upload show on it the progress, the
speed and the remaining time.
"""

PROXIES = (
    (
        "http_proxy, https_proxy, all_proxy",
        "Proxy to use; it is never used for loopback addresses.",
    ),
    ("no_proxy", "Hosts and domains to connect to without a proxy, separated by commas."),
)


def environment(options: Iterable[ProgramOption]) -> list[tuple[str, str]]:
    """Return the variables that a program reads, each with a sentence; empty without any."""
    rows = []
    for option in options:
        for number, name in enumerate(option.env):
            other = f" Ignored if {option.env[0]} is set." if number else ""
            rows.append((name, f"Default of {option.names[-1]}.{other}"))
    return [*rows, *PROXIES] if rows else []


def codes(exit_codes: Iterable[tuple[int, str]]) -> list[tuple[str, str]]:
    """Return exit codes as rows of text."""
    return [(str(code), text) for code, text in exit_codes]


def choices(word: Word) -> list[tuple[str, str]]:
    """Return the allowed words of an argument, each with a sentence about it."""
    return [(name, f"{text[:1].upper()}{text[1:]}.") for name, text in word.choices.items()]


def option_help(option: ProgramOption) -> str:
    """Return the help text of an option with its default filled in."""
    text = option.help.replace("%default", str(option.default))
    text = text if text.endswith(".") else f"{text}."
    return f"{text} One of {', '.join(option.choices)}." if option.choices else text


def spelled(option: ProgramOption) -> list[str]:
    """Return an option's names, each with its value."""
    if option.kind is None:
        return list(option.names)
    value = option.metavar or option.dest.upper()
    return [f"{name}{'=' if name.startswith('--') else ' '}{value}" for name in option.names]


def paragraphs(text: str) -> Iterator[tuple[bool, str]]:
    """Split a help text; yield for each part whether it is preformatted, and its text."""
    for part in text.strip("\n").split("\n\n"):
        lines = part.split("\n")
        kept = all(line.startswith("  ") for line in lines)
        yield kept, "\n".join(line[2:] if kept else line for line in lines)
