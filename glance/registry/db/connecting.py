"""How connections to each kind of database are opened and set up.

`glance.registry.db.engine` decides when one is needed; what SQLite, PostgreSQL and MySQL need so
that a connection neither blocks the other requests of a process nor outlives its server is here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sqlite3
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc, pool

from glance.common import files
from glance.registry.db import direct, lenient, urls
from glance.streaming import hub, threads


def _in_one_line(record: logging.LogRecord) -> bool:
    """Shorten what the pool logs of a connection that it could not clear, and so has closed.

    That follows each failure of a server, which the `Database` logs; a traceback adds nothing.
    """
    if record.exc_info:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "A connection to the database could not be cleared: closed", ()
        record.exc_info = None
    return True


class WatchedPool(pool.QueuePool):  # type: ignore[misc]  # sqlalchemy 1.4 ships no hints
    """The pool of connections that counts who waits for one, or for one to be opened."""

    # SQLAlchemy names the logger of a pool after its class; this one stays among its own.
    __module__ = pool.QueuePool.__module__
    waiting = 0

    def _do_get(self) -> Any:
        self.waiting += 1
        try:
            return super()._do_get()
        finally:
            self.waiting -= 1

    @property
    def limit(self) -> int:
        """How many connections there may be."""
        return int(self.size()) + int(self._max_overflow)


logging.getLogger(f"{WatchedPool.__module__}.{WatchedPool.__name__}").addFilter(_in_one_line)

#: How long SQLite itself waits for a lock, in milliseconds.
# NOTE: it waits inside C and so blocks every request of the worker; `Database.transaction` does
# longer waits, in which other requests can run.
BUSY_TIMEOUT = 1000
#: KiB of a file of SQLite that each connection keeps in memory, at most.
# PERF: with 2 MiB, the default, the inner nodes of the indexes of a million images do not fit, and
# lists in an order other than that of the rows take up to three times as long.
CACHE_SIZE = 8000
# How soon (seconds, the last one milliseconds) a connection ends whose server has vanished, as a
# host does that loses its power: otherwise that takes a quarter of an hour, or two. Settings in
# the URL take precedence. The server's end of a connection is its own matter.
_LIBPQ = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_TCP = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 10000,
}

#: Mode of the file of a new SQLite database.
FILE_MODE = 0o640


def create(
    url: str,
    *,
    idle_timeout: int = 3600,
    foreign_keys: bool = True,
    busy_timeout: int | None = None,
    autocommit: bool = False,
) -> sa.engine.Engine:
    """Return a SQLAlchemy engine with a pool, set up for the database at `url`.

    `foreign_keys=False` is for schema changes, which on SQLite replace tables that others refer
    to; `busy_timeout` is in milliseconds, also for SQLite. On SQLite each statement is a
    transaction of its own until BEGIN, which `exclude_writers` sends; elsewhere `autocommit` has
    that effect.
    """
    parsed = urls.parse(url)
    if parsed.get_driver_name() == "psycopg2":
        parsed = parsed.update_query_dict({**_LIBPQ, **parsed.query})
    # SECURITY: bound values (locations with credentials) must not show in logs and errors.
    settings: dict[str, Any] = {
        "future": True,
        "hide_parameters": True,
        "json_deserializer": lenient.read_json,
        "poolclass": WatchedPool,
    }
    if autocommit:
        settings.update(isolation_level="AUTOCOMMIT")
    if parsed.get_backend_name() == "postgresql":
        engine = sa.create_engine(parsed, pool_recycle=idle_timeout or -1, **settings)
        event.listen(engine, "checkout", _refuse_cut_connection)
        event.listen(engine, "connect", _plan_lists if autocommit else _plan)
        if engine.dialect.driver == "psycopg2":
            event.listen(engine, "connect", lambda connection, _: lenient.read_times(connection))
            if hub.is_green():
                _wait_beside_the_hub()
        _explain_connecting(engine)
        return engine
    if parsed.get_backend_name() != "sqlite":
        settings.update(pool_pre_ping=True, pool_recycle=idle_timeout or -1)
        engine = sa.create_engine(parsed, **settings)
        _explain_connecting(engine)
        if engine.dialect.driver == "pymysql":
            event.listen(engine, "connect", _notice_lost_server)
        return engine
    settings.update(connect_args={"check_same_thread": False})
    engine = sa.create_engine(parsed, **settings)
    engine.dialect.do_commit = _commit

    def set_up(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver must not begin transactions itself, in the middle of one of glance's.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout or BUSY_TIMEOUT}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_SIZE}")
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        # Readers and the one writer do not block each other. SQLite refuses this while another
        # process opens the file for the first time; the setting is stored in the file, so a later
        # connection finds it or makes it.
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode = WAL")

    event.listen(engine, "do_connect", _make_file)
    event.listen(engine, "connect", set_up)
    return engine


def _make_file(_dialect: Any, _record: Any, arguments: Sequence[Any], _keywords: Any) -> None:
    """Make the file of a SQLite database before SQLite does.

    SECURITY: SQLite lets everybody read what it makes, as far as the umask permits. It gives its
    journals the mode and, if it runs as root, the owner of the database. A file that root makes
    belongs to the owner of the directory, as whom the daemons run. It is not made behind a link of
    another user, which raises sqlite3.OperationalError.
    """
    path = os.path.abspath(arguments[0])
    if os.path.exists(path):
        return
    try:
        made = files.open_fd(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        try:
            owner = os.stat(os.path.dirname(path))
            if os.geteuid() == 0 and owner.st_uid != 0:
                os.fchown(made, owner.st_uid, owner.st_gid)
        finally:
            os.close(made)
    except files.OpenRefused as err:
        raise sqlite3.OperationalError(f"unable to make the file: {err.strerror}") from err
    except OSError:
        # What else is wrong with the path SQLite reports itself.
        pass


def _commit(connection: Any) -> None:
    """Commit in a native thread: drivers that know no event loop wait for the disk.

    PERF: 2 to 15 ms, in which a worker serves dozens of other requests.
    """
    threads.run(connection.commit)


#: Milliseconds for which psycopg2 stops the hub.
# PERF: most statements take less; going through the hub costs as much as such a statement.
_AT_ONCE = 1


def _wait_beside_the_hub() -> None:
    """Let others run while psycopg2, a library in C, waits for the server.

    PyMySQL needs nothing of this kind: it is written in Python, on sockets that are patched.
    """
    from psycopg2 import extensions

    def wait(connection: Any) -> None:
        while (state := connection.poll()) != extensions.POLL_OK:
            writes = state == extensions.POLL_WRITE
            hub.wait_for(connection.fileno(), write=writes, at_once=_AT_ONCE)

    extensions.set_wait_callback(wait)


def _explain_connecting(engine: sa.engine.Engine) -> None:
    """Let every failure to connect be an OperationalError of the driver.

    Drivers pass on what they find in the parameters of a URL: files that cannot be read,
    parameters that do not exist.
    """

    def connect(dialect: Any, _record: Any, args: Any, words: Any) -> Any:
        failed: type[Exception] = dialect.dbapi.OperationalError
        try:
            # NOTE: libpq heeds its own option only if it waits itself.
            with hub.deadline(_connect_timeout(words)):
                return dialect.connect(*args, **words)
        except TimeoutError:
            raise failed("timeout expired") from None
        except OSError as err:
            where = f" ({err.filename})" if err.filename else ""
            text = f"{err.strerror or type(err).__name__}{where}"
        except (TypeError, ValueError, dialect.dbapi.ProgrammingError) as err:
            text = f"a parameter of sql_connection is not valid: {err}"
        raise failed(" ".join(text.split()))

    event.listen(engine, "do_connect", connect)


def _connect_timeout(words: dict[str, Any]) -> float | None:
    try:
        seconds = float(words.get("connect_timeout") or 0)
    except ValueError:
        # The driver reports it.
        return None
    return seconds if seconds > 0 else None


def _notice_lost_server(connection: Any, _record: Any) -> None:
    """Have the kernel end a connection of PyMySQL whose server is gone without a word."""
    sock = connection._sock
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        for name, value in _TCP.items():
            sock.setsockopt(socket.IPPROTO_TCP, name, value)


def _plan(connection: Any, _record: Any, *more: str) -> None:
    """Keep PostgreSQL from compiling statements.

    PERF: it does so for statements that it expects to be long. A list takes a millisecond; but
    without statistics, as in a database that was just filled, PostgreSQL expects a long one of a
    million images, and compiles it for half a second.
    """
    cursor = connection.cursor()
    for name in ("jit", *more):
        # NOTE: releases before 11 have no `jit`.
        cursor.execute(
            "SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = %s", (name,)
        )
    cursor.close()
    connection.commit()


def _plan_lists(connection: Any, record: Any) -> None:
    """Keep PostgreSQL, on a connection for reading, from reading what a limit cuts off.

    PERF: without statistics it expects short tables and few rows. Then it would read the whole
    table, or make a bitmap of all rows that an index finds, before the first row is returned.
    """
    _plan(connection, record, "enable_bitmapscan", "enable_seqscan")


def _refuse_cut_connection(connection: Any, _record: Any, _proxy: Any) -> None:
    """Make the pool open another connection if the server has closed an idle one.

    PERF: a server that ends closes its socket, which can be seen here. A query each time, as with
    pool_pre_ping, costs a round trip, on one machine 150 of 620 us for a single image.
    """
    if hub.is_readable(connection.fileno()):
        raise exc.DisconnectionError


def exclude_writers(conn: sa.engine.Connection) -> None:
    """On SQLite, begin the transaction of `conn` as the only writer; elsewhere do nothing.

    NOTE: not a listener for SQLAlchemy's event `begin`. PERF: an engine with a listener looks for
    listeners at every step of every statement, 21 us of 65 for one image.
    """
    if conn.dialect.name == "sqlite":
        direct.begin(conn)


def begin_snapshot(conn: sa.engine.Connection) -> None:
    """On SQLite, let the statements from now on see one state of the database.

    Does nothing elsewhere, nor if a snapshot has begun.
    """
    if conn.dialect.name == "sqlite":
        connection = conn.connection.dbapi_connection
        if not connection.in_transaction:
            # PERF: without SQLAlchemy, which takes 30 us for it, a tenth of a list of 25.
            connection.execute("BEGIN")
