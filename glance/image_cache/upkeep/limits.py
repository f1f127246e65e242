"""Room in the cache: what is let in, and what has to go for it.

The size that counts is that of all entries: complete ones, invalid ones, and incomplete ones with
all the bytes that they will have. It is reckoned and changed in one transaction of the index, so
that several processes together never pass the limit. Everything here blocks.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable

from glance.common import config
from glance.image_cache import layout
from glance.image_cache.index import driver as index_driver
from glance.image_cache.index.driver import COMPLETE, INCOMPLETE, CacheEntry, CacheRefused

LOG = logging.getLogger(__name__)

#: Entries younger than this (seconds) go only when there is nothing else.
YOUNG = 60.0
#: An entry that was announced but has no file for so long (seconds) was given up.
_ANNOUNCED = 60.0
#: How many entries a prune removes before others get a turn at the index.
_BATCH = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed, in files and bytes; `enough` tells whether all limits hold now."""

    files: int = 0
    bytes: int = 0
    enough: bool = True


class Room:
    """The limits of one cache."""

    def __init__(
        self, conf: config.Conf, directory: layout.CacheDirectory, driver: index_driver.Driver
    ):
        self.directory = directory
        self.driver = driver
        self.max_size: int = conf.image_cache_max_size
        self.max_entry: int = min(conf.image_cache_max_entry_size or self.max_size, self.max_size)
        self.min_free: int = conf.image_cache_min_free_disk
        self.extra: int = int(self.max_size * conf.image_cache_percent_extra_to_free)

    def admit(self, entry: CacheEntry) -> list[CacheEntry]:
        """Enter an incomplete entry, making room for all of it; return the entries that went.

        Raises Refused, with nothing changed.
        """
        size = entry.expected_size or 0
        if not layout.is_key(entry.image_id):
            raise CacheRefused("unusable id")
        if not size:
            raise CacheRefused("size unknown or zero")
        if size > self.max_entry:
            raise CacheRefused("too large")
        with self.driver.transaction():
            found = self.driver.find(entry.image_id)
            if found is not None:
                if found.state == COMPLETE or not self.is_abandoned(found):
                    raise CacheRefused(found.state)
                self.driver.remove(found)
            gone = self._make_room(size)
            if not self.driver.insert(entry):
                raise CacheRefused(INCOMPLETE)
        return gone

    def has_room(self, size: int) -> bool:
        """Return whether so many bytes fit in without anything having to go."""
        return size <= self.max_entry and max(self._excess(size)) <= 0

    def _make_room(self, size: int) -> list[CacheEntry]:
        over, lacking = self._excess(size)
        needed = max(over, lacking)
        if needed <= 0:
            return []
        wanted = max(over + self.extra if over > 0 else 0, lacking)
        victims = self.driver.victims(wanted, time.time() - YOUNG)
        if sum(victim.size for victim in victims) < needed:
            raise CacheRefused("no room")
        return self._evict(victims)

    def _excess(self, size: int) -> tuple[int, int]:
        """Return by how much `size` more bytes would pass the limit, and the free room."""
        over = self.driver.total_size() + size - self.max_size
        promised = sum(item.room - item.size for item in self.driver.entries(INCOMPLETE))
        lacking = self.min_free + promised + size - self.directory.free()
        return over, lacking

    def _evict(self, victims: Iterable[CacheEntry]) -> list[CacheEntry]:
        gone = [victim for victim in victims if self.driver.remove(victim)]
        for victim in gone:
            LOG.info(
                "Image %s is removed from the cache: %s, %s bytes",
                victim.image_id,
                victim.state,
                victim.size,
            )
        return gone

    def prune(self) -> Pruned:
        """Remove what is least recently used until the limits hold, and a little more."""
        over, lacking = self._excess(0)
        needed = max(over, lacking)
        wanted = max(over + self.extra if over > 0 else 0, lacking)
        files = freed = 0
        while freed < wanted:
            with self.driver.transaction():
                victims = self.driver.victims(wanted - freed, time.time() - YOUNG)
                gone = self._evict(victims[:_BATCH])
            if not gone:
                break
            files += len(gone)
            freed += sum(victim.size for victim in gone)
        return Pruned(files, freed, freed >= needed)

    def is_abandoned(self, entry: CacheEntry, stall_time: float | None = None) -> bool:
        """Return whether nobody writes an incomplete entry any more.

        With `stall_time` (seconds) a living writer counts as none if it has stood still so long.
        """
        try:
            fd = self.directory.open(entry.file)
        except OSError:
            if not layout.is_alive(entry.writer):
                return True
            return time.time() - entry.created_at > _ANNOUNCED
        with open(fd, "rb") as stream:
            if not (layout.is_locked(stream.fileno()) or layout.is_alive(entry.writer)):
                return True
            changed = self.directory.changed_at(stream.fileno())
        return stall_time is not None and time.time() - changed >= stall_time
