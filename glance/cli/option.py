"""A command-line option, from which parsers, help texts, pages and completion scripts are made.

`glance.cli.user.commands` declares the options of `glance`, and `glance.cli.program` the structure
of the other programs. The module that declares an option implements it.

PERF: a named tuple, because the dataclasses module imports inspect; see `commands`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import argparse
    import optparse

_TYPES = {"int": int, "float": float, "string": str}


class ProgramOption(NamedTuple):
    """One option. `env` lists the environment variables with its default; the first one wins.

    `kind` is the name of an optparse type (None: a flag), `choices` lists the allowed values
    (empty: any), `values` names the words with which a shell completes it. `least` and `most`
    bound a number.
    """

    names: tuple[str, ...]
    dest: str
    help: str
    metavar: str | None = None
    kind: str | None = None
    default: Any = None
    env: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    values: str | None = None
    least: float | None = None
    most: float | None = None

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a number for the option; None if nothing is.

        NOTE: what is no number (NaN) is within no bounds.
        """
        if self.least is None or self.most is None or self.least <= value <= self.most:
            return None
        return f"{value} is not a number from {self.least} to {self.most}"

    def number(self, text: str) -> Any:
        """Return the number in a text, for argparse."""
        import argparse

        value = _TYPES[self.kind or "string"](text)
        if fault := self.fault(value):
            raise argparse.ArgumentTypeError(fault)
        return value

    def default_in(self, environ: Mapping[str, str]) -> Any:
        """Return the default: the value of the first variable that is set, else `default`."""
        return next((environ[name] for name in self.env if environ.get(name)), self.default)

    def add_to(self, parser: optparse.OptionParser, environ: Mapping[str, str]) -> None:
        """Add the option to the parser of `glance`."""
        if self.kind is None:
            parser.add_option(
                *self.names, dest=self.dest, default=False, action="store_true", help=self.help
            )
            return
        parser.add_option(
            *self.names,
            dest=self.dest,
            default=self.default_in(environ),
            type="choice" if self.choices else self.kind,
            choices=list(self.choices) or None,
            metavar=self.metavar,
            help=self.help,
        )

    def add_to_group(self, group: argparse._ArgumentGroup, environ: Mapping[str, str]) -> None:
        """Add the option to the parser of another program."""
        text = self.help.replace("%default", "%(default)s")
        if self.kind is None:
            group.add_argument(*self.names, dest=self.dest, action="store_true", help=text)
            return
        group.add_argument(
            *self.names,
            dest=self.dest,
            metavar=self.metavar,
            type=_TYPES[self.kind] if self.least is None else self.number,
            choices=self.choices or None,
            default=self.default_in(environ),
            help=f"{text} One of: {', '.join(self.choices)}." if self.choices else text,
        )
