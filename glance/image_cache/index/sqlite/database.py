"""The database file: opened, checked, replaced when it is damaged; connections, transactions."""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator

from glance.common import exception, files
from glance.image_cache import layout
from glance.streaming import hub, retry

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


class IndexDatabase:
    """One database, which the parts of an index share.

    Connections are few, kept between uses, and each used by one thread at a time. `name` is the
    database's path, absolute or relative to the directory. `losses` counts how often the database
    was found gone, replaced or damaged. Raises CacheUnavailable for all trouble.
    """

    def __init__(self, directory: layout.CacheDirectory, name: str):
        self.directory = directory
        self.path = os.path.join(directory.path, name)
        self.losses = 0
        self._last: tuple[int, int] | None = None
        self._is_new = False
        self._idle: list[tuple[sqlite3.Connection, tuple[int, int]]] = []
        self._lock = hub.native_lock()
        # The connections of running transactions, by thread.
        self._current: dict[int, sqlite3.Connection] = {}

    def configure(self) -> None:
        """Make or open the database, and replace a damaged one."""
        with self._errors():
            connection, identity = self._connect()
            if self._damage() is not None:
                connection.close()
                self._replace_damaged()
                connection, identity = self._connect()
            self._give(connection, identity)

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _connect(self) -> tuple[sqlite3.Connection, tuple[int, int]]:
        """Open the database, which is made if it is missing and replaced if it is damaged."""
        for is_last in (False, False, True):
            try:
                connection = self._open()
            except sqlite3.DatabaseError as err:
                if not _is_damage(err):
                    raise
                self._replace_damaged()
                connection = self._open()
            try:
                identity = self._identity()
                break
            except FileNotFoundError:
                # Another process has put it aside meanwhile.
                connection.close()
                if is_last:
                    raise
        # NOTE: or another process has replaced it.
        self.losses += self._last is not None and (self._is_new or identity != self._last)
        self._last, self._is_new = identity, False
        return connection, identity

    def _open(self) -> sqlite3.Connection:
        for suffix in ("", "-wal", "-shm"):
            if os.path.islink(self.path + suffix):
                raise files.OpenRefused(errno.ELOOP, files.A_LINK, self.path)
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

        def turn() -> None:
            if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                return
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            if mode != "wal":
                raise exception.CacheUnavailable(
                    "The index of the image cache needs a local file system (no WAL)"
                )

        # NOTE: of processes that start together each may be in the way of the others for a
        # moment, and SQLite does not wait for this lock.
        backoff = retry.Backoff.steady(0.01, seconds=BUSY_SECONDS)
        retry.retry(turn, backoff, on=sqlite3.OperationalError)

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
    def connection(self) -> Iterator[sqlite3.Connection]:
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
        """Begin a transaction of the calling thread, alone with the database. Does not nest."""
        me = threading.get_ident()
        with self.connection() as connection:
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
    def atomic(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection inside the thread's transaction, or inside one of its own."""
        if threading.get_ident() in self._current:
            with self.connection() as connection:
                yield connection
            return
        with self.transaction(), self.connection() as connection:
            yield connection

    def tidy(self, before: float) -> None:
        """Remove damaged databases that were put aside before that time (seconds)."""
        with self._errors():
            for old in glob.glob(f"{glob.escape(self.path)}.*-*"):
                if os.lstat(old).st_mtime < before:
                    os.unlink(old)


def _is_damage(err: BaseException) -> bool:
    """Return whether an error says that the database itself is broken."""
    if not isinstance(err, sqlite3.DatabaseError):
        return False
    code = getattr(err, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or str(err).startswith(
        "no such table"
    )
