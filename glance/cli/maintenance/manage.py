"""glance-manage: manage the registry's database and its schema.

The modules `migration` and `maintenance` of `glance.registry.db` do the work. Results go to stdout
and log lines to stderr, so that a script can read the version whatever the configuration of
logging is.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence

from glance.cli import streams
from glance.cli.daemon import paste, startup
from glance.cli.maintenance import manage_check, manage_copy, manage_data
from glance.cli.option import ProgramOption
from glance.cli.program import Program, Word
from glance.cli.user.screen import console
from glance.common import config, exception, log
from glance.registry.db import engine, migration, records
from glance.registry.db.upkeep import maintenance

#: The program whose configuration file names the database.
REGISTRY = "glance-registry"
LOG = logging.getLogger("glance-manage")
#: Number of images that one transaction of db_purge removes; the registry can write in between.
BATCH = 500
#: Seconds between two such transactions.
PAUSE = 0.1


def db_version(url: str, args: argparse.Namespace) -> None:
    """Print the version of the schema."""
    print(migration.db_version(url))


def version_control(url: str, args: argparse.Namespace) -> None:
    """Put the database under version control, at version 0."""
    migration.version_control(url)


def upgrade(url: str, args: argparse.Namespace) -> None:
    """Upgrade the schema to VERSION, or to the latest."""
    migration.upgrade(url, args.argument)


def downgrade(url: str, args: argparse.Namespace) -> None:
    """Downgrade the schema to VERSION."""
    if args.argument is None:
        raise exception.BadInputError("downgrade requires a version argument")
    migration.downgrade(url, args.argument)


def db_sync(url: str, args: argparse.Namespace) -> None:
    """Create or change the tables, up to schema version VERSION or the latest."""
    before, now = migration.db_sync(url, args.argument)
    if before == now:
        text = f"The database has schema version {now} already"
    elif before:
        text = f"Upgraded the database from schema version {before} to {now}"
    else:
        text = f"Created the tables of the database, with schema version {now}"
    # WIRE: nothing was ever printed to standard output.
    console.say(text, to=sys.stderr)


def db_purge(url: str, args: argparse.Namespace) -> None:
    """Remove the records of images deleted N days ago or earlier, at most M."""
    days = _number("--age-in-days", args.age_in_days, 0, 100_000)
    wanted = _number("--max-rows", args.max_rows, 1, 1_000_000_000)
    migration.require_current(url, "db_purge")
    deleted_before = records.utcnow() - datetime.timedelta(days=days)
    db = engine.Database(url)
    purged = 0
    complete = False
    try:
        while batch := maintenance.purge(db, deleted_before, min(BATCH, wanted - purged)):
            purged += batch
            if purged == wanted:
                break
            time.sleep(PAUSE)
        complete = True
    finally:
        db.dispose()
        # NOTE: also when it is interrupted: each batch was committed, and the next run goes on.
        if purged or complete:
            print(f"Removed the records of {purged} image{'' if purged == 1 else 's'}")


def _number(option: str, text: str, least: int, most: int) -> int:
    """Return the value of an option that takes a whole number from `least` to `most`."""
    if re.fullmatch(r"[0-9]{1,10}", text) and least <= int(text) <= most:
        return int(text)
    raise exception.BadInputError(
        f"{option} takes a whole number from {least} to {most}, not '{text}'"
    )


#: Command word -> its function, which takes the URL of the database and returns the exit code,
#: None for 0. Its docstring is the help text.
COMMANDS: dict[str, Callable[[str, argparse.Namespace], int | None]] = {
    **{
        run.__name__: run
        for run in (db_version, version_control, upgrade, downgrade, db_sync, db_purge)
    },
    **manage_check.COMMANDS,
    **manage_copy.COMMANDS,
    **manage_data.COMMANDS,
}

PROGRAM = Program(
    "glance-manage",
    "Manage the registry's database",
    """
The glance-manage program creates, upgrades and downgrades the tables of the registry's database,
removes the records of images that were deleted long ago, finds mismatches between records and
image data, restores deleted images, and copies the database to a file or to a database of another
kind. It works on the database that the configuration of
glance-registry names, or on the one in --sql-connection.

