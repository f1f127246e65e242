"""The options and commands of the `glance` program, each declared once.

The command modules (`glance.cli.user.images`, `listing`, `members` and so on) declare their
commands with this module; `HOMES` says where each is. From its tables, `glance.cli.user.command`
makes the parser, the usage text and `help`, `glance.cli.docs.pages` the manual pages and the page
cli.rst, and `glance.cli.user.completion` the completion scripts. `glance.cli.user.screen.console`
has the prompts and messages.

PERF: every start of the program imports this module, and that of the one command that it runs,
so neither imports what only a request needs: the client is loaded when a command first uses it.
Rows are named tuples, because the dataclasses module imports inspect.
"""

from __future__ import annotations

import importlib
import optparse
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from glance.cli.option import ProgramOption
from glance.cli.user import signin
from glance.cli.user.screen import console

if TYPE_CHECKING:
    from glance import client as glance_client

DRY_RUN = "Dry run. We would have done the following:"


# -- options: all are global; a command ignores those that do not apply to it ---------------------

OPTIONS: tuple[ProgramOption, ...] = (
    ProgramOption(
        ("-v", "--verbose"), "verbose", "Print more details, and how long the command took."
    ),
    ProgramOption(("-d", "--debug"), "debug", "Show errors with a traceback."),
    *signin.SERVER,
    *signin.IDENTITY,
    ProgramOption(
        ("--limit",),
        "limit",
        "Page size of index, details and conversions. Default: %default",
        "LIMIT",
        "int",
        10,
    ),
    ProgramOption(
        ("--marker",),
        "marker",
        "Id of the image, or conversion, after which a list begins.",
        "MARKER",
        "string",
    ),
    ProgramOption(
        ("--sort_key", "--sort-key"),
        "sort_key",
        "Attribute to sort by.",
        "KEY",
        "string",
        values="sort_key",
    ),
    ProgramOption(
        ("--sort_dir", "--sort-dir"),
        "sort_dir",
        "Sort direction.",
        "[desc|asc]",
        "string",
        values="sort_dir",
    ),
    ProgramOption(
        ("--format",),
        "format",
        "Output format: text for people, json for programs, or value for shell scripts: one line "
        "for each image, its values separated by tabs. Default: %default",
        "[text|json|value]",
        "string",
        "text",
        choices=("text", "json", "value"),
    ),
    ProgramOption(
        ("--long",),
        "long",
        "Show more of each image: status, visibility, owner and time in index; checksum, "
        "protection and times in show and details; UUID, tags and more of version 2 in show.",
    ),
    ProgramOption(
        ("--columns",),
        "columns",
        "What to show of each image: names of attributes and properties, separated by commas.",
        "NAME,...",
        "string",
        values="columns",
    ),
    ProgramOption(("--deleted",), "deleted", "List deleted images; for administrators only."),
    ProgramOption(
        ("--human",), "human", "Show sizes with units in tables and blocks, such as 1.46 GiB."
    ),
    ProgramOption(
        ("--file",),
        "file",
        "File to download to, or to upload from; - is standard input. Default: standard output, "
        "or standard input.",
        "FILE",
        "string",
        values="file",
    ),
    ProgramOption(
        ("-f", "--force"), "force", "Ask for no confirmation, and do not pause between pages."
    ),
    ProgramOption(("--dry-run",), "dry_run", "Print what would be done, without doing it."),
    ProgramOption(("--wait",), "wait", "Wait until the conversion has ended."),
    ProgramOption(
        ("--status",),
        "status",
        "List only the conversions in this state.",
        "STATUS",
        "string",
        values="conversion_status",
    ),
    ProgramOption(
        ("--can-share",), "can_share", "Allow the member to share the image with other members."
    ),
    ProgramOption(
        ("--keep-properties",),
        "keep_properties",
        "Keep the custom properties that an update does not name.",
    ),
)


#: The options for server and authentication, which every command uses.
CONNECTION = tuple(option.dest for option in (*signin.SERVER, *signin.IDENTITY))


# -- commands ------------------------------------------------------------------------------------


