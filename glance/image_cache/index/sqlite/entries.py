"""Entries as rows of a table."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import time
from typing import Any

from glance.image_cache import layout
from glance.image_cache.index.entries import INVALID, CacheEntry, Entries
from glance.image_cache.index.sqlite.database import IndexDatabase

_COLUMNS = [field.name for field in dataclasses.fields(CacheEntry)]
_ENTRY = f"SELECT {', '.join(_COLUMNS)} FROM entries"
_INSERT = (
    f"INSERT OR IGNORE INTO entries ({', '.join(_COLUMNS)}) "
    f"VALUES ({', '.join(':' + name for name in _COLUMNS)})"
)
_ROOM = "CASE state WHEN 'incomplete' THEN max(size, coalesce(expected_size, 0)) ELSE size END"


class SqliteEntries(Entries):
    """See the module. That an image has one entry is an index of the table."""

    def __init__(self, database: IndexDatabase, directory: layout.CacheDirectory):
        super().__init__(directory)
        self._database = database

    def stamp(self, status: os.stat_result) -> str:
        # NOTE: nobody can set the time of the last change, which every writing changes.
        return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"

    def _select(self, condition: str, *values: Any) -> list[CacheEntry]:
        with self._database.connection() as connection:
            rows = connection.execute(f"{_ENTRY} WHERE {condition}", values).fetchall()
        return [CacheEntry(*row) for row in rows]

    def lookup(self, image_id: str) -> CacheEntry | None:
        found = self._select("image_id = ? AND state = 'complete'", image_id)
        return found[0] if found else None

    def find(self, image_id: str) -> CacheEntry | None:
        found = self._select("image_id = ? AND state != 'invalid'", image_id)
        return found[0] if found else None

    def insert(self, entry: CacheEntry) -> bool:
        with self._database.connection() as connection:
            done = connection.execute(_INSERT, dataclasses.asdict(entry))
            return done.rowcount == 1

    def progress(self, entry: CacheEntry, size: int) -> bool:
        with self._database.connection() as connection:
            done = connection.execute(
                "UPDATE entries SET size = ?, modified_at = ? "
                "WHERE file = ? AND state = 'incomplete'",
                (size, time.time(), entry.file),
            )
            return done.rowcount == 1

    def commit(self, entry: CacheEntry, done: CacheEntry) -> bool:
        with self._database.atomic() as connection:
            if not self._drop(connection, entry):
                return False
            self.directory.move(entry.file, done.file)
            stamp = self.stamp(os.lstat(self.directory.full(done.file)))
            self.insert(dataclasses.replace(done, stamp=stamp))
        return True

    def condemn(self, entry: CacheEntry, error: str) -> CacheEntry | None:
        file = self.directory.invalid_file(entry.image_id)
        now = time.time()
        wrong = dataclasses.replace(
            entry, state=INVALID, file=file, error=error, writer=None, modified_at=now
        )
        with self._database.atomic() as connection:
            if not self._drop(connection, entry):
                return None
            try:
                self.directory.move(entry.file, file)
            except FileNotFoundError:
                return None
            size = os.lstat(self.directory.full(file)).st_size
            self.insert(dataclasses.replace(wrong, size=size))
        return wrong

    def restamp(self, entry: CacheEntry, stamp: str, checksum: str | None) -> None:
        with self._database.connection() as connection:
            connection.execute(
                "UPDATE entries SET stamp = ?, checksum = ? WHERE file = ? AND state = 'complete'",
                (stamp, checksum, entry.file),
            )

    def remove(self, entry: CacheEntry) -> bool:
        with self._database.atomic() as connection:
            if not self._drop(connection, entry):
                return False
            # NOTE: before the end of the transaction, so that nobody counts on room that is
            # still taken.
            self.directory.unlink(entry.file)
        return True

    @staticmethod
    def _drop(connection: sqlite3.Connection, entry: CacheEntry) -> bool:
        done = connection.execute(
            "DELETE FROM entries WHERE file = ? AND state = ? AND created_at = ?",
            (entry.file, entry.state, entry.created_at),
        )
        return done.rowcount == 1

    def in_state(self, state: str) -> list[CacheEntry]:
        return self._select("state = ? ORDER BY accessed_at, image_id, file", state)

    def total_size(self) -> int:
        with self._database.connection() as connection:
            (total,) = connection.execute(f"SELECT sum({_ROOM}) FROM entries").fetchone()
        return total or 0

    def victims(self, needed: int, young_since: float) -> list[CacheEntry]:
        found: list[CacheEntry] = []
        with self._database.connection() as connection:
            rows = connection.execute(
                f"{_ENTRY} WHERE state != 'incomplete' "
                "ORDER BY state = 'complete', state = 'complete' AND modified_at > ?, "
                "CASE state WHEN 'complete' THEN accessed_at ELSE modified_at END, size DESC",
                (young_since,),
            )
            for row in rows:
                if needed <= 0:
                    break
                found.append(CacheEntry(*row))
                needed -= found[-1].size
        return found
