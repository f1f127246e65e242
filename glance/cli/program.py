"""What a program other than `glance` consists of: its words and options, declared once.

Each program declares a `Program` in its own module. From it come its parser and its help here, and
in `glance.cli.docs.pages` the manual page, the reference and the completion in the shells. What
the words mean to the program, and their order, it checks by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from glance import version
from glance.cli.option import ProgramOption


class Word(NamedTuple):
    """A positional argument, as the usage line shows it.

    `choices` are the words that it may be, with what each means; `values` names what else a shell
    may complete it with, as in `Option`.
    """

    name: str
    help: str
    choices: Mapping[str, str] = {}
    values: str | None = None

    @property
    def label(self) -> str:
        """The name without the marks of the usage line."""
        return self.name.strip("<>[]. ")

    @property
    def is_repeated(self) -> bool:
        """Whether it may stand there several times."""
        return "..." in self.name


class Program(NamedTuple):
    """A program: what it is for in a line and in a text, what it is called with, how it ends.

    `groups` are its options under the headings of its help.
    """

    name: str
    summary: str
    text: str
    words: tuple[Word, ...]
    groups: tuple[tuple[str, tuple[ProgramOption, ...]], ...]
    exit_codes: tuple[tuple[int, str], ...]

    @property
    def options(self) -> list[ProgramOption]:
        return [option for _, options in self.groups for option in options]

    @property
    def usage(self) -> str:
        """The line that says how the program is called."""
        return " ".join([self.name, "[options]", *(word.name for word in self.words)])

    def parser(
        self, environ: Mapping[str, str] | None = None, *, abbreviated: bool = False
    ) -> argparse.ArgumentParser:
        """Return a parser of all options; `environ` supplies defaults.

        With `abbreviated`, beginnings of options are understood. The positional arguments are
        left to the program, to be added without a help text.
        """
        parser = argparse.ArgumentParser(
            prog=self.name,
            usage=self.usage,
            description=f"{self.summary}.",
            epilog="\n".join(self._epilog()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=abbreviated,
        )
        shown = f"{self.name} {version.version_string()}"
        parser.add_argument("--version", action="version", version=shown)
        for heading, options in self.groups:
            group = parser.add_argument_group(heading)
            for option in options:
                option.add_to_group(group, environ or {})
        return parser

    def _epilog(self) -> Iterable[str]:
        for word in self.words:
            yield f"{word.label}: {word.help}"
            width = max(map(len, word.choices), default=0)
            for choice, meaning in word.choices.items():
                yield f"  {choice:<{width}}  {meaning}"
        yield "Exit codes:"
        for code, text in self.exit_codes:
            yield f"  {code}  {text}"
