"""Counters as a table; reads are counted in the rows of the entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from glance.image_cache.index.counters import COUNTERS, Access, CacheCounters
from glance.image_cache.index.sqlite.database import IndexDatabase


class SqliteCounters(CacheCounters):
    """See the module."""

    def __init__(self, database: IndexDatabase):
        self._database = database

    def add(self, increments: Mapping[str, int], accesses: Iterable[Access] = ()) -> None:
        with self._database.atomic() as connection:
            connection.executemany(
                "UPDATE entries SET hits = hits + ?, accessed_at = max(accessed_at, ?) "
                "WHERE image_id = ? AND state = 'complete'",
                [(access.reads, access.when, access.image_id) for access in accesses],
            )
            connection.executemany(
                "INSERT INTO counters (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                list(increments.items()),
            )

    def totals(self) -> dict[str, int]:
        with self._database.connection() as connection:
            found = dict(connection.execute("SELECT name, value FROM counters"))
        return {name: found.get(name, 0) for name in COUNTERS}
