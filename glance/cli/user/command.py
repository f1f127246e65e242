"""The `glance` program: its parser, its help, and the execution of commands.

Documented messages, including errors, go to standard output, because scripts read them there; only
usage errors and later additions go to standard error. With `--format json`, standard output
contains only JSON. This module imports no server code.
"""

from __future__ import annotations

import contextlib
import optparse
import os
import signal
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from glance import version
from glance.cli import streams
from glance.cli.option import ProgramOption
from glance.cli.user import commands
from glance.cli.user.screen import console
from glance.common import exception

GROUPS = (
    "Commands",
    "Cache Commands",
    "Member Commands",
    "Conversion Commands",
    "Further Commands",
)
#: The commands that the usage text shows first in their group, in this order.
FIRST = ("help", "add", "update", "delete", "index", "details", "show", "clear")

EXIT_CODES = (
    (0, "The command succeeded."),
    (1, "The command failed, was refused or declined, found nothing, or had invalid arguments."),
    (2, "An option is not valid."),
    (130, "The user interrupted the command."),
)

NOT_AUTHORIZED = (
    "Not authorized to make this request. Check your credentials (OS_AUTH_USER, OS_AUTH_KEY, ...)."
)


@commands.command(
    "help", "<command>", "Output help for one of the commands below", values="command"
)
def show_help(call: commands.CommandCall) -> int:
    """
    Prints the arguments of a command and what it does.
    """
    if len(call.args) != 1:
        print("Please specify a command", file=sys.stderr)
        names = ", ".join(entry.name for _, entries in in_groups() for entry in entries)
        console.say(f"Commands: {names}", to=sys.stderr)
        return 1
    return print_command(call.args[0])


def print_command(name: str) -> int:
    """Print the help of one command, and return the exit code."""
    entry = commands.find(name)
    if entry is None:
        return unknown(name)
    print(f"\n{synopsis(entry)}\n\n{entry.text}")
    if entry.options:
        print("\nOptions, besides those that glance --help shows for every command:\n")
        for option in commands.OPTIONS:
            if option.dest in entry.options:
                word = option.help.replace("%default", str(option.default))
                print(_described(f"{_shown(option)} {option.metavar or ''}".rstrip(), word))
    return 0


def _described(name: str, words: str) -> str:
    """Return the lines about an option, no longer than a terminal of 80 columns."""
    lines = textwrap.wrap(words, 79 - 28)
    first = f"  {name:<24}  "
    if len(first) > 28:
        # A long name has a line of its own.
        lines.insert(0, "")
    return "\n".join(
        f"{' ' * 28 if number else first}{line}".rstrip() for number, line in enumerate(lines)
    )


def synopsis(entry: commands.Command) -> str:
    """Return the usage line of a command."""
    options = "" if entry.name == "help" else "[options] "
    return f"glance {entry.name} {options}{entry.arguments}".rstrip()


def shown_options(entry: commands.Command) -> list[str]:
    """Return the option names of a command that its help shows."""
    by_dest = {option.dest: option for option in commands.OPTIONS}
    return [_shown(by_dest[dest]) for dest in entry.options]


def _shown(option: ProgramOption) -> str:
    return option.names[-1 if option.dest == "force" else 0]


def in_groups() -> list[tuple[str, list[commands.Command]]]:
    """Return all commands by group, in the order of the usage text."""

    def place(entry: commands.Command) -> int:
        return FIRST.index(entry.name) if entry.name in FIRST else len(FIRST)

    groups = []
    for group in GROUPS:
        entries = [entry for entry in commands.COMMANDS.values() if entry.group == group]
        groups.append((group, sorted(entries, key=place)))
    return groups


def usage() -> str:
    """Return the usage text: one entry per command, in groups."""
    lines = ["%prog <command> [options] [args]"]
    for group, entries in in_groups():
        lines += ["", f"{group}:", ""]
        for entry in entries:
            shown = "help <command>" if entry.name == "help" else entry.name
            lines.append(f"    {shown:<18} {entry.summary}")
    return "\n".join(lines)


#: What other programs call a command; for those that the program knows itself, see
#: `commands.ALIASES`.
ELSEWHERE = {
    "create": "add",
    "get": "show",
    "image-create": "add",
    "image-delete": "delete",
    "image-download": "download",
    "image-list": "index",
    "image-show": "show",
    "image-update": "update",
    "images": "index",
    "info": "show",
    "inspect": "show",
    "member-create": "member-add",
    "member-list": "image-members",
    "pull": "download",
    "push": "upload",
    "remove": "delete",
    "rm": "delete",
    "save": "download",
    "set": "update",
    "view": "show",
}


def unknown(name: str) -> int:
    make_parser({}).print_usage()
    from glance.common import spelling  # PERF: for mistakes only

    console.say(f"Unknown command: {name}", to=sys.stderr)
    close = spelling.near(name, commands.COMMANDS) or ELSEWHERE.get(name.lower())
    if close is not None:
        console.say(f"Did you mean glance {close}?", to=sys.stderr)
    return 1


def note_misspelt(entry: commands.Command, args: Sequence[str]) -> None:
    """Print one line on standard error for each name that looks like a misspelt field."""
    from glance.common import spelling  # PERF: for commands that send something only

    # Of two letters, each is one typing error away from too many: ip is a good property beside id.
    longer = [name for name in entry.fields if len(name) > 2]
    written = [console.field_name(argument) for argument in args if "=" in argument]
    for name in dict.fromkeys(written):
        close = None if name in entry.fields else spelling.near(name, longer)
        if close is not None:
            console.complain(f"{name} is taken for a custom property; did you mean {close}?")


