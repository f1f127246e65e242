"""What the manual pages and the reference of the programs say alike, and how texts are read.

`glance.cli.docs.manpages` and `glance.cli.docs.reference` write it down in their ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from glance.cli.option import ProgramOption
from glance.cli.program import Word

GENERATED = "Made by `tox -e docs`; change the declarations in glance/cli instead."

DESCRIPTION = """\
The glance program registers, uploads, finds, shares, fetches and deletes disk images. It speaks
with glance-api, version 1 of the Images API.

Options and arguments may stand in any order. Every option may be given to every command, which
ignores those it has no use for.
"""

MESSAGES = """\
Messages of the Diablo release stand on standard output, errors included, because scripts look for
them there. Everything newer goes to standard error in one line. With --format=json standard output
holds JSON only, an array for listings and an object for one image, and all messages go to standard
error.
"""

PROGRESS = """\
add, download and glance-upload show how far they have come, how fast, and how long it will take,
on standard error if that is a terminal and nowhere else.
"""

PROXIES = (
    ("http_proxy, https_proxy, all_proxy", "Proxy to speak through; loopback never needs one."),
    ("no_proxy", "Hosts and domains that are spoken with directly, separated by commas."),
)


def environment(options: Iterable[ProgramOption]) -> list[tuple[str, str]]:
    """Return the variables that a program heeds, with what they stand in for; none without any."""
    rows = []
    for option in options:
        for number, name in enumerate(option.env):
            other = f" Used when {option.env[0]} is unset." if number else ""
            rows.append((name, f"Stands in for {option.names[-1]}.{other}"))
    return [*rows, *PROXIES] if rows else []


def codes(exit_codes: Iterable[tuple[int, str]]) -> list[tuple[str, str]]:
    """Return exit codes as rows of text."""
    return [(str(code), text) for code, text in exit_codes]


def choices(word: Word) -> list[tuple[str, str]]:
    """Return the words that an argument may be, each with a sentence about it."""
    return [(name, f"{text[:1].upper()}{text[1:]}.") for name, text in word.choices.items()]


def option_help(option: ProgramOption) -> str:
    """Return the text about an option with its default in place."""
    text = option.help.replace("%default", str(option.default))
    text = text if text.endswith(".") else f"{text}."
    return f"{text} One of {', '.join(option.choices)}." if option.choices else text


def spelled(option: ProgramOption) -> list[str]:
    """Return an option's names, each with the value that it takes."""
    if option.kind is None:
        return list(option.names)
    value = option.metavar or option.dest.upper()
    return [f"{name}{'=' if name.startswith('--') else ' '}{value}" for name in option.names]


def paragraphs(text: str) -> Iterator[tuple[bool, str]]:
    """Split a help text; each part comes with whether its lines are to be kept as they are."""
    for part in text.strip("\n").split("\n\n"):
        lines = part.split("\n")
        kept = all(line.startswith("  ") for line in lines)
        yield kept, "\n".join(line[2:] if kept else line for line in lines)
