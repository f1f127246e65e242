"""The declaration of a program other than `glance`: its arguments and options.

Each program declares a `Program` in its own module. This module makes its parser and help from the
declaration; `glance.cli.docs.pages` makes the manual page, the reference and the completion
scripts. The program itself checks the meaning and order of its arguments.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import NamedTuple, NoReturn

from glance import version
from glance.cli.option import ProgramOption


class Word(NamedTuple):
    """A positional argument, as the usage line shows it.

    `choices` maps each allowed word to its meaning; `values` names other words with which a shell
    completes it, as in `ProgramOption`.
    """

    name: str
    help: str
    choices: Mapping[str, str] = {}
    values: str | None = None

    @property
    def label(self) -> str:
        """The name without the punctuation of the usage line."""
        return self.name.strip("<>[]. ")

    @property
    def is_repeated(self) -> bool:
        """Whether it may be given several times."""
        return "..." in self.name


class _Parser(argparse.ArgumentParser):
    """A parser whose errors show no passwords and cannot control the terminal."""

    def error(self, message: str) -> NoReturn:
        from glance.cli.user.screen import console  # PERF: for an error only
        from glance.common import config

        super().error(console.printable(config.mask_text(message)))


class Program(NamedTuple):
    """A program: its name, summary, description, arguments, options and exit codes.

    `groups` pairs the headings of the help with their options.
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
        """The usage line."""
        return " ".join([self.name, "[options]", *(word.name for word in self.words)])

    def parser(
        self, environ: Mapping[str, str] | None = None, *, abbreviated: bool = False
    ) -> argparse.ArgumentParser:
        """Return a parser of all options; `environ` supplies defaults.

        With `abbreviated`, options may be abbreviated. The program itself adds the positional
        arguments, without help texts.
        """
        parser = _Parser(
            prog=self.name,
            usage=self.usage,
            description=f"{self.summary}.",
            epilog="\n".join(self._epilog()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=abbreviated,
        )
        shown = version.shown(self.name)
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
