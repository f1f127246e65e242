"""The `glance` program: its parser and help, and how a command is run.

Documented messages go to standard output, errors included, because scripts read them there; only
usage errors and later additions go to standard error. Exit codes: 0 done, 1 refused or failed or
declined, 2 options that cannot be understood. Nothing of the server is imported.
"""

from __future__ import annotations

import optparse
import os
import sys
import time
from collections.abc import Mapping, Sequence

# NOTE: the command modules are imported because they declare their commands, in this order.
from glance import version
from glance.cli import console, declare, images, members
from glance.common import exception

__all__ = ["images", "main", "members"]

GROUPS = ("Commands", "Cache Commands", "Member Commands")

NOT_AUTHORIZED = (
    "Not authorized to make this request. Check your credentials (OS_AUTH_USER, OS_AUTH_KEY, ...)."
)


@declare.command("help", "<command>", "Output help for one of the commands below")
def show_help(call: declare.Call) -> int:
    """Prints the arguments of a command and what it does."""
    if len(call.args) != 1:
        print("Please specify a command", file=sys.stderr)
        return 1
    found = declare.COMMANDS.get(call.args[0])
    if found is None:
        return unknown(call.args[0])
    options = "" if found.name == "help" else "[options] "
    print(f"\nglance {found.name} {options}{found.arguments}".rstrip())
    print(f"\n{found.text}")
    return 0


def usage() -> str:
    """Return the usage text: one entry per command, in blocks."""
    lines = ["%prog <command> [options] [args]"]
    for group in GROUPS:
        entries = [entry for entry in declare.COMMANDS.values() if entry.group == group]
        if entries:
            lines += ["", f"{group}:", ""]
        for entry in sorted(entries, key=lambda entry: entry.name != "help"):
            shown = "help <command>" if entry.name == "help" else entry.name
            lines.append(f"    {shown:<18} {entry.summary}")
    return "\n".join(lines)


def unknown(name: str) -> int:
    make_parser({}).print_usage()
    print(f"Unknown command: {name}", file=sys.stderr)
    return 1


def make_parser(environ: Mapping[str, str]) -> optparse.OptionParser:
    """Return the parser of all options; `environ` supplies defaults."""
    # NOTE: optparse, because its texts and its mixing of options and arguments are what users of
    # this program know.
    parser = optparse.OptionParser(
        usage(), prog="glance", version=f"%prog {version.version_string()}"
    )
    for option in declare.OPTIONS:
        option.add_to(parser, environ)
    return parser


def run(entry: declare.Command, call: declare.Call) -> int:
    """Run a command and return its exit code; errors are shown as the command declares."""
    try:
        return entry.run(call)
    except console.Refused as err:
        if str(err):
            print(err)
        return 1
    except BrokenPipeError:
        raise
    except Exception as err:  # the border to the person: every failure is said in a line or two
        if call.options.debug:
            raise
        if entry.failure is None:
            print(f"ERROR:  {console.printable(err)}")
        elif isinstance(err, exception.NotAuthorized):
            print(NOT_AUTHORIZED)
        else:
            print(f"Failed to {entry.failure}. Got error:")
            console.print_error(err)
        return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with `argv` (without its name) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        return _main(arguments)
    except SystemExit as err:  # raised by optparse
        return err.code if isinstance(err.code, int) else int(err.code is not None)
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:
        # NOTE: the reader of a pipe has left; the interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _main(arguments: list[str]) -> int:
    parser = make_parser(os.environ)
    if not arguments:
        parser.print_help()
        return 0
    options, args = parser.parse_args(arguments)
    if not args:
        parser.print_usage()
        return 0
    entry = declare.COMMANDS.get(args[0])
    if entry is None:
        return unknown(args[0])
    started = time.monotonic()
    code = run(entry, declare.Call(options, args[1:]))
    if options.verbose:
        print(f"Completed in {time.monotonic() - started:.4f} sec.")
    sys.stdout.flush()
    return code
