"""Counters in the shared state; reads are counted in the attributes of the entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from glance.image_cache.index.counters import COUNTERS, Access, CacheCounters
from glance.image_cache.index.xattr.entries import XattrEntries
from glance.image_cache.index.xattr.state import SharedState


class XattrCounters(CacheCounters):
    """See the module."""

    def __init__(self, state: SharedState, entries: XattrEntries):
        self._state = state
        self._entries = entries

    def add(self, increments: Mapping[str, int], accesses: Iterable[Access] = ()) -> None:
        with self._state.change() as state:
            for access in accesses:
                self._entries.count_reads(access)
            for name, increment in increments.items():
                state["counters"][name] = state["counters"].get(name, 0) + increment

    def totals(self) -> dict[str, int]:
        found = self._state.read()["counters"]
        return {name: found.get(name, 0) for name in COUNTERS}