class _Parser(optparse.OptionParser):
    """A parser whose errors cannot control the terminal, and do not keep help from a user.

    It checks the variables that stand for options, too.
    """

    def get_usage(self) -> str:
        # PERF: only when it is shown, because it names all commands, whose modules it imports.
        self.set_usage(usage())
        return super().get_usage()

    def get_default_values(self) -> optparse.Values:
        # NOTE: not the library's, which raises errors of variables instead of reporting them.
        return optparse.Values(self.defaults)

    def check_values(
        self, values: optparse.Values, args: list[str]
    ) -> tuple[optparse.Values, list[str]]:
        """Convert the texts of variables that stand for an option that is not given."""
        for option in self.option_list:
            text = getattr(values, option.dest, None) if option.dest else None
            if isinstance(text, str):
                try:
                    setattr(values, option.dest or "", option.check_value(str(option), text))
                except optparse.OptionValueError as err:
                    self.error(f"{err}, in a variable of the environment")
        for declared in commands.OPTIONS:
            value = getattr(values, declared.dest)
            fault = None if value is None else declared.fault(value)
            if fault:
                self.error(f"option {'/'.join(declared.names)}: {fault}")
        return values, args

    def error(self, msg: str) -> NoReturn:
        left = self.rargs or []
        if {"-h", "--help"} & set(left) or (self.values is not None and self.values.help):
            sys.exit(print_help(self, [*(self.largs or []), *left]))
        super().error(console.printable(msg))


def print_help(parser: optparse.OptionParser, args: Sequence[str]) -> int:
    """Print what --help beside these words asks for, and return the exit code."""
    words = [word for word in args if not word.startswith("-")]
    if words:
        return print_command(words[0])
    parser.print_help()
    return 0


def make_parser(environ: Mapping[str, str]) -> optparse.OptionParser:
    """Return the parser of all options; `environ` supplies defaults."""
    # NOTE: optparse, because users of this program know its messages, and because it lets
    # options and arguments be mixed.
    parser = _Parser(
        prog="glance",
        version=version.shown("%prog"),
        epilog="Exit codes: " + " ".join(f"{code}: {text}" for code, text in EXIT_CODES),
        add_help_option=False,
    )
    # Unlike that of optparse, it does not end the parsing: the command may come behind it.
    parser.add_option(
        *("-h", "--help"),
        dest="help",
        default=False,
        action="store_true",
        help="show this help message and exit",
    )
    for option in commands.OPTIONS:
        option.add_to(parser, environ)
    return parser


def run(entry: commands.Command, call: commands.CommandCall) -> int:
    """Run a command and return its exit code; print errors as the command declares.

    If standard output is for data only, all messages go to standard error.
    """
    if gives_data(entry, call.options):
        with contextlib.redirect_stdout(sys.stderr):
            return _run(entry, call)
    return _run(entry, call)


def gives_data(entry: commands.Command, options: optparse.Values) -> bool:
    """Return whether standard output will contain only JSON, values, or the data of an image."""
    if entry.name == "download":
        return not options.file
    return "format" in entry.options and bool(options.format != "text")


def _run(entry: commands.Command, call: commands.CommandCall) -> int:
    note_misspelt(entry, call.args)
    try:
        return entry.run(call)
    except console.CommandFailed as err:
        call.complain(err, err.__cause__)
        return 1
    except console.CommandRefused as err:
        if str(err):
            console.say(*str(err).splitlines())
        return 1
    except KeyboardInterrupt as err:
        return interrupted(err)
    except BrokenPipeError:
        raise
    except Exception as err:  # top level: print every failure in a line or two
        if call.options.debug:
            raise
        if entry.modern:
            call.complain(err, err)
            return 1
        if entry.failure is None:
            console.say(f"ERROR:  {err}")
        elif isinstance(err, exception.NotAuthorized):
            print(NOT_AUTHORIZED)
        else:
            print(f"Failed to {entry.failure}. Got error:")
            console.print_error(err)
        call.explain(err)
        return 1


def interrupted(err: KeyboardInterrupt) -> int:
    """Print in one line what remains, and return the exit code: 128 and the number of the signal.

    A command that leaves something raises `console.Interrupted`.
    """
    ended = isinstance(err.__cause__ or err, console.Terminated)
    word = "terminated" if ended else "interrupted"
    console.complain(f"{word}; {err}" if str(err) else word)
    return 128 + (signal.SIGTERM if ended else signal.SIGINT)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, unless the signal has another meaning already."""

    def end(number: int, frame: object) -> NoReturn:
        raise console.Terminated

    try:
        usual = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        old = signal.signal(signal.SIGTERM, end) if usual else None
    except ValueError:
        # Another thread than the first one cannot set it.
        old = None
    try:
        yield
    finally:
        if old is not None:
            signal.signal(signal.SIGTERM, old)


@streams.program("glance", stops=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with `argv` (without its name) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _terminable():
            return _main(arguments)
    except SystemExit as err:  # raised by optparse
        return err.code if isinstance(err.code, int) else int(err.code is not None)
    except KeyboardInterrupt as err:
        return interrupted(err)


def _main(arguments: list[str]) -> int:
    parser = make_parser(os.environ)
    if not arguments:
        parser.print_help()
        return 0
    options, args = parser.parse_args(arguments)
    if options.help:
        return print_help(parser, args)
    if not args:
        parser.print_usage()
        return 0
    entry = commands.find(args[0])
    if entry is None:
        return unknown(args[0])
    started = time.monotonic()
    code = run(entry, commands.CommandCall(options, args[1:]))
    if options.verbose:
        timing = sys.stderr if gives_data(entry, options) else sys.stdout
        print(f"Completed in {time.monotonic() - started:.4f} sec.", file=timing)
    return code
