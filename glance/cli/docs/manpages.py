"""The manual pages of all programs, made from their declarations for `glance.cli.docs.pages`.

The text is that of the reference, as reStructuredText (`glance.cli.docs.reference`); the writer of
docutils makes it a manual page. The pages that a writer of our own made were compared with these
in `man`: they had the name in capitals at the top, and examples one blank further left; nothing
else is lost, and there is one markup less to escape. Whoever makes the pages needs docutils of one
series (0.22, whose releases write the same). They are in the repository, so that an installation
does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import docutils.core

from glance import version
from glance.cli.docs import reference, texts
from glance.cli.option import ProgramOption
from glance.cli.program import Program
from glance.cli.user import command, commands

_SETTINGS = {"report_level": 2, "halt_level": 2, "output_encoding": "unicode"}


def glance(others: Sequence[str]) -> str:
    """Return the manual page of `glance`, which points to the `others`."""
    parts = [_head("glance", "register, upload, find, share and download disk images")]
    parts.append(_section("SYNOPSIS", "**glance** <command> [options] [args]\n\n"))
    parts.append(_section("DESCRIPTION", reference.prose(texts.DESCRIPTION)))
    parts.append(_section("COMMANDS"))
    for group, entries in command.in_groups():
        parts.append(reference.heading(group, "-"))
        for entry in entries:
            described = f"{reference.escaped(entry.summary)}.\n\n{reference.prose(entry.text)}"
            if entry.options:
                options = ", ".join(command.shown_options(entry))
                described += f"Options: {reference.escaped(options)}\n\n"
            parts.append(f"``{command.synopsis(entry)}``\n{_indented(described)}")
    parts.append(_section("OPTIONS", _options(commands.OPTIONS)))
    parts.append(
        _section("OUTPUT", reference.prose(texts.MESSAGES) + reference.prose(texts.PROGRESS))
    )
    parts += [_codes(command.EXIT_CODES), _environment(commands.OPTIONS), _see_also(others)]
    return _made("".join(parts))


def program(declared: Program, others: Sequence[str]) -> str:
    """Return the manual page of another program, which points to the `others`."""
    summary = declared.summary[:1].lower() + declared.summary[1:]
    called = declared.usage.removeprefix(f"{declared.name} ")
    parts = [_head(declared.name, summary)]
    parts.append(_section("SYNOPSIS", f"**{declared.name}** {reference.escaped(called)}\n\n"))
    parts.append(_section("DESCRIPTION", reference.prose(declared.text)))
    if declared.words:
        parts.append(_section("ARGUMENTS", "".join(map(reference.argument, declared.words))))
    parts.append(_section("OPTIONS"))
    for heading, options in declared.groups:
        parts.append(reference.heading(heading, "-") if len(declared.groups) > 1 else "")
        parts.append(_options(options))
    parts += [_codes(declared.exit_codes), _environment(declared.options), _see_also(others)]
    return _made("".join(parts))


def _made(text: str) -> str:
    """Return a page in the form that `man` reads."""
    made = docutils.core.publish_string(text, writer="manpage", settings_overrides=_SETTINGS)
    # The first two lines name the release of docutils.
    lines = str(made).split("\n")[2:]
    page = "\n".join([f'.\\" {texts.GENERATED}', *lines])
    return re.sub(r"(?m)^\.SH Name$", ".SH NAME", page)


def _head(name: str, summary: str) -> str:
    facts = {
        "Manual section": "1",
        "Manual group": "OpenStack Image Service",
        "Version": f"glance {version.version_string()}",
    }
    summary = reference.escaped(summary)
    return (
        f"{'=' * len(name)}\n{name}\n{'=' * len(name)}\n\n"
        f"{'-' * len(summary)}\n{summary}\n{'-' * len(summary)}\n\n"
        + "".join(f":{field}: {value}\n" for field, value in facts.items())
        + "\n"
    )


def _section(title: str, text: str = "") -> str:
    return reference.heading(title, "=") + text


def _indented(text: str) -> str:
    return "".join(f"    {line}".rstrip() + "\n" for line in text.rstrip("\n").split("\n")) + "\n"


def _options(options: Iterable[ProgramOption]) -> str:
    return reference.entries_of(
        (", ".join(texts.spelled(option)), texts.option_help(option)) for option in options
    )


def _codes(exit_codes: Iterable[tuple[int, str]]) -> str:
    return _section("EXIT STATUS", reference.entries_of(texts.codes(exit_codes)))


def _environment(options: Iterable[ProgramOption]) -> str:
    found = texts.environment(options)
    return _section("ENVIRONMENT", reference.entries_of(found)) if found else ""


def _see_also(names: Sequence[str]) -> str:
    return _section("SEE ALSO", ", ".join(f"**{name}**\\ (1)" for name in names) + "\n")