class CommandCall:
    """One run of a command: its `options`, its positional `args`, and a client, made on demand.

    `output` is the stream for data; standard output, except in tests.
    """

    def __init__(
        self, options: optparse.Values, args: Sequence[str], output: TextIO | None = None
    ):
        self.options = options
        self.args = [console.decoded(word) for word in args]
        self.output = sys.stdout if output is None else output
        self._client: glance_client.Client | None = None

    @property
    def client(self) -> glance_client.Client:
        """The client that the options describe. May raise exception.Error."""
        if self._client is None:
            self._client = signin.make_client(self.options)
        return self._client

    @property
    def server(self) -> str:
        """Host and port of the image service, as far as they are known."""
        known = self._client or self.options
        return f"{known.host}:{known.port}"

    def explain(self, err: BaseException, *, told: bool = True) -> str | None:
        """Print on standard error what is behind an error; `told` is whether its text was.

        Returns what to do about it, if that is known.
        """
        from glance.cli.user.screen import causes  # PERF: for errors only

        text = "" if told else causes.told_of(err)
        hint = self._hint(err)
        parts = [part for part in (text, hint) if part]
        if parts:
            console.complain("; ".join(parts))
        return hint

    def complain(self, err: BaseException, cause: BaseException | None) -> None:
        """Print an error in one line on standard error, with what to do about its `cause`."""
        hint = self._hint(cause) if cause is not None else None
        text = str(err) or type(err).__name__
        console.complain(f"{text.removesuffix('.')}; {hint}" if hint else text)

    def _hint(self, err: BaseException) -> str | None:
        from glance.cli.user.screen import causes  # PERF: for errors only

        about_sign_in = signin.hint_of(self.options, err, self._client)
        return about_sign_in or causes.hint_of(self._client, err)

    @property
    def for_programs(self) -> bool:
        """Whether the result is to be printed as JSON, or as values."""
        return bool(self.options.format != "text")

    @property
    def as_values(self) -> bool:
        """Whether the result is to be printed as values, for shell scripts."""
        return bool(self.options.format == "value")

    def print_json(self, value: Mapping[str, Any]) -> None:
        """Print an image as the whole result: as JSON, or its values, one in each line."""
        if self.as_values:
            from glance.cli.user.screen import columns  # PERF: for this format only

            self.print_values([text] for text in columns.texts(value, columns.VALUES))
            return
        self.output.write(f"{console.json_text(value)}\n")

    def print_values(self, rows: Iterable[Iterable[object]]) -> None:
        """Print a line for each row, its values separated by tabs."""
        for row in rows:
            line = "\t".join(console.printable(value) for value in row)
            self.output.write(f"{line}\n")

    def print_json_list(self, pages: Iterable[Iterable[object]]) -> None:
        """Print the members of all pages as one JSON array, each page as it arrives."""
        # NOTE: nothing is written before the first page has arrived, because it may be an error.
        separator = "[\n"
        for page in pages:
            for value in page:
                self.output.write(separator + textwrap.indent(console.json_text(value), "  "))
                separator = ",\n"
        self.output.write("[]\n" if separator == "[\n" else "\n]\n")

    def at_most(self, count: int) -> None:
        """Raise CommandFailed if there are more than `count` positional arguments."""
        if len(self.args) > count:
            surplus = " ".join(self.args[count:])
            raise console.CommandFailed(
                f"This command does not take the argument {console.printable(surplus)}"
            )

    def confirm(self, question: str) -> bool:
        """Ask for confirmation, except with `--force` and in dry runs; return the answer."""
        if self.options.force or self.options.dry_run:
            return True
        return console.ask(f"{question} [y/N] ", default=False)

    def dry_run(self, *lines: str) -> bool:
        """Print `lines` and return True if this is a dry run."""
        if self.options.dry_run:
            console.say(DRY_RUN, *lines)
        return bool(self.options.dry_run)


class Command(NamedTuple):
    """One command.

    `failure` is the phrase for the shared error handler, None if the command prints errors itself;
    errors of a `modern` command are one line on standard error. `options` lists the options that
    it uses besides those of the connection, `fields` the names that it takes before `=`; `values`
    names the words with which a shell completes its positional arguments.
    """

    name: str
    arguments: str
    summary: str
    group: str
    failure: str | None
    text: str
    run: Callable[[CommandCall], int]
    options: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    values: str | None = None
    modern: bool = False


#: Command -> the module below `glance.cli.user` that declares it, in the order of the usage text.
HOMES = {
    **dict.fromkeys(("cache-index", "cache-invalid", "cache-incomplete"), "cache"),
    **dict.fromkeys(("cache-prefetching", "cache-prefetch", "cache-purge"), "cache"),
    **dict.fromkeys(("cache-clear", "cache-reap-invalid", "cache-reap-stalled"), "cache"),
    "completion": "completion",
    **dict.fromkeys(("index", "details", "show"), "listing"),
    **dict.fromkeys(("convert", "conversions"), "conversions"),
    **dict.fromkeys(("conversion-show", "conversion-cancel"), "conversions"),
    **dict.fromkeys(("add", "update", "upload"), "images"),
    **dict.fromkeys(("image-members", "member-images"), "members"),
    **dict.fromkeys(("member-add", "member-delete", "members-replace"), "members"),
    **dict.fromkeys(("delete", "clear", "restore"), "removal"),
    "download": "download",
    "help": "command",
}


class _Commands(Mapping[str, Command]):
    """All commands by name. The module of a command is imported when somebody looks it up."""

    def __init__(self) -> None:
        self._declared: dict[str, Command] = {}

    def __getitem__(self, name: str) -> Command:
        if name not in self._declared:
            importlib.import_module(f"glance.cli.user.{HOMES[name]}")
        return self._declared[name]

    def __setitem__(self, name: str, entry: Command) -> None:
        self._declared[name] = entry

    def __iter__(self) -> Iterator[str]:
        return iter(HOMES)

    def __len__(self) -> int:
        return len(HOMES)


COMMANDS = _Commands()
#: Other names of commands.
ALIASES = {"list": "index", "ls": "index"}


def find(name: str) -> Command | None:
    """Return the command with this name or alias, None if there is none."""
    return COMMANDS.get(ALIASES.get(name, name))


Function = Callable[[CommandCall], int]


def command(
    name: str,
    arguments: str,
    summary: str,
    *,
    group: str = "Commands",
    failure: str | None = None,
    options: tuple[str, ...] = (),
    fields: tuple[str, ...] = (),
    values: str | None = None,
    modern: bool = False,
) -> Callable[[Function], Function]:
    """Declare a command; the docstring of the function is its help text.

    The function returns the exit code. It may raise `console.CommandRefused` or
    `console.CommandFailed`. With `failure`, every other exception becomes "Failed to <failure>.
    Got error:", unless --debug is given.
    """

    def declare(function: Function) -> Function:
        text = textwrap.dedent(function.__doc__ or "").strip("\n").rstrip()
        aliases = [alias for alias, real in ALIASES.items() if real == name]
        if aliases:
            text += f"\n\nOther names of this command: {', '.join(aliases)}."
        COMMANDS[name] = Command(
            name,
            arguments,
            summary,
            group,
            failure,
            text,
            function,
            options,
            fields,
            values,
            modern,
        )
        return function

    return declare
