"""The commands of glance-manage for image data: orphans, restore, encryption, old queues.

They are part of the table in `glance.cli.maintenance.manage`. `glance.scrubber` and
`glance.registry.db` do the work; locations and credentials are never printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import logging
from collections.abc import Callable
from typing import Any

from glance import store
from glance.cli.daemon import paste, startup
from glance.cli.option import ProgramOption
from glance.cli.user.screen import console
from glance.common import config, exception
from glance.image import cipher, fields
from glance.registry.db import engine, migration
from glance.registry.db.upkeep import maintenance
from glance.scrubber import essex, orphans, recovery
from glance.store import location

LOG = logging.getLogger("glance-manage")

FOUND = 3
#: Programs whose configuration names the stores; the first one with a file is used.
STORE_PROGRAMS = ("glance-scrubber", "glance-api")

OPTIONS = (
    "Options of check, orphans and restore",
    (
        ProgramOption(
            ("--store-config-file",),
            "store_config_file",
            "Configuration file of glance-scrubber or glance-api, which names the stores. "
            "Default: the first of these two that is found in the usual places.",
            "PATH",
            "string",
            values="file",
        ),
        ProgramOption(
            ("--older-than",),
            "older_than",
            "Minimum age, in seconds, of data without a record. Younger data may belong to an "
            "upload in progress. Default: %default",
            "SECONDS",
            "string",
            "86400",
        ),
        ProgramOption(
            ("--delete",),
            "delete",
            "With orphans, remove the data without a record that was found. Without this option, "
            "nothing is changed.",
        ),
        ProgramOption(
            ("--format",),
            "format",
            "Output format of check and orphans.",
            "FORMAT",
            "string",
            "table",
            choices=("table", "json"),
        ),
    ),
)


def orphans_command(url: str, args: argparse.Namespace) -> int:
    """List data without a record, and records without their data."""
    if args.repair:
        raise exception.BadInputError("--repair belongs to check: use orphans --delete")
    min_age = seconds("--older-than", args.older_than)
    with CurrentDatabase(url, args.conf) as db:
        surveyor = orphans.OrphanScan(db, stores_of(args), min_age)
        found = surveyor.survey()
        if args.delete:
            for stray in found.strays:
                surveyor.remove(stray)
    if args.format == "json":
        print(json.dumps(_document(found), indent=2))
    else:
        _print_survey(found)
    if found.failed or any(stray.removed is False for stray in found.strays):
        return 1
    left = [stray for stray in found.strays if not stray.removed]
    return FOUND if left or found.bereft else 0


def restore(url: str, args: argparse.Namespace) -> int:
    """Restore the deleted image ID, if its data has not been removed yet."""
    if args.argument is None:
        raise exception.BadInputError("restore requires an image id")
    with CurrentDatabase(url, args.conf) as db:
        try:
            image = recovery.restore(db, stores_of(args), fields.path_id(args.argument))
        except (exception.NotFound, exception.Conflict, exception.StoreError) as err:
            startup.report(err)
            return FOUND
    print(f"Image {image['id']} is active again")
    return 0


def encrypt_locations(url: str, args: argparse.Namespace) -> int:
    """Encrypt all locations with metadata_encryption_key, or decrypt them if it is not set."""
    with CurrentDatabase(url, args.conf) as db:
        changed, failed = maintenance.reseal(db)
    how = "Encrypted" if db.cipher.seals else "Decrypted"
    print(f"{how} {changed} location{'' if changed == 1 else 's'}")
    return _require_readable(failed)


def rewrite_locations(url: str, args: argparse.Namespace) -> int:
    """Rewrite the locations of older releases in the current form."""
    with CurrentDatabase(url, args.conf) as db:
        changed, failed = maintenance.reseal(db, rewrite=_as_written_now)
    print(f"Rewrote {changed} location{'' if changed == 1 else 's'}")
    return _require_readable(failed)


def _as_written_now(text: str) -> str:
    try:
        return location.get_location_from_uri(text).get_store_uri()
    except (exception.UnknownScheme, exception.BadStoreUri):
        # A location of an unknown driver, or an invalid one, stays unchanged.
        return text


def _require_readable(failed: int) -> int:
    if failed:
        raise exception.BadInputError(
            f"{failed} locations could not be decrypted: add the keys that they were encrypted "
            "with to metadata_encryption_old_keys"
        )
    return 0


def import_scrubber_datadir(url: str, args: argparse.Namespace) -> int:
    """Add the files in DIR, the scrubber_datadir of Essex, to the scrub queue."""
    if args.argument is None:
        raise exception.BadInputError("import_scrubber_datadir requires a directory")
    with CurrentDatabase(url, args.conf) as db:
        done = essex.take_over(db, args.argument)
    print(f"Imported {done.taken} file{'' if done.taken == 1 else 's'}")
    for name, reason in done.left:
        console.say(f"Skipped {name}: {reason}")
    return 1 if done.left else 0


#: Command word -> function, for the table of `glance.cli.maintenance.manage`.
COMMANDS: dict[str, Callable[[str, argparse.Namespace], int]] = {
    "orphans": orphans_command,
    "restore": restore,
    "encrypt_locations": encrypt_locations,
    "rewrite_locations": rewrite_locations,
    "import_scrubber_datadir": import_scrubber_datadir,
}


class CurrentDatabase:
    """The database at a URL, with the schema of this release, for the duration of a command."""

    def __init__(self, url: str, conf: config.Conf):
        migration.require_current(url)
        self._db = engine.Database(url, locations=cipher.from_conf(conf))

    def __enter__(self) -> engine.Database:
        return self._db

    def __exit__(self, *exc_info: object) -> None:
        self._db.dispose()


def checked_url(url: str, given: str) -> str:
    """Return the URL of a database, to which nothing connects yet.

    `given` is where it stands: an option, with the file that has it, or an argument. Raises
    ConfigError, which names that, if the URL cannot be used.
    """
    try:
        engine.Database(url).dispose()
    except exception.ConfigError as err:
        problems = [each.replace("option sql_connection", given, 1) for each in err.problems]
        raise exception.ConfigError(problems) from None
    return url


def stores_of(args: argparse.Namespace) -> store.Stores:
    """Return the stores that the configuration of the scrubber or the API enables."""
    program, path = _store_file(args.store_config_file)
    LOG.info("Using the stores that %s configures", path)
    conf = paste.load_shared_conf(path)
    sections = paste.load_sections(program, path)
    merged = conf.merged(sections[-1].own, conf.source) if sections else conf
    startup.load_drivers(merged)
    merged.check()
    # SECURITY: the stores make and try their directories, which may belong to another user.
    startup.work_in("filesystem_store_datadir", conf, program, path)
    return store.create_stores(merged)


def _store_file(named: str | None) -> tuple[str, str]:
    """Return the program of the configuration file, and the path of the file.

    The file needs no application; that of the program which it has may override options.
    """
    first, *others = STORE_PROGRAMS
    path = paste.find_config_file(first, named, others=others)
    found = [each for each in STORE_PROGRAMS if paste.load_sections(each, path)]
    return (found or [first])[0], path


def seconds(option: str, text: str) -> int:
    """Return the value of an option that takes seconds. Raises BadInputError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise exception.BadInputError(f"{option} takes a whole number of seconds, not '{text}'")
    return int(text)


