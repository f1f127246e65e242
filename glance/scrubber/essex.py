"""The scrub queue of the Essex release: a directory of files, imported once.

Each file is named after an image id and has two lines: the storage URI, and when it is due, in
seconds since the epoch. Because the URIs are in clear, a file is removed as soon as its image is
in the queue of the database. For operators: `glance-manage import_scrubber_datadir`.
"""

from __future__ import annotations

import dataclasses
import datetime
import os

from glance.common import exception
from glance.identity.context import RequestContext
from glance.image import fields
from glance.registry.db import api, engine, scrub_queue

#: The file in which Essex keeps the time of its last cleanup.
HOUSEKEEPING = ".cleanup"
_LONGEST = 128 * 1024
_SEEING = RequestContext(is_admin=True, show_deleted=True)


@dataclasses.dataclass(slots=True)
class Imported:
    """How many files were imported, and the names of those that were not, with reasons."""

    taken: int = 0
    left: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def take_over(db: engine.Database, directory: str) -> Imported:
    """Add what the files of `directory` name to the queue, and remove the files.

    An image whose deletion is complete needs no entry. Files of images that are not deleted, or
    that the registry does not know, stay: an operator has to check them. Raises BadInputError if
    the directory cannot be read.
    """
    try:
        names = sorted(os.listdir(directory))
    except OSError as err:
        raise exception.BadInputError(f"{directory} cannot be read: {err.strerror}") from err
    done = Imported()
    for name in names:
        if name == HOUSEKEEPING:
            continue
        try:
            _take_over(db, os.path.join(directory, name), name)
            done.taken += 1
        except (exception.BadInputError, exception.NotFound, exception.Conflict) as err:
            done.left.append((name, str(err)))
    return done


def _take_over(db: engine.Database, path: str, name: str) -> None:
    image_id = fields.parse_id(name)
    if image_id is None:
        raise exception.BadInputError("its name is not an image id")
    location, due_at = _read(path)
    image = api.image_get(db, _SEEING, image_id)
    if not image["deleted"]:
        raise exception.Conflict(f"its image is {image['status']}")
    still_there = image["status"] == "pending_delete"
    if still_there:
        scrub_queue.enter_again(db, image["id"], location, due_at)
    try:
        os.unlink(path)
    except OSError as err:
        raise exception.BadInputError(
            f"it is in the queue, but cannot be removed: {err.strerror}"
        ) from err


def _read(path: str) -> tuple[str, datetime.datetime]:
    """Return the location and the time in a file. BadInputError if it has another form."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            lines = file.read(_LONGEST).decode("utf-8").splitlines()
    except OSError as err:
        raise exception.BadInputError(f"it cannot be read: {err.strerror}") from err
    except UnicodeDecodeError:
        lines = []
    try:
        location, seconds = (line.strip() for line in lines[:2])
        moment = datetime.datetime.fromtimestamp(int(float(seconds)), datetime.UTC)
    except (ValueError, OverflowError, OSError):
        raise exception.BadInputError("it does not have the two lines of a queue file") from None
    if "://" not in location:
        raise exception.BadInputError("its first line is not a location")
    return location, moment.replace(tzinfo=None)
