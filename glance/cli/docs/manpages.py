"""The manual pages of all programs, made from their declarations for `glance.cli.docs.pages`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from glance import version
from glance.cli.docs import texts
from glance.cli.option import ProgramOption
from glance.cli.program import Program, Word
from glance.cli.user import command, commands


def _roff(text: str) -> str:
    """Return text in which troff sees neither requests nor escapes."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    lines = (f"\\&{line}" if line.startswith((".", "'")) else line for line in text.split("\n"))
    return "\n".join(lines)


def _roff_text(text: str) -> str:
    parts = []
    for kept, part in texts.paragraphs(text):
        block = f".RS 2\n.nf\n{_roff(part)}\n.fi\n.RE" if kept else _roff(part)
        parts.append(f".PP\n{block}\n")
    return "".join(parts)


def _roff_rows(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f".TP\n\\fB{_roff(name)}\\fR\n{_roff(text)}\n" for name, text in rows)


def _roff_options(options: Iterable[ProgramOption]) -> str:
    return _roff_rows(
        (", ".join(texts.spelled(option)), texts.option_help(option)) for option in options
    )


def _roff_codes(exit_codes: Iterable[tuple[int, str]]) -> str:
    return f".SH EXIT STATUS\n{_roff_rows(texts.codes(exit_codes))}"


def _roff_environment(options: Iterable[ProgramOption]) -> str:
    rows = texts.environment(options)
    return f".SH ENVIRONMENT\n{_roff_rows(rows)}" if rows else ""


def _roff_see_also(names: Sequence[str]) -> str:
    marks = [","] * (len(names) - 1) + [""]
    rows = (f".BR {_roff(name)} (1){mark}\n" for name, mark in zip(names, marks, strict=True))
    return ".SH SEE ALSO\n" + "".join(rows)


def _roff_head(name: str, summary: str) -> str:
    title = _roff(name.upper())
    return (
        f'.\\" {texts.GENERATED}\n'
        f'.TH {title} 1 "" "glance {version.version_string()}" "OpenStack Image Service"\n'
        f".SH NAME\n{_roff(name)} \\- {_roff(summary)}\n"
    )


def glance(others: Sequence[str]) -> str:
    """Return the manual page of `glance`, which points to the `others`."""
    parts = [_roff_head("glance", "register, upload, find, share and download disk images")]
    parts.append(".SH SYNOPSIS\n.B glance\n<command> [options] [args]\n")
    parts.append(f".SH DESCRIPTION\n{_roff_text(texts.DESCRIPTION)}")
    parts.append(".SH COMMANDS\n")
    for group, entries in command.in_groups():
        parts.append(f".SS {group}\n")
        for entry in entries:
            parts.append(
                f".TP\n\\fB{_roff(command.synopsis(entry))}\\fR\n{_roff(entry.summary)}.\n"
            )
            parts.append(f".RS\n{_roff_text(entry.text)}")
            if entry.options:
                options = ", ".join(command.shown_options(entry))
                parts.append(f".PP\nOptions: {_roff(options)}\n")
            parts.append(".RE\n")
    parts.append(f".SH OPTIONS\n{_roff_options(commands.OPTIONS)}")
    parts.append(f".SH OUTPUT\n{_roff_text(texts.MESSAGES)}{_roff_text(texts.PROGRESS)}")
    parts.append(_roff_codes(command.EXIT_CODES) + _roff_environment(commands.OPTIONS))
    parts.append(_roff_see_also(others))
    return "".join(parts)


def program(declared: Program, others: Sequence[str]) -> str:
    """Return the manual page of another program, which points to the `others`."""
    summary = declared.summary[:1].lower() + declared.summary[1:]
    called = declared.usage.removeprefix(f"{declared.name} ")
    parts = [_roff_head(declared.name, summary)]
    parts.append(f".SH SYNOPSIS\n.B {_roff(declared.name)}\n{_roff(called)}\n")
    parts.append(f".SH DESCRIPTION\n{_roff_text(declared.text)}")
    if declared.words:
        parts.append(f".SH ARGUMENTS\n{''.join(map(_roff_word, declared.words))}")
    parts.append(".SH OPTIONS\n")
    for heading, options in declared.groups:
        parts.append(f".SS {_roff(heading)}\n" if len(declared.groups) > 1 else "")
        parts.append(_roff_options(options))
    parts.append(_roff_codes(declared.exit_codes) + _roff_environment(declared.options))
    parts.append(_roff_see_also(others))
    return "".join(parts)


def _roff_word(word: Word) -> str:
    rows = _roff_rows([(word.name, word.help)])
    if word.choices:
        rows += f".RS\n{_roff_rows(texts.choices(word))}.RE\n"
    return rows