def shown_time(seconds: float | None) -> str | None:
    """Return a time since the epoch as text of ISO 8601, in UTC."""
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _document(found: orphans.OrphanReport) -> dict[str, Any]:
    return {
        "data_without_record": [
            {
                "store": stray.store,
                "image_id": stray.image_id,
                "size": stray.size,
                "modified": shown_time(stray.modified),
                "removed": bool(stray.removed),
            }
            for stray in found.strays
        ],
        "records_without_data": [dataclasses.asdict(image) for image in found.bereft],
        "reclaimable_bytes": found.reclaimable,
        "too_young": found.young,
        "stores_that_cannot_list": found.unlisted,
        "stores_that_failed": found.failed,
    }


def _print_survey(found: orphans.OrphanReport) -> None:
    print("Data without a record:")
    for stray in found.strays:
        size = "?" if stray.size is None else stray.size
        mark = {None: "", True: "  removed", False: "  NOT REMOVED"}[stray.removed]
        console.say(
            f"  {stray.store} {stray.image_id}  {size} bytes  {shown_time(stray.modified)}{mark}"
        )
    left = sum(not stray.removed for stray in found.strays)
    print(f"  {left} left, {found.reclaimable} bytes reclaimable; {found.young} too young to tell")
    print("Records without their data:")
    for image in found.bereft:
        console.say(
            f"  image {image.image_id} in {image.store}, {image.size} bytes: {image.problem}"
        )
    print(f"  {len(found.bereft)} in total")
    for name in found.unlisted:
        print(f"Store {name} cannot list its data")
    for name in found.failed:
        print(f"Store {name} could not be checked; the log says why")
