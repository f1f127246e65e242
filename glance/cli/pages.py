"""Files made from the declarations of `glance` and `glance-upload`.

That is doc/source/cli.rst, the manual pages in doc/man and the shells' completion scripts in
etc/completion. `python -m glance.cli.pages` (part of `tox -e docs`) writes them anew; a test fails
when they are stale. The programs themselves never import this.
"""

from __future__ import annotations

import inspect
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence

import glance
from glance import version
from glance.cli import command, completion, declare, upload

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

UPLOAD_DESCRIPTION = """\
The glance-upload program stores a file as a public image and prints the image's metadata. It is
kept for scripts written for it; glance add does more.
"""

UPLOAD_EXIT_CODES = (
    (0, "The image is stored."),
    (1, "It is not; why is said on standard output."),
    (2, "The arguments could not be understood; why is said on standard error."),
)

PROXIES = (
    ("http_proxy, https_proxy, all_proxy", "Proxy to speak through; loopback never needs one."),
    ("no_proxy", "Hosts and domains that are spoken with directly, separated by commas."),
)


def environment() -> list[tuple[str, str]]:
    """Return the variables that stand in for options, with what they stand in for."""
    rows = []
    for option in declare.OPTIONS:
        for number, name in enumerate(option.env):
            other = f" Used when {option.env[0]} is unset." if number else ""
            rows.append((name, f"Stands in for {option.names[-1]}.{other}"))
    return [*rows, *PROXIES]


def option_help(option: declare.Option) -> str:
    """Return the text about an option with its default in place."""
    text = option.help.replace("%default", str(option.default))
    text = text if text.endswith(".") else f"{text}."
    return f"{text} One of {', '.join(option.choices)}." if option.choices else text


def spelled(option: declare.Option) -> list[str]:
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


# -- manual pages --------------------------------------------------------------------------------


def _roff(text: str) -> str:
    """Return text in which troff sees neither requests nor escapes."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    lines = (f"\\&{line}" if line.startswith((".", "'")) else line for line in text.split("\n"))
    return "\n".join(lines)


def _roff_text(text: str) -> str:
    parts = []
    for kept, part in paragraphs(text):
        block = f".RS 2\n.nf\n{_roff(part)}\n.fi\n.RE" if kept else _roff(part)
        parts.append(f".PP\n{block}\n")
    return "".join(parts)


def _roff_rows(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f".TP\n\\fB{_roff(name)}\\fR\n{_roff(text)}\n" for name, text in rows)


def _roff_options(options: Iterable[declare.Option]) -> str:
    return _roff_rows((", ".join(spelled(option)), option_help(option)) for option in options)


def _roff_head(name: str, summary: str) -> str:
    title = _roff(name.upper())
    return (
        f'.\\" {GENERATED}\n'
        f'.TH {title} 1 "" "glance {version.version_string()}" "OpenStack Image Service"\n'
        f".SH NAME\n{_roff(name)} \\- {_roff(summary)}\n"
    )


def man_glance() -> str:
    """Return the manual page of `glance`."""
    parts = [_roff_head("glance", "register, upload, find, share and fetch disk images")]
    parts.append(".SH SYNOPSIS\n.B glance\n<command> [options] [args]\n")
    parts.append(f".SH DESCRIPTION\n{_roff_text(DESCRIPTION)}")
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
    parts.append(f".SH OPTIONS\n{_roff_options(declare.OPTIONS)}")
    parts.append(f".SH OUTPUT\n{_roff_text(MESSAGES)}{_roff_text(PROGRESS)}")
    parts.append(f".SH EXIT STATUS\n{_roff_rows(_codes(command.EXIT_CODES))}")
    parts.append(f".SH ENVIRONMENT\n{_roff_rows(environment())}")
    parts.append(".SH SEE ALSO\n.BR glance\\-upload (1)\n")
    return "".join(parts)


def man_upload() -> str:
    """Return the manual page of `glance-upload`."""
    parts = [_roff_head("glance-upload", "store a file as a public image")]
    parts.append(".SH SYNOPSIS\n.B glance\\-upload\n[options] <filename> <name>\n")
    parts.append(f".SH DESCRIPTION\n{_roff_text(UPLOAD_DESCRIPTION)}")
    parts.append(f".SH ARGUMENTS\n{_roff_rows(upload.ARGUMENTS)}")
    parts.append(f".SH OPTIONS\n{_roff_options(upload.OPTIONS)}")
    parts.append(f".SH EXIT STATUS\n{_roff_rows(_codes(UPLOAD_EXIT_CODES))}")
    parts.append(f".SH ENVIRONMENT\n{_roff_rows(environment())}")
    parts.append(".SH SEE ALSO\n.BR glance (1)\n")
    return "".join(parts)


def _codes(codes: Iterable[tuple[int, str]]) -> list[tuple[str, str]]:
    return [(str(code), text) for code, text in codes]


# -- doc/source/cli.rst --------------------------------------------------------------------------

RST_INTRO = """\
For users of the service. What ``glance help`` prints, and what holds for all commands. The same
stands in the manual pages ``glance(1)`` and ``glance-upload(1)``; completion of commands, options,
fields and their values comes with ``glance completion bash`` and ``glance completion zsh``.

