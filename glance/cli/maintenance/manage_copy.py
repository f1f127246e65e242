"""The commands of glance-manage that copy the whole database: copy_database, backup.

They are part of the table in `glance.cli.maintenance.manage`. `glance.registry.db.upkeep.copying`
and `backup` do the work. Passwords in URLs are never printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from glance.cli.daemon import paste
from glance.cli.maintenance import manage_data
from glance.cli.option import ProgramOption
from glance.cli.user.screen import console
from glance.common import config, exception
from glance.registry.db import engine, migration
from glance.registry.db.upkeep import backup, copying

OPTIONS = (
    "Options of copy_database",
    (
        ProgramOption(
            ("--to-config-file",),
            "to_config_file",
            "Configuration file of the registry that will use the copy; its sql_connection names "
            "the target. Use this instead of TO, so that no password is on the command line.",
            "PATH",
            "string",
            values="file",
        ),
        ProgramOption(
            ("--overwrite",),
            "overwrite",
            "Remove all rows of the target first. Without this option, the target must be empty.",
        ),
    ),
)


def copy_database(url: str, args: argparse.Namespace) -> None:
    """Copy the database to the empty one at the URL TO, of any kind, and verify the copy."""
    to = _target(args)
    target = engine.Database(to)
    with manage_data.CurrentDatabase(url, config.Conf()) as source:
        migration.create_missing(to)
        try:
            rows = copying.copy(source, target, overwrite=args.overwrite, done=_print_table)
        finally:
            target.dispose()
    console.say(f"Copied {rows} rows to {config.mask_url(to)}; all counts and checksums are equal")


def _target(args: argparse.Namespace) -> str:
    """Return the URL of the target. Raises BadInputError and ConfigError."""
    if (args.argument is None) == (args.to_config_file is None):
        raise exception.BadInputError(
            "copy_database requires the URL of the target, or --to-config-file"
        )
    if args.argument is not None:
        return manage_data.checked_url(str(args.argument), "TO")
    path = paste.find_config_file("glance-registry", args.to_config_file)
    url: str | None = paste.load_shared_conf(path).sql_connection
    if not url:
        raise exception.ConfigError(f"{path} has no option sql_connection")
    return manage_data.checked_url(url, f"{path}: option sql_connection")


def _print_table(table: str, rows: int) -> None:
    print(f"{table}: {rows} row{'' if rows == 1 else 's'}")


def backup_command(url: str, args: argparse.Namespace) -> None:
    """Write a verified copy of the SQLite database to FILE, while the services run."""
    if not args.argument or args.argument == "-":
        raise exception.BadInputError("backup requires the name of a file")
    size = backup.backup(url, args.argument)
    console.say(f"Wrote {size} bytes to {args.argument}; the integrity check found no errors")


#: Command word -> function, for the table of `glance.cli.maintenance.manage`.
COMMANDS: dict[str, Callable[[str, argparse.Namespace], None]] = {
    "copy_database": copy_database,
    "backup": backup_command,
}
