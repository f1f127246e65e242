"""glance-inspect: what disk images are, and whether they are safe to open.

`glance.inspect` does the work. Nothing of the service is asked, and nothing that an image names is
touched.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from glance.cli import streams
from glance.cli.option import ProgramOption
from glance.cli.program import Program, Word
from glance.cli.user.screen import console
from glance.image import fields
from glance.inspect import inspector, verdict

PIECE = 1024 * 1024
REFUSED, WRONG = 1, 2

PROGRAM = Program(
    "glance-inspect",
    "Tell what disk images are, and whether they are safe to open",
    """
The glance-inspect program says of each file which disk format its data is in, how large the
virtual disk is, and whether the image stands alone. An image that names other files, such as a
backing file, is refused, because whoever opens it reads those files. The page about inspection of
the documentation lists all reasons.

It reads the first MiB and the last 2 KiB of a file, and all of what comes from a pipe. It opens
nothing that an image names. It prints one line for each file; a file that cannot be read is
reported on standard error.
""",
    (Word("<file>...", "File with a disk image; - is standard input.", values="file"),),
    (
        (
            "Options of glance-inspect",
            (
                ProgramOption(
                    ("--disk-format",),
                    "disk_format",
                    "Disk format that the images are said to have; an image in another one is "
                    "refused.",
                    "FORMAT",
                    "string",
                    choices=fields.DISK_FORMATS,
                ),
                ProgramOption(
                    ("--max-virtual-size",),
                    "max_virtual_size",
                    "Refuse an image whose virtual disk has more than this many bytes.",
                    "BYTES",
                    "int",
                    least=0,
                    most=fields.MAX_BIGINT,
                ),
                ProgramOption(
                    ("--format",),
                    "format",
                    "How to print the result: text, or one JSON array. Default: %default",
                    "FORMAT",
                    "string",
                    "text",
                    choices=("text", "json"),
                ),
            ),
        ),
    ),
    (
        (0, "All images are safe."),
        (1, "An image is refused; its line on standard output says why."),
        (
            2,
            "The arguments are not valid, or a file cannot be read; standard error says why.",
        ),
        (130, "The user interrupted the program."),
    ),
)


class Unreadable(Exception):
    """A file is none that an image can be in; the text says what it is."""


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input, for the block. Raises OSError and Unreadable."""
    if name == "-":
        if sys.stdin is None:
            raise Unreadable("standard input is closed")
        yield sys.stdin.buffer
        return
    with open(name, "rb", buffering=0) as file:
        yield cast(BinaryIO, file)


def inspect(name: str, declared: str | None, limits: verdict.Limits) -> verdict.Verdict:
    """Return what the image in a file is. Raises OSError and Unreadable."""
    with opened(name) as file:
        kind = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(kind) or stat.S_ISBLK(kind):
            return inspector.inspect_file(file, declared, limits)
        if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
            raise Unreadable("it is a device without an end")
        seen = inspector.Inspector(declared, limits)
        while piece := file.read(PIECE):
            seen.update(piece)
        return seen.verdict()


def line(name: str, found: verdict.Verdict) -> str:
    """Return the line about an image."""
    size = "unknown" if found.virtual_size is None else f"{found.virtual_size} bytes"
    kind = found.format or " and ".join(found.formats)
    outcome = f"refused: {found.detail}" if found.reasons else "safe"
    return f"{name}: {kind}, virtual size {size}, {outcome}"


def document(name: str, found: verdict.Verdict) -> dict[str, Any]:
    """Return what is known of an image, for programs."""
    return {
        "file": name,
        "format": found.format,
        "formats": list(found.formats),
        "size": found.size,
        "virtual_size": found.virtual_size,
        "safe": found.is_safe,
        "code": found.code,
        "reasons": [each._asdict() for each in found.reasons],
    }


class _Lines:
    """Prints the results as lines of text."""

    def show(self, name: str, found: verdict.Verdict) -> None:
        console.say(line(name, found))

    def fail(self, name: str, text: str) -> None:
        pass

    def end(self) -> None:
        pass


class _Array:
    """Prints the results as a JSON array, each as soon as it is known."""

    def __init__(self) -> None:
        self._before = "[\n"

    def _add(self, made: dict[str, Any]) -> None:
        print(self._before + console.json_text(made), end="", flush=True)
        self._before = ",\n"

    def show(self, name: str, found: verdict.Verdict) -> None:
        self._add(document(name, found))

    def fail(self, name: str, text: str) -> None:
        self._add({"file": name, "error": text})

    def end(self) -> None:
        print("\n]")


def make_parser() -> argparse.ArgumentParser:
    parser = PROGRAM.parser()
    parser.add_argument("files", nargs="+", metavar="<file>", help=argparse.SUPPRESS)
    return parser


@streams.program(PROGRAM.name, stops=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with `argv` (without its name) and return the exit code."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.files.count("-") > 1:
        # An empty rest would pass for an image.
        parser.error("standard input (-) can be named once only")
    limits = verdict.Limits(virtual_size=options.max_virtual_size)
    output = _Array() if options.format == "json" else _Lines()
    code = 0
    for name in options.files:
        try:
            found = inspect(name, options.disk_format, limits)
        except (OSError, Unreadable) as err:
            text = getattr(err, "strerror", None) or str(err)
            console.say(f"{PROGRAM.name}: cannot read {name}: {text}", to=sys.stderr)
            output.fail(name, text)
            code = WRONG
            continue
        output.show(name, found)
        if not found.is_safe:
            code = code or REFUSED
    output.end()
    return code
