"""glance-manage: look after the schema of the registry's database.

The work is done by `glance.registry.db.migration`. Results go to stdout and log lines to stderr,
so that a script can read a version whatever the configuration says about logging.

Exit codes: 0 done, 1 it failed (one line `ERROR: ...` on stderr), 2 an option is wrong.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from glance.cli import services
from glance.common import config, deploy, exception, log
from glance.registry.db import migration

PROGRAM = "glance-registry"
LOG = logging.getLogger("glance-manage")


def db_version(url: str, version: str | None) -> None:
    """Print the schema's version."""
    print(migration.db_version(url))


def version_control(url: str, version: str | None) -> None:
    """Put the database under version control, at version 0."""
    migration.version_control(url)


def upgrade(url: str, version: str | None) -> None:
    """Upgrade the schema to VERSION, or to the latest."""
    migration.upgrade(url, version)


def downgrade(url: str, version: str | None) -> None:
    """Downgrade the schema to VERSION."""
    if version is None:
        raise exception.BadInputError("downgrade requires a version argument")
    migration.downgrade(url, version)


def db_sync(url: str, version: str | None) -> None:
    """Do what is needed to bring a database to VERSION, or to the latest."""
    migration.db_sync(url, version)


#: Command word -> what it does, with a version if one was given, and its arguments for the help.
COMMANDS: dict[str, tuple[Callable[[str, str | None], None], str]] = {
    "db_version": (db_version, ""),
    "version_control": (version_control, ""),
    "upgrade": (upgrade, "[VERSION]"),
    "downgrade": (downgrade, "VERSION"),
    "db_sync": (db_sync, "[VERSION]"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-manage."""
    parser = _parser()
    args = parser.parse_intermixed_args(argv)
    if not args.words:
        parser.print_help()
        return 1
    word, version = args.words[0], next(iter(args.words[1:]), None)
    try:
        url = _connection(args)
        if word not in COMMANDS:
            raise exception.BadInputError(f"unrecognized command '{word}'")
        COMMANDS[word][0](url, version)
    except exception.Error as err:
        LOG.debug("The command failed", exc_info=True)
        return services.report(err)
    return 0


def _connection(args: argparse.Namespace) -> str:
    """Set up logging and return the URL of the database that is meant."""
    path, conf = _configuration(args)
    conf = services.override(conf, args)
    log.setup(conf, "glance-manage")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)
    if path:
        LOG.info("Using the configuration file %s", path)
    url: str | None = args.sql_connection or conf.sql_connection
    if not url:
        raise exception.ConfigError(
            f"{path} has no option sql_connection: name the database there or with "
            "--sql-connection"
        )
    return url


def _configuration(args: argparse.Namespace) -> tuple[str | None, config.Conf]:
    """Return the registry's settings and their file; none are needed if the database is named."""
    try:
        path = deploy.find_config_file(PROGRAM, args.config_file)
    except exception.ConfigError:
        if args.config_file or not args.sql_connection:
            raise
        return None, config.Conf()
    return path, deploy.load_conf(PROGRAM, path)


def _parser() -> argparse.ArgumentParser:
    usages = {f"{word} {arguments}": run for word, (run, arguments) in COMMANDS.items()}
    parser = argparse.ArgumentParser(
        prog="glance-manage",
        usage="%(prog)s [options] <cmd>",
        description="Look after the schema of the registry's database.",
        epilog="\n".join(
            ["cmd is one of:"] + [f"  {k:<20}{v.__doc__}" for k, v in usages.items()]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    services.add_common_options(parser, "glance-manage")
    services.add_logging_options(parser)
    group = parser.add_argument_group("Registry Database Options")
    group.add_argument(
        "--sql-connection",
        "--sql_connection",
        metavar="CONNECTION",
        help="database to work on, as a SQLAlchemy URL (default: the registry's sql_connection)",
    )
    parser.add_argument("words", nargs="*", metavar="cmd", help=argparse.SUPPRESS)
    return parser
