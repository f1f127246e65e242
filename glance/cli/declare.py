"""What the `glance` program consists of: its options and commands, each declared once.

The command modules (`glance.cli.images`, `glance.cli.members`) declare their commands here;
parser, usage text and `help` in `glance.cli.command` are made from these tables. What a command
does is in its module, how it talks to a person in `glance.cli.console`.
"""

from __future__ import annotations

import dataclasses
import inspect
import optparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from glance import client as glance_client
from glance.cli import console

DRY_RUN = "Dry run. We would have done the following:"


# -- options: all are global, a command ignores those it has no use for ---------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """One option; `env` are the variables that stand in for it, first one first."""

    names: tuple[str, ...]
    dest: str
    help: str
    metavar: str | None = None
    kind: str | None = None
    default: Any = None
    env: tuple[str, ...] = ()

    def add_to(self, parser: optparse.OptionParser, environ: Mapping[str, str]) -> None:
        default = next((environ[name] for name in self.env if environ.get(name)), self.default)
        if self.kind is None:
            parser.add_option(
                *self.names, dest=self.dest, default=False, action="store_true", help=self.help
            )
            return
        parser.add_option(
            *self.names,
            dest=self.dest,
            default=default,
            type=self.kind,
            metavar=self.metavar,
            help=self.help,
        )


OPTIONS: tuple[Option, ...] = (
    Option(("-v", "--verbose"), "verbose", "Print more, and how long it took."),
    Option(("-d", "--debug"), "debug", "Let errors through with a traceback."),
    Option(
        ("-H", "--host"),
        "host",
        "Address of the Glance API server. Default: %default",
        "ADDRESS",
        "string",
        "0.0.0.0",
    ),
    Option(
        ("-p", "--port"),
        "port",
        "Port of the Glance API server. Default: %default",
        "PORT",
        "int",
        9292,
    ),
    Option(("--use-ssl",), "use_ssl", "Speak https with the server and verify its certificate."),
    Option(
        ("--ca-file",),
        "ca_file",
        "File of the authorities that the server's certificate is verified against.",
        "FILE",
        "string",
    ),
    Option(("--insecure",), "insecure", "Accept any certificate of the server."),
    Option(
        ("--timeout",),
        "timeout",
        "Seconds to wait for the server before giving up.",
        "SECONDS",
        "float",
    ),
    Option(
        ("-A", "--auth_token", "--auth-token"),
        "auth_token",
        "Token to send; no sign-in is attempted then. Also OS_AUTH_TOKEN.",
        "TOKEN",
        "string",
        env=("OS_AUTH_TOKEN",),
    ),
    Option(
        ("--os-auth-user",),
        "username",
        "User to sign in as. Also OS_AUTH_USER.",
        "USER",
        "string",
        env=("OS_AUTH_USER", "OS_USERNAME"),
    ),
    Option(
        ("--os-auth-key",),
        "password",
        "Password to sign in with; better kept in OS_AUTH_KEY.",
        "KEY",
        "string",
        env=("OS_AUTH_KEY", "OS_PASSWORD"),
    ),
    Option(
        ("--os-auth-tenant",),
        "tenant",
        "Tenant to sign in for. Also OS_AUTH_TENANT.",
        "TENANT",
        "string",
        env=("OS_AUTH_TENANT", "OS_TENANT_NAME"),
    ),
    Option(
        ("--os-auth-url",),
        "auth_url",
        "URL of the identity service. Also OS_AUTH_URL.",
        "URL",
        "string",
        env=("OS_AUTH_URL",),
    ),
    Option(
        ("--os-auth-strategy",),
        "strategy",
        "How to sign in: noauth or keystone. Also OS_AUTH_STRATEGY. Default: %default",
        "STRATEGY",
        "string",
        "noauth",
        env=("OS_AUTH_STRATEGY",),
    ),
    Option(
        ("--limit",),
        "limit",
        "Page size of index and details. Default: %default",
        "LIMIT",
        "int",
        10,
    ),
    Option(("--marker",), "marker", "Image id after which a listing begins.", "MARKER", "string"),
    Option(("--sort_key", "--sort-key"), "sort_key", "Attribute to sort by.", "KEY", "string"),
    Option(("--sort_dir", "--sort-dir"), "sort_dir", "Sort direction.", "[desc|asc]", "string"),
    Option(("-f", "--force"), "force", "Ask no questions and make no pause between pages."),
    Option(("--dry-run",), "dry_run", "Print what would be done, and do nothing."),
    Option(("--can-share",), "can_share", "Let the member share the image with further members."),
    Option(
        ("--keep-properties",),
        "keep_properties",
        "Let update keep the custom properties that it does not name.",
    ),
)


# -- commands ------------------------------------------------------------------------------------


class Call:
    """One run of a command: its `options`, its positional `args`, and the client, made at need."""

    def __init__(self, options: optparse.Values, args: Sequence[str]):
        self.options = options
        self.args = list(args)
        self._client: glance_client.Client | None = None

    @property
    def client(self) -> glance_client.Client:
        """The client that the options describe. May raise exception.Error."""
        if self._client is None:
            options = self.options
            names = ("username", "password", "tenant", "auth_url", "strategy")
            self._client = glance_client.Client(
                options.host,
                options.port,
                options.use_ssl,
                options.auth_token,
                {name: getattr(options, name) for name in names},
                timeout=options.timeout,
                ca_file=options.ca_file,
                insecure=options.insecure,
            )
        return self._client

    def at_most(self, count: int) -> None:
        """Refuse more positional arguments than the command takes."""
        if len(self.args) > count:
            surplus = " ".join(self.args[count:])
            print(f"This command does not take the argument {surplus}", file=sys.stderr)
            raise console.Refused

    def confirm(self, question: str) -> bool:
        """Ask before something is removed; `--force` and dry runs ask nothing."""
        if self.options.force or self.options.dry_run:
            return True
        return console.ask(f"{question} [y/N] ", default=False)

    def dry_run(self, *lines: str) -> bool:
        """Print `lines` and return True if this is a dry run."""
        if self.options.dry_run:
            print(DRY_RUN)
            for line in lines:
                print(line)
        return bool(self.options.dry_run)


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One command. `failure` is the phrase of the shared error handler, None if it has its own."""

    name: str
    arguments: str
    summary: str
    group: str
    failure: str | None
    text: str
    run: Callable[[Call], int]


COMMANDS: dict[str, Command] = {}


def command(
    name: str,
    arguments: str,
    summary: str,
    *,
    group: str = "Commands",
    failure: str | None = None,
) -> Callable[[Callable[[Call], int]], Callable[[Call], int]]:
    """Declare a command; the docstring of the function is its help text.

    The function returns the exit code. It may raise `console.Refused`. With `failure`, every other
    exception becomes "Failed to <failure>. Got error:", unless --debug is given.
    """

    def declare(function: Callable[[Call], int]) -> Callable[[Call], int]:
        text = inspect.cleandoc(function.__doc__ or "")
        COMMANDS[name] = Command(name, arguments, summary, group, failure, text, function)
        return function

    return declare
