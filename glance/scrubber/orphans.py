"""Orphans in both directions: data that no record points to, records whose data is missing.

For operators (`glance-manage orphans`): what crashes, restored backups and other programs leave.
The stores are listed once and compared with the registry's database; what looks wrong is looked at
again by itself before it is reported, because images come and go meanwhile. Nothing here is found
by age alone, and nothing younger than the caller's limit counts: an upload in progress has data
and no record that says so.

SECURITY: what is returned for showing holds no locations.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator

from glance import store
from glance.common import exception
from glance.identity.context import RequestContext
from glance.image import cipher
from glance.registry.db import api, engine, maintenance, scrub_queue
from glance.store import base

LOG = logging.getLogger(__name__)

_SEEING = RequestContext(is_admin=True, show_deleted=True)
#: Statuses in which an upload may have put data into a store that its record does not name yet.
_ARRIVING = ("queued", "saving")


@dataclasses.dataclass(slots=True)
class OrphanObject:
    """An object that no record points to. `removed` tells what `remove` did, None nothing yet."""

    store: str
    image_id: str
    size: int | None
    modified: float | None
    location: str = dataclasses.field(repr=False)
    removed: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class MissingData:
    """An active image whose data is not as its record says; `problem` says how, in a few words."""

    image_id: int
    store: str
    size: int
    problem: str


@dataclasses.dataclass(slots=True)
class OrphanReport:
    """What was found. `young` counts stray objects that are too young to tell.

    `unlisted` names the stores that cannot list, whose records were looked at one by one, and
    `failed` those that could not be listed now: nothing is known of them.
    """

    strays: list[OrphanObject] = dataclasses.field(default_factory=list)
    bereft: list[MissingData] = dataclasses.field(default_factory=list)
    young: int = 0
    unlisted: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)

    @property
    def reclaimable(self) -> int:
        """How many bytes the stray objects take that are still there."""
        return sum(stray.size or 0 for stray in self.strays if not stray.removed)


class OrphanScan:
    """Compares the stores with the database of a registry."""

    def __init__(self, db: engine.Database, stores: store.Stores, min_age: float):
        """`min_age`: how old an object must be, in seconds, to be called stray."""
        self.db, self.stores, self.min_age = db, stores, min_age

    def survey(self) -> OrphanReport:
        """Look at everything.

        Raises ServiceUnavailable when the database is away, and ConfigError when locations cannot
        be decrypted: whatever they point to would look as if nobody wanted it.

        PERF: keeps a few words for each image in memory, and asks the stores for single objects
        only where the list does not show what the record says.
        """
        found = OrphanReport()
        # NOTE: the records first: an image that is deleted meanwhile is looked at again.
        wanted = {hash(name) for name in self._wanted()}
        present: dict[int, int | None] = {}
        for driver in self.stores:
            if not driver.is_configured():
                # It takes no images, so that none can be left behind there.
                continue
            if base.Capability.LIST not in driver.capabilities:
                if base.Capability.WRITE in driver.capabilities:
                    found.unlisted.append(driver.name)
                continue
            try:
                for entry in driver.list_objects():
                    name = self.stores.name_of(entry.location)
                    present[hash(name)] = entry.size
                    if hash(name) not in wanted:
                        self._judge(driver, entry, found)
            except exception.StoreError as err:
                LOG.error("Store %s cannot be listed: %s", driver.name, type(err).__name__)
                found.failed.append(driver.name)
        found.bereft.extend(self._bereft(present, found.failed))
        return found

    def remove(self, stray: OrphanObject) -> bool:
        """Remove a stray object unless a record has come to point to it; return if it is gone."""
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
                "Stray data of image %s was not removed: %s", stray.image_id, type(err).__name__
            )
            stray.removed = False
        return stray.removed

    # -- data without a record -------------------------------------------------------------------

    def _wanted(self) -> Iterator[str]:
        """Yield the names of all objects that a record or the scrub queue points to."""
        for image in maintenance.images_with_data(self.db):
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
        """Look at the record of the image whose id the object carries, as it is now."""
        if not image_id.isdecimal():
            return True
        try:
            image = api.image_get(self.db, _SEEING, int(image_id))
        except exception.NotFound:
            return True
        if image["status"] in _ARRIVING and not image["deleted"]:
            return False
        if image["status"] == "deleted" or not image["location"]:
            return True
        return self.stores.name_of(_readable(image["location"])) != self.stores.name_of(location)

    # -- records without data --------------------------------------------------------------------

    def _bereft(self, present: dict[int, int | None], failed: list[str]) -> Iterator[MissingData]:
        for image in maintenance.images_with_data(self.db):
            if image["status"] != "active" or image["deleted"]:
                continue
            try:
                driver = self.stores.for_uri(image["location"])
                ours = self.stores.owns(image["location"], str(image["id"]))
            except (exception.UnknownScheme, exception.BadStoreUri) as err:
                yield MissingData(image["id"], "-", image["size"] or 0, type(err).__name__)
                continue
            if not ours or driver.name in failed:
                continue
            size = present.get(hash(self.stores.name_of(image["location"])), -1)
            if size is None or size == image["size"]:
                continue
            problem = self._look_at(image["id"])
            if problem is not None:
                yield MissingData(image["id"], driver.name, image["size"] or 0, problem)

    def _look_at(self, image_id: int) -> str | None:
        """Return what is wrong with the data of an image now; None if nothing is."""
        try:
            image = api.image_get(self.db, RequestContext(is_admin=True), image_id)
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
    """Return a location; ConfigError if it is encrypted still."""
    if cipher.is_clear(location):
        return location
    raise exception.ConfigError(
        "there are locations that cannot be decrypted: set metadata_encryption_key (and "
        "metadata_encryption_old_keys) as in the registry's file"
    )
