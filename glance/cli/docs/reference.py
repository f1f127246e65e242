"""The pages cli.rst and programs.rst, made from the declarations for `glance.cli.docs.pages`.

`glance.cli.docs.manpages` makes the manual pages of the same parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from glance.cli.docs import texts
from glance.cli.option import ProgramOption
from glance.cli.program import Program, Word
from glance.cli.user import command, commands

CLI_INTRO = """\
For users of the service: the commands and options, as in ``glance help`` and in the manual pages
``glance(1)`` and ``glance-upload(1)``. ``glance completion bash``, and the same for zsh and fish,
prints a script with which the shell completes commands, options, fields and their values.

"""

PROGRAMS_INTRO = """\
For operators: the programs, as in the output of ``--help`` and in the manual pages of the same
names. The manual pages and the completion scripts of the shells are installed below ``share``.

"""

HELPER = """\
Variables can hold the credentials. ``etc/nova-to-os-env.sh``, which the
shell reads with ``.``, sets them from Nova's variables.

"""


def escaped(text: str) -> str:
    """Return text in which reStructuredText sees no markup."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("`", "\\`").replace("|", "\\|")


def heading(text: str, mark: str) -> str:
    """Return the heading of a section, underlined with `mark`."""
    return f"{text}\n{mark * len(text)}\n\n"


def prose(text: str) -> str:
    """Return a help text as paragraphs and literal blocks."""
    parts = []
    for kept, part in texts.paragraphs(text):
        if kept:
            lines = "\n".join(f"    {line}".rstrip() for line in part.split("\n"))
            parts.append(f"::\n\n{lines}\n\n")
        else:
            parts.append(f"{escaped(part)}\n\n")
    return "".join(parts)


def entries_of(rows: Iterable[tuple[str, str]]) -> str:
    """Return a list of terms, each with its text."""
    return "".join(f"``{name}``\n    {escaped(text)}\n\n" for name, text in rows)


def _rst_options(options: Iterable[ProgramOption]) -> str:
    return "".join(
        f".. option:: {', '.join(texts.spelled(option))}\n\n"
        f"    {escaped(texts.option_help(option))}\n\n"
        for option in options
    )


def _labelled(name: str, title: str) -> str:
    """Return the head of a program's entry: pages link to it by the program's name."""
    return f".. _{name}:\n\n{title}.. program:: {name}\n\n"


def cli(further: Program) -> str:
    """Return the reference of `glance` and of the `further` program for users."""
    parts = [f".. {texts.GENERATED}\n\n"]
    parts.append(_labelled("glance", heading("The glance command", "=")) + CLI_INTRO)
    parts.append(prose(texts.DESCRIPTION))
    for group, entries in command.in_groups():
        parts.append(heading(group, "-"))
        for entry in entries:
            parts.append(heading(entry.name, "~"))
            parts.append(f"::\n\n    {command.synopsis(entry)}\n\n")
            parts.append(prose(entry.text))
            if entry.options:
                options = ", ".join(f":option:`{name}`" for name in command.shown_options(entry))
                parts.append(f"Options: {options}\n\n")
    parts.append(heading("Options", "-") + _rst_options(commands.OPTIONS))
    parts.append(heading("Output", "-"))
    parts.append(prose(texts.MESSAGES) + prose(texts.PROGRESS))
    parts.append(heading("Exit codes", "-") + entries_of(texts.codes(command.EXIT_CODES)))
    parts.append(heading("Environment", "-") + HELPER)
    parts.append(entries_of(texts.environment(commands.OPTIONS)))
    title = heading(f"The {further.name} command", "=")
    parts.append(_labelled(further.name, title) + _program(further, "-"))
    return "".join(parts).rstrip("\n") + "\n"


def programs(declared: Sequence[Program]) -> str:
    """Return the reference of the programs for operators."""
    parts = [f".. {texts.GENERATED}\n\n", heading("Programs", "="), PROGRAMS_INTRO]
    for each in declared:
        parts.append(_labelled(each.name, heading(each.name, "-")) + _program(each, "~"))
    return "".join(parts).rstrip("\n") + "\n"


def _program(declared: Program, mark: str) -> str:
    parts = [f"::\n\n    {declared.usage}\n\n", prose(declared.text)]
    parts += map(argument, declared.words)
    parts.append(heading(f"Options of {declared.name}", mark) + _rst_options(declared.options))
    parts.append(heading(f"Exit codes of {declared.name}", mark))
    parts.append(entries_of(texts.codes(declared.exit_codes)))
    return "".join(parts)


def argument(word: Word) -> str:
    """Return the entry of an argument, with one for each of its choices."""
    rows = entries_of([(word.name, word.help)])
    if word.choices:
        rows += "".join(f"    {line}\n" if line else "\n" for line in _choices(word))
    return rows


def _choices(word: Word) -> list[str]:
    return entries_of(texts.choices(word)).rstrip("\n").split("\n") + [""]
