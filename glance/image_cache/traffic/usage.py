"""Hits and counters for the index: collected in memory, written periodically."""

from __future__ import annotations

import collections

from glance.common import exception
from glance.image_cache.index.counters import Access, CacheCounters
from glance.image_cache.index.entries import CacheEntry
from glance.streaming import hub


class Usage:
    """What one process has counted and not written yet. Counting never waits and never fails."""

    def __init__(self, index_counters: CacheCounters):
        self._index = index_counters
        self._lock = hub.native_lock()
        self._accesses: dict[str, Access] = {}
        self._counters: collections.Counter[str] = collections.Counter()
        self.hits = 0
        #: What this process has counted since it started.
        self.totals: collections.Counter[str] = collections.Counter()

    def hit(self, entry: CacheEntry, when: float) -> None:
        """Count a read of an entry that began at `when` (seconds since the epoch)."""
        with self._lock:
            self.hits += 1
            self.totals["hits"] += 1
            self._counters["hits"] += 1
            known = self._accesses.get(entry.image_id, Access(entry.image_id, 0, 0.0))
            self._accesses[entry.image_id] = Access(
                entry.image_id, known.reads + 1, max(known.when, when)
            )

    def count(self, name: str, increment: int = 1) -> None:
        """Add to a counter of `index.counters.COUNTERS`."""
        with self._lock:
            self._counters[name] += increment
            self.totals[name] += increment

    def flush(self) -> None:
        """Write everything to the index; keep what cannot be written. Blocks."""
        with self._lock:
            accesses, self._accesses = self._accesses, {}
            counters, self._counters = self._counters, collections.Counter()
        if not accesses and not counters:
            return
        try:
            self._index.add(counters, accesses.values())
        except exception.CacheUnavailable:
            self._keep(accesses, counters)
            raise

    def _keep(self, accesses: dict[str, Access], counters: collections.Counter[str]) -> None:
        with self._lock:
            self._counters.update(counters)
            for image_id, old in accesses.items():
                new = self._accesses.get(image_id, Access(image_id, 0, 0.0))
                self._accesses[image_id] = Access(
                    image_id, old.reads + new.reads, max(old.when, new.when)
                )
