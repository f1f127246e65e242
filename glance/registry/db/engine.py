"""The connection to the registry's database: opened lazily, once in each process.

A `Database` belongs to the application, not to the module: two applications in one process can use
two databases. It provides connections for three purposes (one statement, a snapshot of several, a
write) and hides what SQLite, PostgreSQL and MySQL need for each. Statements are in
`glance.registry.db.api`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc, pool

from glance.common import config, exception, files
from glance.image import cipher
from glance.registry.db import lenient
from glance.streaming import hub, retry, threads

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

#: How long SQLite itself waits for a lock, in milliseconds.
# NOTE: it waits inside C and so blocks every request of the worker; `Database.transaction` does
# longer waits, in which other requests can run.
BUSY_TIMEOUT = 1000
#: KiB of a file of SQLite that each connection keeps in memory, at most.
# PERF: with 2 MiB, the default, the inner nodes of the indexes of a million images do not fit, and
# lists in an order other than that of the rows take up to three times as long.
CACHE_SIZE = 8000
#: How long `Database.transaction` retries after locks and deadlocks, in seconds.
RETRY_FOR = 25.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5

# SQLSTATE of PostgreSQL (serialization failure, deadlock, lock not available), errno of MySQL.
_PG_RETRY = frozenset({"40001", "40P01", "55P03"})
_MYSQL_RETRY = frozenset({1205, 1213})
# The same for a server, or a transaction, that does not permit writing.
_PG_READ_ONLY = frozenset({"25006"})
_MYSQL_READ_ONLY = frozenset({1290, 1792, 1836})

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

#: What tells whether each kind of database can be used: a standby, for one, is read-only.
_CHECKS = {
    "sqlite": "SELECT count(*) FROM sqlite_master",
    "postgresql": "SHOW transaction_read_only",
    "mysql": "SELECT @@global.read_only",
}


#: Mode of the file of a new SQLite database.
FILE_MODE = 0o640


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
        parsed = parse_url(url)
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
        self._turn: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()

    def __repr__(self) -> str:
        return f"<Database {config.mask_url(self.url)}>"

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.engine.Connection]:
        """Yield a connection for reading: one statement, or several independent ones."""
        with self._translated(), self._view("read").connect() as conn:
            yield conn

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sa.engine.Connection]:
        """Yield a connection whose statements all see one state of the database."""
        with self._translated(), self._view("snapshot").connect() as conn:
            begin_snapshot(conn)
            yield conn

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.engine.Connection]:
        """Yield a connection in a transaction: committed at the end, rolled back on an error.

        Does not retry when the database is locked; `transaction` does.
        """
        with self._translated(), self._begun() as conn:
            yield conn

    def transaction(self, work: Callable[[sa.engine.Connection], T]) -> T:
        """Run `work(connection)` in a transaction and return its result.

        `work` runs again from the start after a deadlock or a lock that was not released in time,
        so it must have no effect outside the database. Raises ServiceUnavailable after
        `retry_for`.
        """

        def attempt() -> T:
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
        view = self._view("write")
        with self._turn, view.begin() as conn:
            exclude_writers(conn)
            yield conn

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

    def dispose(self) -> None:
        """Close all idle connections; the object stays usable."""
        with self._lock:
            if self._pid == os.getpid():
                for engine in self._engines:
                    engine.dispose()

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
                engine = create(self.url, idle_timeout=self.idle_timeout)
                reader = engine
                if self.dialect == "postgresql":
                    # PERF: BEGIN and ROLLBACK around one SELECT are round trips, and so is the
                    # switch of a shared connection to autocommit and back: 320 us, not 460.
                    reader = create(self.url, idle_timeout=self.idle_timeout, autocommit=True)
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
                # NOTE: the one writer waits for the disk outside the hub; another writer that
                # waited for it inside SQLite would block the hub after all.
                self._turn = hub.lock()
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
            raise exception.ServiceUnavailable("The database is busy; try again later") from err
        except TimeoutError as err:
            LOG.error("The database has not responded in time")
            # NOTE: its other connections may lead nowhere, too, as when its address has moved.
            self.dispose()
            raise exception.ServiceUnavailable(
                "The registry's database does not respond at the moment"
            ) from err
        except exc.DBAPIError as err:
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
            if err.connection_invalidated or isinstance(
                err, exc.OperationalError | exc.InterfaceError
            ):
                # SECURITY: the driver's text may name hosts, paths and accounts.
                LOG.error("The database cannot be used: %s", err.orig)
                raise exception.ServiceUnavailable(
                    "The registry's database cannot be reached at the moment"
                ) from err
            raise


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


#: Names by which other programs call a kind of database; only one of them has ever worked here.
_OTHER_NAMES = {"sqlite3": "sqlite", "mysqldb": "mysql"}
_OLD_NAMES = {"postgres": "postgresql"}
#: Kind -> the driver in the extra, and the extra of setup.cfg.
_EXTRAS = {
    "postgresql": ("psycopg2", "postgresql"),
    "mysql": ("pymysql", "mysql"),
    "mariadb": ("pymysql", "mysql"),
}
#: Packages of drivers that have another name than the driver.
_PACKAGES = {"mysqldb": "mysqlclient"}
#: What `engine` knows how to use, whatever else SQLAlchemy can connect to.
_KINDS = frozenset({"sqlite", *_EXTRAS})
_USE = "use sqlite, postgresql or mysql"


def parse_url(url: str) -> sa.engine.URL:
    """Return the parts of the URL of a database. Raises ConfigError, which says what is wrong.

    WIRE: files of Diablo have mysql:// and postgres://. Where no driver is named, PyMySQL is used
    for MySQL and MariaDB if it is installed, as the event loop goes on beside it; otherwise
    mysqlclient, which SQLAlchemy would choose.

    A connection transfers all of Unicode, whatever character set an old URL names: two values that
    another one cannot represent would be the same value.

    SECURITY: the error neither shows the URL nor has a cause that does, because it is not known
    which part of a mistyped URL is the password.
    """
    try:
        parsed = sa.engine.make_url(url)
    except (exc.ArgumentError, ValueError):
        raise exception.ConfigError(
            "option sql_connection is not a SQLAlchemy URL, such as "
            "sqlite:////var/lib/glance/glance.sqlite"
        ) from None
    kind, _, driver = parsed.drivername.partition("+")
    named = _OTHER_NAMES.get(kind)
    if named is not None:
        raise exception.ConfigError(
            f"option sql_connection begins with {kind}: SQLAlchemy calls this kind of database "
            f"{named}, so write {named}://"
        )
    if kind in _OLD_NAMES:
        kind = _OLD_NAMES[kind]
        parsed = parsed.set(drivername=f"{kind}+{driver}" if driver else kind)
    if not driver and kind in ("mysql", "mariadb") and not _has_only("MySQLdb"):
        driver = "pymysql"
        parsed = parsed.set(drivername=f"{kind}+{driver}")
    try:
        dialect = parsed.get_dialect()
        if kind not in _KINDS or dialect.is_async:
            raise exception.ConfigError(
                f"option sql_connection: glance does not work with {parsed.drivername}; {_USE}"
            )
        dialect.dbapi()
    except exc.NoSuchModuleError:
        what = f"the driver {driver} for {kind}" if driver else f"the kind of database {kind}"
        raise exception.ConfigError(
            f"option sql_connection: SQLAlchemy does not know {what}; {_USE}"
        ) from None
    except ImportError as err:
        usual, extra = _EXTRAS.get(kind, ("", ""))
        command = f"pip install {_PACKAGES.get(driver, driver)}"
        if driver in ("", usual):
            command = f"pip install 'glance[{extra}]'"
        raise exception.ConfigError(
            f"option sql_connection: the driver for {parsed.drivername} is not installed "
            f"({err.name or 'its module'} is missing): run {command}"
        ) from None
    if parsed.get_backend_name() == "mariadb":
        parsed = parsed.set(drivername=f"mysql+{driver}" if driver else "mysql")
    if parsed.get_backend_name() == "mysql":
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    elif dialect.driver == "psycopg2":
        # NOTE: otherwise the environment or the encoding of the database decides.
        parsed = parsed.update_query_dict({"client_encoding": "utf8"})
    try:
        dialect().create_connect_args(parsed)
    except (TypeError, ValueError):
        raise exception.ConfigError(
            "option sql_connection has a parameter, after its question mark, that is not valid"
        ) from None
    return parsed


def _has_only(other: str) -> bool:
    """Return whether PyMySQL is not installed, but another driver is."""
    for name in ("pymysql", other):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
            return name == other
    return False


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
    parsed = parse_url(url)
    if parsed.get_driver_name() == "psycopg2":
        parsed = parsed.update_query_dict({**_LIBPQ, **parsed.query})
    # SECURITY: bound values (locations with credentials) must not show in logs and errors.
    settings: dict[str, Any] = {"future": True, "hide_parameters": True}
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
    settings.update(poolclass=pool.QueuePool, connect_args={"check_same_thread": False})
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
        conn.exec_driver_sql("BEGIN IMMEDIATE")


def is_read_only(err: exc.DBAPIError) -> bool:
    """Return whether an error means that the server does not permit writing, as a standby."""
    cause = err.orig
    args: tuple[object, ...] = getattr(cause, "args", ())
    return getattr(cause, "pgcode", None) in _PG_READ_ONLY or (
        bool(args) and args[0] in _MYSQL_READ_ONLY
    )


def begin_snapshot(conn: sa.engine.Connection) -> None:
    """On SQLite, let the statements from now on see one state of the database.

    Does nothing elsewhere, nor if a snapshot has begun.
    """
    if conn.dialect.name == "sqlite":
        connection = conn.connection.dbapi_connection
        if not connection.in_transaction:
            # PERF: without SQLAlchemy, which takes 30 us for it, a tenth of a list of 25.
            connection.execute("BEGIN")


def is_contention(err: exc.DBAPIError) -> bool:
    """Return whether an error means a conflict with another transaction: try again."""
    cause = err.orig
    if isinstance(cause, sqlite3.OperationalError):
        return "locked" in str(cause) or "busy" in str(cause)
    if getattr(cause, "pgcode", None) in _PG_RETRY:
        return True
    args: tuple[object, ...] = getattr(cause, "args", ())
    return bool(args) and args[0] in _MYSQL_RETRY