"""

RST_HELPER = """\
Credentials may stand in variables; `nova-to-os-env.sh <../../etc/nova-to-os-env.sh>`_, read by the
shell with ``.``, makes them from those of Nova.

"""


def _rst(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("`", "\\`").replace("|", "\\|")


def _heading(text: str, mark: str) -> str:
    return f"{text}\n{mark * len(text)}\n\n"


def _rst_text(text: str) -> str:
    parts = []
    for kept, part in paragraphs(text):
        if kept:
            lines = "\n".join(f"    {line}".rstrip() for line in part.split("\n"))
            parts.append(f"::\n\n{lines}\n\n")
        else:
            parts.append(f"{_rst(part)}\n\n")
    return "".join(parts)


def _rst_rows(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f"``{name}``\n    {_rst(text)}\n\n" for name, text in rows)


def _rst_options(options: Iterable[declare.Option]) -> str:
    return "".join(
        f"{', '.join(f'``{name}``' for name in spelled(option))}\n    "
        f"{_rst(option_help(option))}\n\n"
        for option in options
    )


def rst_page() -> str:
    """Return the reference of both programs."""
    parts = [f".. {GENERATED}\n\n", _heading("The glance command", "="), RST_INTRO]
    parts.append(_rst_text(DESCRIPTION))
    for group, entries in command.in_groups():
        parts.append(_heading(group, "-"))
        for entry in entries:
            parts.append(_heading(entry.name, "~"))
            parts.append(f"::\n\n    {command.synopsis(entry)}\n\n")
            parts.append(_rst_text(entry.text))
            if entry.options:
                options = ", ".join(f"``{name}``" for name in command.shown_options(entry))
                parts.append(f"Options: {options}\n\n")
    parts.append(_heading("Options", "-") + _rst_options(declare.OPTIONS))
    parts.append(_heading("Output", "-") + _rst_text(MESSAGES) + _rst_text(PROGRESS))
    parts.append(_heading("Exit codes", "-") + _rst_rows(_codes(command.EXIT_CODES)))
    parts.append(_heading("Environment", "-") + RST_HELPER + _rst_rows(environment()))
    parts.append(_heading("The glance-upload command", "="))
    parts.append("::\n\n    glance-upload [options] <filename> <name>\n\n")
    parts.append(_rst_text(UPLOAD_DESCRIPTION) + _rst_rows(upload.ARGUMENTS))
    parts.append(_heading("Options of glance-upload", "-") + _rst_options(upload.OPTIONS))
    parts.append(_heading("Exit codes of glance-upload", "-"))
    parts.append(_rst_rows(_codes(UPLOAD_EXIT_CODES)))
    return "".join(parts).rstrip("\n") + "\n"


# -- all of them ---------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """Return every generated file as path below the checkout -> text."""
    return {
        "doc/source/cli.rst": rst_page(),
        "doc/man/glance.1": man_glance(),
        "doc/man/glance-upload.1": man_upload(),
        "etc/completion/glance.bash": completion.bash(),
        "etc/completion/_glance": completion.zsh(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files into the checkout that the package was imported from; return 0."""
    arguments = sys.argv[1:] if argv is None else argv
    package = pathlib.Path(inspect.getfile(glance)).resolve().parent
    root = pathlib.Path(arguments[0]) if arguments else package.parent
    for name, text in pages().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
