"""The connection to the registry's database: opened lazily, once in each process.

A `Database` belongs to the application, not to the module: two applications in one process can use
two databases. It provides connections for three purposes (one statement, a snapshot of several, a
write) and hides what SQLite, PostgreSQL and MySQL need for each. Statements are in
`glance.registry.db.api`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from glance.common import config, exception, metrics
from glance.image import cipher
from glance.registry.db import connecting, grouping, lookups, urls
from glance.streaming import hub, retry

LOG = logging.getLogger(__name__)
T = TypeVar("T")

config.options(
    "registry database",
    config.Option(
        "sql_connection",
        help="Database of the registry, as a SQLAlchemy URL such as "
        "sqlite:////var/lib/glance/glance.sqlite. Four slashes begin an absolute path; a "
        "relative path depends on the directory in which the daemon is started.",
    ),
    config.Option(
        "sql_idle_timeout",
        config.integer,
        3600,
        unit="seconds",
        minimum=0,
        aliases=("sql_timeout",),
        help="Age at which a pooled connection is replaced. Choose less than the time after "
        "which the database server closes idle connections.",
    ),
    config.Option(
        "sql_response_timeout",
        config.real,
        25.0,
        unit="seconds",
        minimum=0,
        help="How long a transaction of glance-registry may wait for a PostgreSQL, MySQL or "
        "MariaDB server before the request fails with 503; 0 means no timeout. Choose less than "
        "registry_client_timeout of glance-api.",
    ),
    config.Option(
        "sql_max_retries",
        config.integer,
        10,
        minimum=0,
        help="How often a daemon that starts retries to connect to the database.",
    ),
    config.Option(
        "sql_retry_interval",
        config.real,
        1.0,
        unit="seconds",
        minimum=0,
        help="Pause between two such retries.",
    ),
)

#: How long `Database.transaction` retries after locks and deadlocks, in seconds.
RETRY_FOR = 25.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5

# SQLSTATE of PostgreSQL (serialization failure, deadlock, lock not available), errno of MySQL.
_PG_RETRY = frozenset({"40001", "40P01", "55P03"})
_MYSQL_RETRY = frozenset({1205, 1213})
# The same for a server, or a transaction, that does not permit writing.
_PG_READ_ONLY = frozenset({"25006"})
_MYSQL_READ_ONLY = frozenset({1290, 1792, 1836})

#: Why a use of the database can fail, in the words of the metrics.
FAILURES = ("busy", "late", "read_only", "unreachable", "other")

#: What tells whether each kind of database can be used: a standby, for one, is read-only.
_CHECKS = {
    "sqlite": "SELECT count(*) FROM sqlite_master",
    "postgresql": "SHOW transaction_read_only",
    "mysql": "SELECT @@global.read_only",
}


class Database:
    """One database, usable from any process that inherits the object.

    Connections are opened at first use and never shared with a parent process. Errors of the
    connection become ServiceUnavailable; `IntegrityError` is passed on, because only the caller
    knows what it means. Under eventlet, a use of a server ends with ServiceUnavailable after
    `response_timeout` seconds, too (None: never), whatever it waits for.
    """

    def __init__(
        self,
        url: str,
        *,
        idle_timeout: int = 3600,
        response_timeout: float | None = None,
        retry_for: float = RETRY_FOR,
        locations: cipher.Cipher | None = None,
    ):
        self.url = url
        self.cipher = locations or cipher.Cipher()
        """What locations in this database are sealed with."""
        self.idle_timeout = idle_timeout
        self.retry_for = retry_for
        parsed = urls.parse(url)
        self.dialect: str = parsed.get_backend_name()
        if self.dialect == "sqlite" and parsed.database in (None, "", ":memory:"):
            raise exception.ConfigError(
                "option sql_connection must name a file: a database in memory would be lost with "
                "its connection"
            )
        self._file = parsed.database or ""
        # NOTE: SQLite does not wait in the hub, where time runs out.
        watched = response_timeout is not None and self.dialect != "sqlite"
        self._watch = hub.Watch(response_timeout or 0.0) if watched else None
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._engines: list[sa.engine.Engine] = []
        self._views: dict[str, sa.engine.Engine] = {}
        # On SQLite under eventlet, those who write, of whom there is one at a time.
        self._groups: grouping.Groups | None = None
        self._looker: lookups.Looker | None = None
        # The connection of the last one of those, until the next one takes it.
        self._writer: sa.engine.Connection | None = None

    def __repr__(self) -> str:
        return f"<Database {config.mask_url(self.url)}>"

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.engine.Connection]:
        """Yield a connection for reading: one statement, or several independent ones."""
        with self._translated(), self._view("read").connect() as conn:
            yield conn

    def look_up(self) -> contextlib.AbstractContextManager[sa.engine.Connection]:
        """Return a block as `read` does, for `lenient.fetch` above all.

        PERF: on SQLite most of its statements need no connection of SQLAlchemy, which takes as
        long as such a statement.
        """
        return _LookUp(self) if self.dialect == "sqlite" else self.read()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sa.engine.Connection]:
        """Yield a connection whose statements all see one state of the database."""
        with self._translated(), self._view("snapshot").connect() as conn:
            connecting.begin_snapshot(conn)
            yield conn

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.engine.Connection]:
        """Yield a connection in a transaction: committed at the end, rolled back on an error.

        Does not retry when the database is locked; `transaction` does.
        """
        with self._translated():
            self._view("write")
            with self._begun() if self._groups is None else self._groups.alone() as conn:
                yield conn

    def transaction(self, work: Callable[[sa.engine.Connection], T]) -> T:
        """Run `work(connection)` in a transaction and return its result.

        `work` runs again from the start after a deadlock or a lock that was not released in time,
        so it must have no effect outside the database. Raises ServiceUnavailable after
        `retry_for`.
        """

        def attempt() -> T:
            self._view("write")
            if self._groups is not None:
                return self._groups.run(work)
            with self._begun() as conn:
                return work(conn)

        with self._translated():
            return retry.retry(
                attempt,
                retry.Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, seconds=self.retry_for),
                on=exc.DBAPIError,
                retryable=is_contention,
                report=lambda _: LOG.info("The database is busy; retrying the transaction"),
            )

    @contextlib.contextmanager
    def _begun(self) -> Iterator[sa.engine.Connection]:
        with self._view("write").begin() as conn:
            connecting.exclude_writers(conn)
            yield conn

    @contextlib.contextmanager
    def _begun_again(self) -> Iterator[sa.engine.Connection]:
        """Do as `_begun`, for those of whom there is one at a time: on the same connection.

        PERF: to take one from the pool and give it back takes half as long as to insert an image.
        """
        conn, self._writer = self._writer, None
        if conn is None:
            conn = self._view("write").connect()
            # The pool counts, and limits, those that are lent.
            conn.detach()
        try:
            with conn.begin():
                connecting.exclude_writers(conn)
                yield conn
        finally:
            if conn.invalidated or conn.connection.dbapi_connection.in_transaction:
                conn.close()
            else:
                self._writer = conn

    def check(self) -> None:
        """Raise ServiceUnavailable unless the database responds and can be written to.

        It costs one round trip and logs nothing: whoever asks decides what to say of it.
        """
        if self.dialect == "sqlite" and not os.access(self._file, os.R_OK | os.W_OK):
            # NOTE: an open file can be read on when it was deleted, or its disk unmounted.
            raise exception.ServiceUnavailable("The file of the database cannot be used")
        try:
            with self._view("read").connect() as conn:
                found = conn.exec_driver_sql(_CHECKS[self.dialect]).scalar()
        except exc.SQLAlchemyError as err:
            # SECURITY: without the text of the driver, which may name hosts and accounts.
            raise exception.ServiceUnavailable("The database cannot be reached") from err
        if self.dialect != "sqlite" and str(found).lower() not in ("off", "0"):
            self.dispose()
            raise exception.ServiceUnavailable("The database is read-only")

    def look(self) -> None:
        """Tell the metrics the state of the pools of connections."""
        pools = [engine.pool for engine in dict.fromkeys(self._engines)]
        used = [pool.checkedout() for pool in pools]
        metrics.DATABASE_CONNECTIONS.set(sum(used), "in_use")
        metrics.DATABASE_CONNECTIONS.set(sum(pool.checkedin() for pool in pools), "idle")
        metrics.DATABASE_LIMIT.set(sum(pool.limit for pool in pools))
        metrics.DATABASE_WAITING.set(sum(pool.waiting for pool in pools))

    def dispose(self) -> None:
        """Close all idle connections; the object stays usable."""
        with self._lock:
            if self._pid == os.getpid():
                for engine in self._engines:
                    engine.dispose()
                if self._looker is not None:
                    self._looker.close()
                writer, self._writer = self._writer, None
                if writer is not None:
                    writer.close()

    def _view(self, name: str) -> sa.engine.Engine:
        if self._pid != os.getpid():
            self._open()
        return self._views[name]

    def _open(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            # NOTE: an engine inherited through a fork is dropped without closing its sockets,
            # which belong to the parent.
            try:
                engine = connecting.create(self.url, idle_timeout=self.idle_timeout)
                reader = engine
                if self.dialect == "postgresql":
                    # PERF: BEGIN and ROLLBACK around one SELECT are round trips, and so is the
                    # switch of a shared connection to autocommit and back: 320 us, not 460.
                    reader = connecting.create(
                        self.url, idle_timeout=self.idle_timeout, autocommit=True
                    )
            except ImportError as err:
                raise exception.ConfigError(
                    f"option sql_connection needs a Python driver that is not installed: {err}"
                ) from err
            snapshot = engine
            if self.dialect == "postgresql":
                snapshot = engine.execution_options(isolation_level="REPEATABLE READ")
            self._views = {"read": reader, "snapshot": snapshot, "write": engine}
            self._engines = [engine, reader]
            if self.dialect == "sqlite":
                self._looker = lookups.Looker(reader)
            if self.dialect == "sqlite" and hub.is_green():
                # NOTE: the one writer waits for the disk outside the hub; another writer that
                # waited for it inside SQLite would block the hub after all.
                self._groups = grouping.Groups(self._begun_again)
                self._writer = None
            self._pid = os.getpid()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn errors of the connection into ServiceUnavailable; the cause is chained."""
        try:
            if self._watch is None:
                yield
                return
            token = self._watch.begin()
            try:
                yield
            finally:
                self._watch.end(token)
        except exc.TimeoutError as err:
            metrics.DATABASE_ERRORS.inc("busy")
            raise exception.ServiceUnavailable("The database is busy; try again later") from err
        except TimeoutError as err:
            metrics.DATABASE_ERRORS.inc("late")
            LOG.error("The database has not responded in time")
            # NOTE: its other connections may lead nowhere, too, as when its address has moved.
            self.dispose()
            raise exception.ServiceUnavailable(
                "The registry's database does not respond at the moment"
            ) from err
        except exc.DBAPIError as err:
            if not isinstance(err, exc.IntegrityError):
                metrics.DATABASE_ERRORS.inc(_reason_of(err))
            if is_contention(err):
                raise exception.ServiceUnavailable(
                    "The database is busy; try again later"
                ) from err
            if is_read_only(err):
                LOG.error("The database is read-only; its connections are opened again")
                # NOTE: after a failover they may lead to the server that was the primary.
                self.dispose()
                raise exception.ServiceUnavailable(
                    "The registry's database cannot be written to at the moment"
                ) from err
            if _is_unreachable(err):
                # SECURITY: the driver's text may name hosts, paths and accounts.
                LOG.error("The database cannot be used: %s", err.orig)
                raise exception.ServiceUnavailable(
                    "The registry's database cannot be reached at the moment"
                ) from err
            raise


