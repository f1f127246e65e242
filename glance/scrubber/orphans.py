"""Orphans in both directions: data that no record points to, records whose data is missing.

For operators (`glance-manage orphans` and `check`): crashes, restored backups and other programs
leave them. The stores are listed once and compared with the registry's database; each suspect is
checked again individually before it is reported, because images are created and deleted meanwhile.
Nothing is reported by age alone, and nothing younger than the caller's limit is: an upload in
progress has data that no record names yet.

SECURITY: what is returned for display holds no locations.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from glance import store
from glance.common import exception
from glance.identity.context import RequestContext
from glance.image import cipher, fields
from glance.registry.db import api, engine, scrub_queue
from glance.registry.db.upkeep import maintenance
from glance.store import base

LOG = logging.getLogger(__name__)
T = TypeVar("T")

_SEEING = RequestContext(is_admin=True, show_deleted=True)
#: Statuses in which an upload may have put data into a store that its record does not name yet.
_ARRIVING = ("queued", "saving")


MISSING, DIFFERS, UNKNOWN = "missing", "differs", "unknown"


@dataclasses.dataclass(slots=True)
class OrphanObject:
    """An object that no record points to. `removed` is the result of `remove`, None before it."""

    store: str
    image_id: str
    size: int | None
    modified: float | None
    location: str = dataclasses.field(repr=False)
    removed: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class MissingData:
    """An active image whose data does not match its record; `problem` describes how.

    `kind` is `MISSING`, `DIFFERS`, or `UNKNOWN` for data that cannot be looked at now.
    """

    image_id: int
    store: str
    size: int
    problem: str
    kind: str


@dataclasses.dataclass(slots=True)
class OrphanReport:
    """The result of a scan. `young` counts stray objects that are too young to be sure.

    `unlisted` names the stores that cannot list, whose records were checked one by one, and
    `failed` those that could not be listed now: nothing is known about them.
    """

    strays: list[OrphanObject] = dataclasses.field(default_factory=list)
    bereft: list[MissingData] = dataclasses.field(default_factory=list)
    young: int = 0
    unlisted: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)

    @property
    def reclaimable(self) -> int:
        """The size in bytes of the stray objects that still exist."""
        return sum(stray.size or 0 for stray in self.strays if not stray.removed)


class OrphanScan:
    """Compares the stores with the database of a registry."""

    def __init__(self, db: engine.Database, stores: store.Stores, min_age: float):
        """`min_age`: how old an object must be, in seconds, to count as stray."""
        self.db, self.stores, self.min_age = db, stores, min_age

    def survey(self) -> OrphanReport:
        """Scan all stores and all records; return all that was found. Raises like `scan`."""
        found = OrphanReport()
        for orphan in self.scan(found):
            if isinstance(orphan, OrphanObject):
                found.strays.append(orphan)
            else:
                found.bereft.append(orphan)
        return found

    def scan(self, summary: OrphanReport) -> Iterator[OrphanObject | MissingData]:
        """Scan all stores and all records; yield what is found, the stray objects first.

        `summary` gets all but these. Raises ServiceUnavailable when the database is unavailable,
        ConfigError when locations cannot be decrypted (the data that they point to would look like
        orphans). ServiceUnavailable also means that the disk of temporary files is full.

        PERF: the names of all objects are in a temporary file, so that the memory does not grow
        with the number of images. Single objects are requested from the stores only where the list
        does not match the record.
        """
        with _Names() as names:
            # NOTE: the records first: an image that is deleted meanwhile is checked again.
            names.refer(self._referenced_names())
            for driver in self.stores:
                if not driver.is_configured():
                    # It is read-only, so no data can be left behind there.
                    continue
                if base.Capability.LIST not in driver.capabilities:
                    if base.Capability.WRITE in driver.capabilities:
                        summary.unlisted.append(driver.name)
                    continue
                try:
                    yield from self._strays(driver, names, summary)
                except exception.StoreError as err:
                    LOG.error(
                        "Store %s cannot be listed: %s", driver.name, exception.described(err)
                    )
                    summary.failed.append(driver.name)
            yield from self._images_without_data(names, summary.failed)

    def remove(self, stray: OrphanObject) -> bool:
        """Remove a stray object unless a record points to it now; return whether it is gone."""
        if not self._is_stray(stray.image_id, stray.location):
            LOG.warning("Image %s: a record now refers to its data", stray.image_id)
            stray.removed = False
            return False
        try:
            self.stores.delete(stray.location)
            stray.removed = True
        except exception.StoreObjectNotFound:
            stray.removed = True
        except exception.StoreError as err:
            LOG.error(
                "Stray data of image %s was not removed: %s",
                stray.image_id,
                exception.described(err),
            )
            stray.removed = False
        return stray.removed

    # -- data without a record -------------------------------------------------------------------

    def _referenced_names(self) -> Iterator[str]:
        """Yield the names of all objects that a record or the scrub queue points to."""
        for image in maintenance.images_with_data(self.db):
            if image["location"] is not None:
                yield self.stores.name_of(_readable(image["location"]))
        for location in scrub_queue.locations(self.db):
            yield self.stores.name_of(_readable(location))

    def _strays(
        self, driver: base.Store, names: _Names, summary: OrphanReport
    ) -> Iterator[OrphanObject]:
        for entry in driver.list_objects():
            name = self.stores.name_of(entry.location)
            names.add_present(name, entry.size)
            if names.is_referenced(name):
                continue
            if entry.modified is not None and time.time() - entry.modified < self.min_age:
                summary.young += 1
            elif self._is_stray(entry.image_id, entry.location):
                yield OrphanObject(
                    driver.name, entry.image_id, entry.size, entry.modified, entry.location
                )

    def _is_stray(self, image_id: str, location: str) -> bool:
        """Check the current record of the image whose id the object has in its name."""
        number = fields.parse_id(image_id)
        if number is None:
            return True
        try:
            image = api.image_get(self.db, _SEEING, number)
        except exception.NotFound:
            return True
        if image["status"] in _ARRIVING and not image["deleted"]:
            return False
        if image["status"] in fields.WITH_DATA and not image["deleted"] and not image["location"]:
            # The record has lost its location; this may be all that is left of the image.
            return False
        if image["status"] == "deleted" or not image["location"]:
            return True
        return self.stores.name_of(_readable(image["location"])) != self.stores.name_of(location)

    # -- records without data --------------------------------------------------------------------

    def _images_without_data(self, names: _Names, failed: list[str]) -> Iterator[MissingData]:
        for image in maintenance.images_with_data(self.db):
            location = image["location"]
            if image["status"] not in fields.WITH_DATA or image["deleted"] or location is None:
                continue
            try:
                driver = self.stores.for_uri(location)
                ours = self.stores.owns(location, str(image["id"]))
            except (exception.UnknownScheme, exception.BadStoreUri) as err:
                problem = type(err).__name__
                yield MissingData(image["id"], "-", image["size"] or 0, problem, UNKNOWN)
                continue
            if not ours or driver.name in failed:
                continue
            size = names.size_of(self.stores.name_of(location))
            if size is not None and size in (image["size"], _UNKNOWN_SIZE):
                continue
            found = self._problem_of(image["id"])
            if found is not None:
                yield MissingData(image["id"], driver.name, image["size"] or 0, *found)

    def _problem_of(self, image_id: int) -> tuple[str, str] | None:
        """Return what is wrong with the data of an image now, and its kind; None for nothing."""
        try:
            image = api.image_get(self.db, RequestContext(is_admin=True), image_id)
            if image["location"] is None or image["status"] not in fields.WITH_DATA:
                return None
            size = self.stores.get_size(image["location"])
        except exception.ImageNotFound:
            return None
        except exception.StoreObjectNotFound:
            # NOTE: it may have been removed since, with its image.
            return ("missing", MISSING) if self._is_active(image_id) else None
        except exception.StoreError as err:
            return f"cannot be checked: {type(err).__name__}", UNKNOWN
        if size is None or size == image["size"]:
            return None
        return f"has {size} bytes", DIFFERS

    def _is_active(self, image_id: int) -> bool:
        try:
            image = api.image_get(self.db, RequestContext(is_admin=True), image_id)
        except exception.ImageNotFound:
            return False
        return bool(image["status"] in fields.WITH_DATA)


def _in_file(method: Callable[..., T]) -> Callable[..., T]:
    """Turn errors of a temporary file into ServiceUnavailable."""

    @functools.wraps(method)
    def call(self: Any, *args: Any) -> T:
        try:
            return method(self, *args)
        except sqlite3.Error as err:
            LOG.error("The temporary file of the scan cannot be used: %s", err)
            raise exception.ServiceUnavailable(
                "The disk of temporary files is full or cannot be written; TMPDIR names another"
            ) from err

    return call


#: Stands for the size of an object whose store does not report it.
_UNKNOWN_SIZE = -1


class _Names:
    """Names of objects, those that records refer to and those that exist, in a temporary file.

    A context manager; the file has no name in any directory and ends with it. Instead of the
    names it holds their hashes, of 64 bits.
    """

    @_in_file
    def __init__(self) -> None:
        # NOTE: an empty name stands for a database in a temporary file, see "Automatic Deletion of
        # a Database" at https://www.sqlite.org/inmemorydb.html.
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.executescript(
            "PRAGMA cache_size = -16384;"
            "CREATE TABLE referenced (name INTEGER PRIMARY KEY);"
            "CREATE TABLE present (name INTEGER PRIMARY KEY, size INTEGER);"
            "BEGIN"
        )

    def __enter__(self) -> _Names:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._file.close()

    @_in_file
    def refer(self, names: Iterable[str]) -> None:
        rows = ((hash(name),) for name in names)
        self._file.executemany("INSERT OR IGNORE INTO referenced VALUES (?)", rows)

    @_in_file
    def is_referenced(self, name: str) -> bool:
        found = self._file.execute("SELECT 1 FROM referenced WHERE name = ?", (hash(name),))
        return found.fetchone() is not None

    @_in_file
    def add_present(self, name: str, size: int | None) -> None:
        row = hash(name), _UNKNOWN_SIZE if size is None else size
        self._file.execute("INSERT OR REPLACE INTO present VALUES (?, ?)", row)

    @_in_file
    def size_of(self, name: str) -> int | None:
        """Return the size of an object that exists, `_UNKNOWN_SIZE` or None."""
        found = self._file.execute("SELECT size FROM present WHERE name = ?", (hash(name),))
        row = found.fetchone()
        return None if row is None else int(row[0])


def _readable(location: str) -> str:
    """Return a location. Raises ConfigError if it is still encrypted."""
    if cipher.is_clear(location):
        return location
    raise exception.ConfigError(
        "there are locations that cannot be decrypted: set metadata_encryption_key (and "
        "metadata_encryption_old_keys) as in the registry's file"
    )
