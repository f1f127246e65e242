"""The index as an SQLite database in the cache directory.

The database is disposable: what is in it describes files, and one that is damaged or gone is
replaced by an empty one. Its journal is a write-ahead log, which needs a local file system.
"""

from __future__ import annotations

import contextlib

from glance.common import config
from glance.image_cache import layout
from glance.image_cache.index.driver import Index
from glance.image_cache.index.sqlite.counters import SqliteCounters
from glance.image_cache.index.sqlite.database import IndexDatabase
from glance.image_cache.index.sqlite.entries import SqliteEntries
from glance.image_cache.index.sqlite.queue import SqliteQueue


class SqliteDriver(Index):
    """See the module. The parts are tables of one database."""

    def __init__(self, conf: config.Conf, directory: layout.CacheDirectory):
        super().__init__(conf, directory)
        self._database = IndexDatabase(directory, conf.image_cache_sqlite_db)
        self.entries = SqliteEntries(self._database, directory)
        self.queue = SqliteQueue(self._database)
        self.counters = SqliteCounters(self._database)

    @property
    def path(self) -> str:
        """The path of the database."""
        return self._database.path

    @property
    def losses(self) -> int:
        return self._database.losses

    def configure(self) -> None:
        self._database.configure()

    def close(self) -> None:
        self._database.close()

    def tidy(self, before: float) -> None:
        self._database.tidy(before)

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return self._database.transaction()