class _LookUp:
    """The block of `Database.look_up`. PERF: two generators would take twice as long."""

    __slots__ = ("_database", "_reading")

    def __init__(self, database: Database):
        self._database = database

    def __enter__(self) -> Any:
        view = self._database._view("read")
        looker = self._database._looker
        assert looker is not None, "it is made with the view"
        self._reading = lookups.Reading(looker, view.connect)
        return self._reading

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._reading.end()
        if isinstance(error, exc.SQLAlchemyError):
            with self._database._translated():
                raise error


def from_conf(conf: config.Conf) -> Database:
    """Return the `Database` of a program's configuration. Raises ConfigError without one."""
    if not conf.sql_connection:
        raise exception.ConfigError(
            f"{conf.source}: option sql_connection is required: a SQLAlchemy URL such as "
            "sqlite:////var/lib/glance/glance.sqlite"
        )
    database = Database(
        conf.sql_connection,
        idle_timeout=conf.sql_idle_timeout,
        response_timeout=conf.sql_response_timeout or None,
        locations=cipher.from_conf(conf),
    )
    path = sa.engine.make_url(database.url).database or ""
    if database.dialect == "sqlite" and not os.path.isabs(path):
        LOG.warning(
            "sql_connection names a file relative to the working directory; now it is %s",
            os.path.abspath(path),
        )
    return database


