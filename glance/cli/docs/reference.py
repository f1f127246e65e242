"""The pages cli.rst and programs.rst, made from the declarations for `glance.cli.docs.pages`."""

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


def _rst(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("`", "\\`").replace("|", "\\|")


def _heading(text: str, mark: str) -> str:
    return f"{text}\n{mark * len(text)}\n\n"


def _rst_text(text: str) -> str:
    parts = []
    for kept, part in texts.paragraphs(text):
        if kept:
            lines = "\n".join(f"    {line}".rstrip() for line in part.split("\n"))
            parts.append(f"::\n\n{lines}\n\n")
        else:
            parts.append(f"{_rst(part)}\n\n")
    return "".join(parts)


def _rst_rows(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f"``{name}``\n    {_rst(text)}\n\n" for name, text in rows)


def _rst_options(options: Iterable[ProgramOption]) -> str:
    return "".join(
        f".. option:: {', '.join(texts.spelled(option))}\n\n"
        f"    {_rst(texts.option_help(option))}\n\n"
        for option in options
    )


def _labelled(name: str, heading: str) -> str:
    """Return the head of a program's entry: pages link to it by the program's name."""
    return f".. _{name}:\n\n{heading}.. program:: {name}\n\n"


def cli(further: Program) -> str:
    """Return the reference of `glance` and of the `further` program for users."""
    parts = [f".. {texts.GENERATED}\n\n"]
    parts.append(_labelled("glance", _heading("The glance command", "=")) + CLI_INTRO)
    parts.append(_rst_text(texts.DESCRIPTION))
    for group, entries in command.in_groups():
        parts.append(_heading(group, "-"))
        for entry in entries:
            parts.append(_heading(entry.name, "~"))
            parts.append(f"::\n\n    {command.synopsis(entry)}\n\n")
            parts.append(_rst_text(entry.text))
            if entry.options:
                options = ", ".join(f":option:`{name}`" for name in command.shown_options(entry))
                parts.append(f"Options: {options}\n\n")
    parts.append(_heading("Options", "-") + _rst_options(commands.OPTIONS))
    parts.append(_heading("Output", "-"))
    parts.append(_rst_text(texts.MESSAGES) + _rst_text(texts.PROGRESS))
    parts.append(_heading("Exit codes", "-") + _rst_rows(texts.codes(command.EXIT_CODES)))
    parts.append(_heading("Environment", "-") + HELPER)
    parts.append(_rst_rows(texts.environment(commands.OPTIONS)))
    heading = _heading(f"The {further.name} command", "=")
    parts.append(_labelled(further.name, heading) + _program(further, "-"))
    return "".join(parts).rstrip("\n") + "\n"


def programs(declared: Sequence[Program]) -> str:
    """Return the reference of the programs for operators."""
    parts = [f".. {texts.GENERATED}\n\n", _heading("Programs", "="), PROGRAMS_INTRO]
    for each in declared:
        parts.append(_labelled(each.name, _heading(each.name, "-")) + _program(each, "~"))
    return "".join(parts).rstrip("\n") + "\n"


def _program(declared: Program, mark: str) -> str:
    parts = [f"::\n\n    {declared.usage}\n\n", _rst_text(declared.text)]
    parts += map(_rst_word, declared.words)
    parts.append(_heading(f"Options of {declared.name}", mark) + _rst_options(declared.options))
    parts.append(_heading(f"Exit codes of {declared.name}", mark))
    parts.append(_rst_rows(texts.codes(declared.exit_codes)))
    return "".join(parts)


def _rst_word(word: Word) -> str:
    rows = _rst_rows([(word.name, word.help)])
    if word.choices:
        rows += "".join(f"    {line}\n" if line else "\n" for line in _choices(word))
    return rows


def _choices(word: Word) -> list[str]:
    return _rst_rows(texts.choices(word)).rstrip("\n").split("\n") + [""]
