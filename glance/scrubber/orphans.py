"""Orphans in both directions: data that no record points to, records whose data is missing.

For operators (`glance-manage orphans`): these are left by crashes, restored backups and other
programs. The stores are listed once and compared with the registry's database; each suspect is
checked again individually before it is reported, because images are created and deleted meanwhile.
Nothing is reported by age alone, and nothing younger than the caller's limit is: an upload in
progress has data that no record names yet.

SECURITY: what is returned for display holds no locations.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator

from glance import store
from glance.common import exception
from glance.identity.context import RequestContext
from glance.image import cipher, fields
from glance.registry.db import api, engine, maintenance, scrub_queue
from glance.store import base

LOG = logging.getLogger(__name__)

_SEEING = RequestContext(is_admin=True, show_deleted=True)
#: Statuses in which an upload may have put data into a store that its record does not name yet.
_ARRIVING = ("queued", "saving")


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
    """An active image whose data does not match its record; `problem` describes how."""

    image_id: int
    store: str
    size: int
    problem: str


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
        """Scan all stores and all records.

        Raises ServiceUnavailable when the database is unavailable, and ConfigError when locations
        cannot be decrypted: the data that they point to would look like orphans.

        PERF: keeps a few words for each image in memory, and requests single objects from the
        stores only where the list does not match the record.
        """
        found = OrphanReport()
        # NOTE: the records first: an image that is deleted meanwhile is checked again.
        referenced = {hash(name) for name in self._referenced_names()}
        present: dict[int, int | None] = {}
        for driver in self.stores:
            if not driver.is_configured():
                # It is read-only, so no data can be left behind there.
                continue
            if base.Capability.LIST not in driver.capabilities:
                if base.Capability.WRITE in driver.capabilities:
                    found.unlisted.append(driver.name)
                continue
            try:
                for entry in driver.list_objects():
                    name = self.stores.name_of(entry.location)
                    present[hash(name)] = entry.size
                    if hash(name) not in referenced:
                        self._judge(driver, entry, found)
            except exception.StoreError as err:
                LOG.error("Store %s cannot be listed: %s", driver.name, exception.described(err))
                found.failed.append(driver.name)
        found.bereft.extend(self._images_without_data(present, found.failed))
        return found

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

    def _judge(self, driver: base.Store, entry: base.StoredObject, found: OrphanReport) -> None:
        if entry.modified is not None and time.time() - entry.modified < self.min_age:
            found.young += 1
        elif self._is_stray(entry.image_id, entry.location):
            found.strays.append(
                OrphanObject(
                    driver.name, entry.image_id, entry.size, entry.modified, entry.location
                )
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
        if image["status"] == "deleted" or not image["location"]:
            return True
        return self.stores.name_of(_readable(image["location"])) != self.stores.name_of(location)

    # -- records without data --------------------------------------------------------------------

    def _images_without_data(
        self, present: dict[int, int | None], failed: list[str]
    ) -> Iterator[MissingData]:
        for image in maintenance.images_with_data(self.db):
            location = image["location"]
            if image["status"] != "active" or image["deleted"] or location is None:
                continue
            try:
                driver = self.stores.for_uri(location)
                ours = self.stores.owns(location, str(image["id"]))
            except (exception.UnknownScheme, exception.BadStoreUri) as err:
                yield MissingData(image["id"], "-", image["size"] or 0, type(err).__name__)
                continue
            if not ours or driver.name in failed:
                continue
            size = present.get(hash(self.stores.name_of(location)), -1)
            if size is None or size == image["size"]:
                continue
            problem = self._problem_of(image["id"])
            if problem is not None:
                yield MissingData(image["id"], driver.name, image["size"] or 0, problem)

    def _problem_of(self, image_id: int) -> str | None:
        """Return what is wrong with the data of an image now, None if nothing is."""
        try:
            image = api.image_get(self.db, RequestContext(is_admin=True), image_id)
            if image["location"] is None:
                return None
            size = self.stores.get_size(image["location"])
        except exception.ImageNotFound:
            return None
        except exception.StoreObjectNotFound:
            return "missing"
        except exception.StoreError as err:
            return f"cannot be checked: {type(err).__name__}"
        if size is None or size == image["size"]:
            return None
        return f"has {size} bytes"


def _readable(location: str) -> str:
    """Return a location. Raises ConfigError if it is still encrypted."""
    if cipher.is_clear(location):
        return location
    raise exception.ConfigError(
        "there are locations that cannot be decrypted: set metadata_encryption_key (and "
        "metadata_encryption_old_keys) as in the registry's file"
    )
