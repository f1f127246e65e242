"""The index as an SQLite database in the cache directory.

The database is disposable: what is in it describes files, and one that is damaged or gone is
replaced by an empty one. Its journal is a write-ahead log, which needs a local file system.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from glance.common import config, exception
from glance.image_cache import layout
from glance.image_cache.index import driver
from glance.image_cache.index.driver import IN_PROGRESS, INVALID, Access, CacheEntry, QueueItem
from glance.streaming import offload

LOG = logging.getLogger(__name__)

SCHEMA_VERSION = 1
BUSY_SECONDS = 5.0
_IDLE_CONNECTIONS = 4

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    file TEXT PRIMARY KEY,
    image_id TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('complete', 'incomplete', 'invalid')),
    expected_size INTEGER,
    size INTEGER NOT NULL,
    checksum TEXT,
    name TEXT,
    hits INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    modified_at REAL NOT NULL,
    accessed_at REAL NOT NULL,
    writer TEXT,
    error TEXT,
    stamp TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS one_per_image ON entries (image_id) WHERE state != 'invalid';
CREATE INDEX IF NOT EXISTS entries_by_use ON entries (state, accessed_at);
CREATE TABLE IF NOT EXISTS queue (
    image_id TEXT PRIMARY KEY,
    name TEXT,
    enqueued_at REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'in-progress')),
    owner TEXT,
    attempts INTEGER NOT NULL,
    not_before REAL NOT NULL,
    last_error TEXT
);
CREATE INDEX IF NOT EXISTS queue_by_age ON queue (state, enqueued_at);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_COLUMNS = [field.name for field in dataclasses.fields(CacheEntry)]
_ENTRY = f"SELECT {', '.join(_COLUMNS)} FROM entries"
_INSERT = (
    f"INSERT OR IGNORE INTO entries ({', '.join(_COLUMNS)}) "
    f"VALUES ({', '.join(':' + name for name in _COLUMNS)})"
)
_QUEUE_COLUMNS = [field.name for field in dataclasses.fields(QueueItem)]
_QUEUE = f"SELECT {', '.join(_QUEUE_COLUMNS)} FROM queue"
_QUEUE_INSERT = (
    f"INSERT OR IGNORE INTO queue ({', '.join(_QUEUE_COLUMNS)}) "
    f"VALUES ({', '.join(':' + name for name in _QUEUE_COLUMNS)})"
)
_ROOM = "CASE state WHEN 'incomplete' THEN max(size, coalesce(expected_size, 0)) ELSE size END"


class SqliteDriver(driver.Driver):
    """See the module. Connections are few, kept between uses, and each used by one thread."""

    def __init__(self, conf: config.Conf, directory: layout.CacheDirectory):
        super().__init__(conf, directory)
        self.path = os.path.join(directory.path, conf.image_cache_sqlite_db)
        self._last: tuple[int, int] | None = None
        self._is_new = False
        self._idle: list[tuple[sqlite3.Connection, tuple[int, int]]] = []
        self._lock = offload.native_lock()
        # The connections of running transactions, by thread.
        self._current: dict[int, sqlite3.Connection] = {}

    def tidy(self, before: float) -> None:
        with self._errors():
            for old in glob.glob(f"{glob.escape(self.path)}.*-*"):
                if os.lstat(old).st_mtime < before:
                    os.unlink(old)

    def stamp(self, status: os.stat_result) -> str:
        # NOTE: nobody can set the time of the last change, which every writing changes.
        return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"

    # -- connections -----------------------------------------------------------------------------

    def configure(self) -> None:
        with self._errors():
            connection, identity = self._connect()
            if self._damage() is not None:
                connection.close()
                self._replace_damaged()
                connection, identity = self._connect()
            self._give(connection, identity)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _connect(self) -> tuple[sqlite3.Connection, tuple[int, int]]:
        """Open the database, which is made if it is missing and replaced if it is damaged."""
        try:
            connection = self._open()
        except sqlite3.DatabaseError as err:
            if not _is_damage(err):
                raise
            self._replace_damaged()
            connection = self._open()
        identity = self._identity()
        # NOTE: or another process has replaced it.
        self.losses += self._last is not None and (self._is_new or identity != self._last)
        self._last, self._is_new = identity, False
        return connection, identity

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._use_wal(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA foreign_keys=ON")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise exception.CacheUnavailable(
                    "The index of the image cache was made by a later version of glance"
                )
            if version < SCHEMA_VERSION:
                connection.executescript(_SCHEMA)
                self._is_new = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Turn a new database into one with a write-ahead log."""
        deadline = time.monotonic() + BUSY_SECONDS
        while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            # NOTE: of processes that start together each may be in the way of the others for a
            # moment, and SQLite does not wait for this lock.
            try:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                offload.sleep(0.01)
                continue
            if mode != "wal":
                raise exception.CacheUnavailable(
                    "The index of the image cache needs a local file system (no WAL)"
                )

    def _replace_damaged(self) -> None:
        """Put a damaged database aside, unless another process has done so already."""
        with self.directory.lock(".index-lock", wait=True):
            damage = self._damage()
            if damage is None:
                return
            LOG.error("The index of the image cache is damaged; creating a new one: %s", damage)
            os.rename(self.path, f"{self.path}.corrupt-{int(time.time())}")
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path + suffix)

    def _damage(self) -> str | None:
        """Return what is wrong with the database, None if it can be used."""
        try:
            with contextlib.closing(
                sqlite3.connect(self.path, timeout=BUSY_SECONDS)
            ) as connection:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                for table in ("entries", "queue", "counters"):
                    connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
        except sqlite3.DatabaseError as err:
            if not _is_damage(err):
                raise
            return str(err)
        return None if found == "ok" else str(found)

    def _identity(self) -> tuple[int, int]:
        status = os.stat(self.path)
        return status.st_dev, status.st_ino

    def _take(self) -> tuple[sqlite3.Connection, tuple[int, int]]:
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection, identity = self._idle.pop()
            # NOTE: a database that was removed, replaced or emptied must not live on in old
            # connections, which others do not see any more.
            with contextlib.suppress(FileNotFoundError):
                if self._identity() == identity and os.path.getsize(self.path):
                    return connection, identity
            connection.close()
            if os.path.exists(self.path) and not os.path.getsize(self.path):
                self._replace_damaged()
        return self._connect()

    def _give(self, connection: sqlite3.Connection, identity: tuple[int, int]) -> None:
        with self._lock:
            if len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append((connection, identity))
                return
        connection.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as err:
            text = err.strerror if isinstance(err, OSError) else err
            raise exception.CacheUnavailable(
                f"The index of the image cache cannot be used: {text}"
            ) from err

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection of the thread's transaction, or one for a single statement."""
        current = self._current.get(threading.get_ident())
        if current is not None:
            yield current
            return
        with self._errors():
            connection, identity = self._take()
            try:
                yield connection
            except sqlite3.Error as err:
                connection.close()
                if _is_damage(err):
                    self.close()
                    self._replace_damaged()
                raise
            except BaseException:
                self._give(connection, identity)
                raise
            self._give(connection, identity)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        me = threading.get_ident()
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            self._current[me] = connection
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                del self._current[me]

    @contextlib.contextmanager
    def _atomic(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection inside the thread's transaction, or inside one of its own."""
        if threading.get_ident() in self._current:
            with self._connection() as connection:
                yield connection
            return
        with self.transaction(), self._connection() as connection:
            yield connection

    # -- entries ---------------------------------------------------------------------------------

    def _select(self, condition: str, *values: Any) -> list[CacheEntry]:
        with self._connection() as connection:
            rows = connection.execute(f"{_ENTRY} WHERE {condition}", values).fetchall()
        return [CacheEntry(*row) for row in rows]

    def lookup(self, image_id: str) -> CacheEntry | None:
        found = self._select("image_id = ? AND state = 'complete'", image_id)
        return found[0] if found else None

    def find(self, image_id: str) -> CacheEntry | None:
        found = self._select("image_id = ? AND state != 'invalid'", image_id)
        return found[0] if found else None

    def insert(self, entry: CacheEntry) -> bool:
        with self._connection() as connection:
            done = connection.execute(_INSERT, dataclasses.asdict(entry))
            return done.rowcount == 1

    def progress(self, entry: CacheEntry, size: int) -> bool:
        with self._connection() as connection:
            done = connection.execute(
                "UPDATE entries SET size = ?, modified_at = ? "
                "WHERE file = ? AND state = 'incomplete'",
                (size, time.time(), entry.file),
            )
            return done.rowcount == 1

    def commit(self, entry: CacheEntry, done: CacheEntry) -> bool:
        with self._atomic() as connection:
            if not self._drop(connection, entry):
                return False
            self.directory.move(entry.file, done.file)
            stamp = self.stamp(os.lstat(self.directory.full(done.file)))
            self.insert(dataclasses.replace(done, stamp=stamp))
            connection.execute("DELETE FROM queue WHERE image_id = ?", (done.image_id,))
        return True

    def condemn(self, entry: CacheEntry, error: str) -> CacheEntry | None:
        file = self.directory.invalid_file(entry.image_id)
        now = time.time()
        wrong = dataclasses.replace(
            entry, state=INVALID, file=file, error=error, writer=None, modified_at=now
        )
        with self._atomic() as connection:
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
        with self._connection() as connection:
            connection.execute(
                "UPDATE entries SET stamp = ?, checksum = ? WHERE file = ? AND state = 'complete'",
                (stamp, checksum, entry.file),
            )

    def remove(self, entry: CacheEntry) -> bool:
        with self._atomic() as connection:
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

    def touch(self, accesses: Iterable[Access]) -> None:
        with self._atomic() as connection:
            connection.executemany(
                "UPDATE entries SET hits = hits + ?, accessed_at = max(accessed_at, ?) "
                "WHERE image_id = ? AND state = 'complete'",
                [(access.reads, access.when, access.image_id) for access in accesses],
            )

    def entries(self, state: str) -> list[CacheEntry]:
        return self._select("state = ? ORDER BY accessed_at, image_id, file", state)

    def total_size(self) -> int:
        with self._connection() as connection:
            (total,) = connection.execute(f"SELECT sum({_ROOM}) FROM entries").fetchone()
        return total or 0

    def victims(self, needed: int, young_since: float) -> list[CacheEntry]:
        found: list[CacheEntry] = []
        with self._connection() as connection:
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

    # -- the prefetch queue ----------------------------------------------------------------------

    def queue_add(self, item: QueueItem) -> bool:
        with self._connection() as connection:
            return connection.execute(_QUEUE_INSERT, dataclasses.asdict(item)).rowcount == 1

    def queue_list(self) -> list[QueueItem]:
        with self._connection() as connection:
            rows = connection.execute(f"{_QUEUE} ORDER BY enqueued_at, image_id").fetchall()
        return [QueueItem(*row) for row in rows]

    def queue_take(self, owner: str, now: float) -> QueueItem | None:
        with self._atomic() as connection:
            row = connection.execute(
                f"{_QUEUE} WHERE state = 'queued' AND not_before <= ? "
                "ORDER BY enqueued_at, image_id LIMIT 1",
                (now,),
            ).fetchone()
            if row is None:
                return None
            item = dataclasses.replace(QueueItem(*row), state=IN_PROGRESS, owner=owner)
            self.queue_return(item)
        return item

    def queue_return(self, item: QueueItem) -> None:
        assignments = ", ".join(f"{name} = :{name}" for name in _QUEUE_COLUMNS)
        with self._connection() as connection:
            connection.execute(
                f"UPDATE queue SET {assignments} WHERE image_id = :image_id",
                dataclasses.asdict(item),
            )

    def queue_remove(self, image_id: str, *, only: str | None = None) -> bool:
        with self._connection() as connection:
            done = connection.execute(
                "DELETE FROM queue WHERE image_id = ? AND state = coalesce(?, state)",
                (image_id, only),
            )
            return done.rowcount == 1

    # -- counters --------------------------------------------------------------------------------

    def count(self, increments: Mapping[str, int]) -> None:
        with self._atomic() as connection:
            connection.executemany(
                "INSERT INTO counters (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                list(increments.items()),
            )

    def counters(self) -> dict[str, int]:
        with self._connection() as connection:
            found = dict(connection.execute("SELECT name, value FROM counters"))
        return {name: found.get(name, 0) for name in driver.COUNTERS}


def _is_damage(err: BaseException) -> bool:
    """Return whether an error says that the database itself is broken."""
    if not isinstance(err, sqlite3.DatabaseError):
        return False
    code = getattr(err, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or str(err).startswith(
        "no such table"
    )
