"""The limits of the cache: which images it admits, and what it evicts for them.

The limit applies to the size of all entries: complete ones, invalid ones, and incomplete ones with
their final size. The size is computed and changed in one transaction of the index, so that several
processes together never exceed the limit. Everything here blocks.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable

from glance.common import config
from glance.image_cache import layout
from glance.image_cache.index.driver import Index
from glance.image_cache.index.entries import COMPLETE, INCOMPLETE, CacheEntry, CacheRefused
from glance.streaming import staged_file

LOG = logging.getLogger(__name__)

#: Entries younger than this (seconds) are evicted only when there are no others.
YOUNG = 60.0
#: An announced entry without a file after so many seconds was given up.
_ANNOUNCED = 60.0
#: How many entries a prune removes before other users of the index may run.
_BATCH = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed, in files and bytes; `enough` is whether all limits hold now."""

    files: int = 0
    bytes: int = 0
    enough: bool = True


class Room:
    """The limits of one cache."""

    def __init__(self, conf: config.Conf, directory: layout.CacheDirectory, index: Index):
        self.directory = directory
        self.index = index
        self.max_size: int = conf.image_cache_max_size
        self.max_entry: int = min(conf.image_cache_max_entry_size or self.max_size, self.max_size)
        self.min_free: int = conf.image_cache_min_free_disk
        self.extra: int = int(self.max_size * conf.image_cache_percent_extra_to_free)

    def admit(self, entry: CacheEntry) -> list[CacheEntry]:
        """Add an incomplete entry, making room for all of it; return the evicted entries.

        Raises Refused, with nothing changed.
        """
        size = entry.expected_size or 0
        if not layout.is_key(entry.image_id):
            raise CacheRefused("unusable id")
        if not size:
            raise CacheRefused("size unknown or zero")
        if size > self.max_entry:
            raise CacheRefused("too large")
        with self.index.transaction():
            found = self.index.entries.find(entry.image_id)
            if found is not None:
                if found.state == COMPLETE or not self.is_abandoned(found):
                    raise CacheRefused(found.state)
                self.index.entries.remove(found)
            gone = self._make_room(size)
            if not self.index.entries.insert(entry):
                raise CacheRefused(INCOMPLETE)
        return gone

    def has_room(self, size: int) -> bool:
        """Return whether so many bytes fit without an eviction."""
        return size <= self.max_entry and max(self._excess(size)) <= 0

    def _make_room(self, size: int) -> list[CacheEntry]:
        over, lacking = self._excess(size)
        needed = max(over, lacking)
        if needed <= 0:
            return []
        to_free = max(over + self.extra if over > 0 else 0, lacking)
        victims = self.index.entries.victims(to_free, time.time() - YOUNG)
        if sum(victim.size for victim in victims) < needed:
            raise CacheRefused("no room")
        return self._evict(victims)

    def _excess(self, size: int) -> tuple[int, int]:
        """Return by how much `size` more bytes would exceed the limit, and the free space."""
        over = self.index.entries.total_size() + size - self.max_size
        promised = sum(item.room - item.size for item in self.index.entries.in_state(INCOMPLETE))
        lacking = self.min_free + promised + size - self.directory.free()
        return over, lacking

    def _evict(self, victims: Iterable[CacheEntry]) -> list[CacheEntry]:
        gone = [victim for victim in victims if self.index.entries.remove(victim)]
        for victim in gone:
            LOG.info(
                "Image %s is removed from the cache: %s, %s bytes",
                victim.image_id,
                victim.state,
                victim.size,
            )
        return gone

    def prune(self) -> Pruned:
        """Remove the least recently used entries until the limits hold, and a little more."""
        over, lacking = self._excess(0)
        needed = max(over, lacking)
        to_free = max(over + self.extra if over > 0 else 0, lacking)
        files = freed = 0
        while freed < to_free:
            with self.index.transaction():
                victims = self.index.entries.victims(to_free - freed, time.time() - YOUNG)
                gone = self._evict(victims[:_BATCH])
            if not gone:
                break
            files += len(gone)
            freed += sum(victim.size for victim in gone)
        return Pruned(files, freed, freed >= needed)

    def is_abandoned(self, entry: CacheEntry, stall_time: float | None = None) -> bool:
        """Return whether an incomplete entry has no writer any more.

        With `stall_time` a running writer without progress for so many seconds counts as none.
        """
        try:
            fd = self.directory.open(entry.file)
        except OSError:
            if not layout.is_alive(entry.writer):
                return True
            return time.time() - entry.created_at > _ANNOUNCED
        with open(fd, "rb") as stream:
            if not (staged_file.is_locked(stream.fileno()) or layout.is_alive(entry.writer)):
                return True
            changed = self.directory.changed_at(stream.fileno())
        return stall_time is not None and time.time() - changed >= stall_time