def _reason_of(err: exc.DBAPIError) -> str:
    """Return the word of the metrics for an error."""
    if is_contention(err):
        return "busy"
    if is_read_only(err):
        return "read_only"
    return "unreachable" if _is_unreachable(err) else "other"


def _is_unreachable(err: exc.DBAPIError) -> bool:
    """Return whether an error means that the connection cannot be used."""
    return bool(err.connection_invalidated) or isinstance(
        err, exc.OperationalError | exc.InterfaceError
    )


def is_read_only(err: exc.DBAPIError) -> bool:
    """Return whether an error means that the server does not permit writing, as a standby."""
    cause = err.orig
    args: tuple[object, ...] = getattr(cause, "args", ())
    return getattr(cause, "pgcode", None) in _PG_READ_ONLY or (
        bool(args) and args[0] in _MYSQL_READ_ONLY
    )


def is_contention(err: exc.DBAPIError) -> bool:
    """Return whether an error means a conflict with another transaction: try again."""
    cause = err.orig
    if isinstance(cause, sqlite3.OperationalError):
        return "locked" in str(cause) or "busy" in str(cause)
    if getattr(cause, "pgcode", None) in _PG_RETRY:
        return True
    args: tuple[object, ...] = getattr(cause, "args", ())
    return bool(args) and args[0] in _MYSQL_RETRY