After the command, upgrade, downgrade and db_sync take a VERSION, which is a number, copy_database
takes the URL of a database, backup takes a file, restore takes the ID of an image, and
import_scrubber_datadir takes a directory.

The command orphans compares the stores with the database. It prints data that no record refers to,
with the number of bytes that its removal would free, and active images whose data is missing or
has another size. It changes nothing unless --delete is given.

The command check does the same, and also finds properties, members and entries of the scrub queue
whose image does not exist. It changes nothing unless --repair is given. Both commands work beside
the service: uploads in progress are not reported.

In the name of a command, a hyphen may stand for each underscore.

Results go to standard output; log lines go to standard error, or where the configuration says.
""",
    (
        Word(
            "<cmd>",
            "The command to execute.",
            {word: (run.__doc__ or "").rstrip(".") for word, run in COMMANDS.items()},
        ),
    ),
    (
        startup.COMMON,
        startup.LOGGING,
        (
            "Registry Database Options",
            (
                ProgramOption(
                    ("--sql-connection", "--sql_connection"),
                    "sql_connection",
                    "Database to work on, as a SQLAlchemy URL. Default: the registry's "
                    "sql_connection.",
                    "CONNECTION",
                    "string",
                ),
            ),
        ),
        (
            "Options of db_purge",
            (
                ProgramOption(
                    ("--age-in-days",),
                    "age_in_days",
                    "Minimum number of days since the deletion of an image. Default: %default",
                    "N",
                    "string",
                    "30",
                ),
                ProgramOption(
                    ("--max-rows",),
                    "max_rows",
                    "Maximum number of images to remove, with their properties and members. "
                    "Default: %default",
                    "M",
                    "string",
                    "100",
                ),
            ),
        ),
        manage_data.OPTIONS,
        manage_check.OPTIONS,
        manage_copy.OPTIONS,
    ),
    (
        (0, "The command succeeded; check and orphans found nothing, or removed all of it."),
        (
            1,
            "The command failed, or check and orphans could not look at everything; a line that "
            "begins with ERROR: on standard error, or the output, says why.",
        ),
        (2, "An option is not valid."),
        (
            3,
            "check or orphans found something that is not removed, or the image cannot be "
            "restored; standard error says why.",
        ),
    ),
)


@streams.program("glance-manage")
def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-manage."""
    parser = PROGRAM.parser()
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args(argv)
    if not args.words:
        parser.print_help()
        return 1
    word, args.argument = args.words[0], next(iter(args.words[1:]), None)
    command = COMMANDS.get(word.replace("-", "_"))
    # It is stopped as with Ctrl-C, and so leaves nothing half done.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        url = _connection(args)
        if command is None:
            raise exception.BadInputError(f"unrecognized command '{word}'")
        return command(url, args) or 0
    except exception.Error as err:
        LOG.debug("The command failed", exc_info=True)
        return startup.report(err)


def _connection(args: argparse.Namespace) -> str:
    """Set up logging and return the URL of the database."""
    path, conf = _configuration(args)
    args.conf = conf = startup.override(conf, args)
    log.setup(conf, "glance-manage", prints=True)
    log.leave_to_owners()
    if path:
        LOG.info("Using the configuration file %s", path)
    url: str | None = args.sql_connection or conf.sql_connection
    if not url:
        raise exception.ConfigError(
            f"{path} has no option sql_connection: name the database there or with "
            "--sql-connection"
        )
    given = "option --sql-connection" if args.sql_connection else f"{path}: option sql_connection"
    return manage_data.checked_url(url, given)


def _configuration(args: argparse.Namespace) -> tuple[str | None, config.Conf]:
    """Return the registry's file and settings; not required if the options name a database."""
    try:
        path = paste.find_config_file(REGISTRY, args.config_file)
    except exception.ConfigError:
        if args.config_file or not args.sql_connection:
            raise
        return None, config.Conf()
    return path, paste.load_shared_conf(path)
