"""The schema's version: how to read and change it, and the check of a starting daemon.

`glance-manage` and the registry's application factory call it. The steps are a repository of
sqlalchemy-migrate in `migrate_repo`; this module runs them all in one transaction under a lock, so
that a failing upgrade leaves the database unchanged and processes that start at the same time do
not interfere. (MySQL ends a transaction at each change of a table: there the lock holds, and a
failing upgrade stays at the last complete step.)

Every failure is a DatabaseMigrationError with one line of advice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from glance.common import config, exception
from glance.registry.db import connecting, engine, models, urls
from glance.registry.db.migrate_repo import schema
from glance.streaming import retry

LOG = logging.getLogger(__name__)

config.options(
    "registry database",
    config.Option(
        "db_auto_create",
        config.boolean,
        None,
        help="Whether a registry that starts creates its tables in an empty database. Unset: "
        "yes for SQLite, no for other databases, for which glance-manage db_sync creates "
        "them.",
    ),
)

REPOSITORY = os.path.join(os.path.dirname(__file__), "migrate_repo")
REPOSITORY_ID = "Glance Migrations"
#: In the version table, beside the version of the tables: the lowest version whose registries work
#: with them, if it is another one. So a registry knows what to think of tables that are newer.
OLDEST_ID = "Glance oldest registry"
VERSION_TABLE = "migrate_version"
#: Key of PostgreSQL's advisory lock and, as text, of MySQL's named one: any fixed number.
_LOCK = 0x676C616E
_LOCK_SECONDS = 600
#: For how long requests wait at a time for tables that a step waits for, in seconds.
_LOCK_MOMENT = 3
#: SQLSTATEs of PostgreSQL: a deadlock, and a lock that is not available in time.
_PG_HELD = frozenset({"40P01", "55P03"})

_versions = sa.Table(
    VERSION_TABLE,
    sa.MetaData(),
    sa.Column("repository_id", models.bytewise_text(250), primary_key=True),
    sa.Column("repository_path", models.bytewise_text()),
    sa.Column("version", sa.Integer),
)


def db_version(url: str) -> int:
    """Return the schema's version. Raises DatabaseMigrationError if the database has none."""
    with _connected(url) as conn:
        return _controlled_version(conn, url)


def version_control(url: str, version: int | str | None = None) -> None:
    """Write a version (0 unless given) to the version table, which is created if missing."""
    target = _valid(version, default=0)
    with _connected(url, write=True) as conn:
        if _version(conn) is not None:
            raise exception.DatabaseMigrationError(
                f"database '{config.mask_url(url)}' is already under migration control"
            )
        _stamp(conn, target)


def upgrade(url: str, version: int | str | None = None) -> None:
    """Upgrade to a version, the latest unless given."""
    target = _valid(version, default=models.SCHEMA_VERSION)
    with _connected(url, write=True) as conn:
        _upgrade(conn, _controlled_version(conn, url), target)


def downgrade(url: str, version: int | str) -> None:
    """Downgrade to a version. Refused if values would be truncated."""
    target = _valid(version, default=None)
    with _connected(url, write=True) as conn:
        current = _controlled_version(conn, url)
        if target > current:
            raise exception.DatabaseMigrationError(
                f"the database is at version {current}, below {target}: use upgrade"
            )
        _walk(conn, current, target)


def db_sync(url: str, version: int | str | None = None) -> tuple[int, int]:
    """Put the database under version control if it is not, then upgrade it.

    Returns the version that the tables had, 0 if there were none, and the one that they have now.

    Tables without a version are recognised if they are those of a Diablo registry (version 9) or
    of this release; others are refused.
    """
    target = _valid(version, default=models.SCHEMA_VERSION)
    with _connected(url, write=True) as conn:
        current = _version(conn)
        if not current:
            adopted = _recognise(conn)
            if current is None or adopted:
                _stamp(conn, adopted)
            current = adopted
        _upgrade(conn, current, target)
        return current, target


def require_current(url: str, command: str = "this command") -> None:
    """Raise DatabaseMigrationError unless the database has the schema of this release."""
    version = db_version(url)
    if version != models.SCHEMA_VERSION:
        raise exception.DatabaseMigrationError(
            f"the database has schema version {version}, but {command} requires version "
            f"{models.SCHEMA_VERSION}"
        )


def create_missing(url: str) -> None:
    """Create the tables in a database that has none of them; otherwise do as `require_current`.

    Raises DatabaseMigrationError.
    """
    with _connected(url) as conn:
        found = sa.inspect(conn).get_table_names()
    if {VERSION_TABLE, *models.metadata.tables}.isdisjoint(found):
        db_sync(url)
    require_current(url)


def prepare(conf: config.Conf, db: engine.Database) -> None:
    """Check, at the start of a daemon, that the schema has the required version.

    Creates the tables in an empty database if `db_auto_create` allows. A newer version is accepted
    if the release that upgraded the tables says so: nodes are upgraded one after the other. Every
    other version is refused with advice. Waits for a database that cannot be reached yet.
    """
    found, oldest = _wait_for(conf, db)
    if found == models.SCHEMA_VERSION:
        return
    if found is not None:
        if oldest is not None and oldest <= models.SCHEMA_VERSION < found:
            LOG.warning(
                "The database has schema version %d, of a newer release. This one, of version %d, "
                "works with it; upgrade this node soon",
                found,
                models.SCHEMA_VERSION,
            )
            return
        advice = (
            "run glance-manage db_sync to upgrade it (make a copy first)"
            if found < models.SCHEMA_VERSION
            else "use the release of glance that upgraded it"
        )
        raise exception.DatabaseMigrationError(
            f"the registry's database has schema version {found}, this release works with "
            f"version {models.SCHEMA_VERSION}: {advice}"
        )
    with _connected(db.url, write=True) as conn:
        # NOTE: checked again under the lock; another worker may have been first.
        if _version(conn) == models.SCHEMA_VERSION:
            return
        if sa.inspect(conn).get_table_names():
            raise exception.DatabaseMigrationError(
                "the registry's database has tables but no schema version: run glance-manage "
                "db_sync, which recognises the tables of a Diablo registry (make a copy first)"
            )
        allowed = conf.db_auto_create
        if not (db.dialect == "sqlite" if allowed is None else allowed):
            raise exception.DatabaseMigrationError(
                "the registry's database is empty: run glance-manage db_sync, or set "
                "db_auto_create = True"
            )
        _require_unicode(conn)
        _stamp(conn, 0)
        _upgrade(conn, 0, models.SCHEMA_VERSION)
    LOG.info("Created the registry's tables at schema version %d", models.SCHEMA_VERSION)


def _wait_for(conf: config.Conf, db: engine.Database) -> tuple[int | None, int | None]:
    """Return the current version of `db` and the oldest one whose registries it admits, or None.

    Retries while it is unreachable.
    """
    # NOTE: a file that cannot be opened now cannot be opened in a second either.
    left = 0 if db.dialect == "sqlite" else conf.sql_max_retries

    def ask() -> tuple[int | None, int | None]:
        with db.read() as conn:
            return _version(conn), _version(conn, OLDEST_ID)

    def report(_: Exception) -> None:
        nonlocal left
        LOG.warning("The database cannot be reached; retrying (%d attempts left)", left)
        left -= 1

    backoff = retry.Backoff.steady(conf.sql_retry_interval, retries=left)
    try:
        return retry.retry(ask, backoff, on=exception.ServiceUnavailable, report=report)
    except exception.ServiceUnavailable as err:
        raise exception.DatabaseMigrationError(_reason(db.url, err.__cause__)) from err


# -- the version table ---------------------------------------------------------------------------


def _version(conn: Connection, name: str = REPOSITORY_ID) -> int | None:
    """Return the recorded version, None if there is none."""
    if not sa.inspect(conn).has_table(VERSION_TABLE):
        return None
    statement = sa.select(_versions.c.version).where(_versions.c.repository_id == name)
    found = conn.execute(statement).scalar()
    return None if found is None else int(found)


def _controlled_version(conn: Connection, url: str) -> int:
    version = _version(conn)
    if version is None:
        raise exception.DatabaseMigrationError(
            f"database '{config.mask_url(url)}' is not under migration control"
        )
    return version


def _stamp(conn: Connection, version: int) -> None:
    """Write `version` to the version table, which is created the first time."""
    _versions.create(conn, checkfirst=True)
    _take_all_text(conn)
    _record(conn, REPOSITORY_ID, version)
    oldest = schema.oldest_registry(version)
    if oldest == version:
        conn.execute(_versions.delete().where(_versions.c.repository_id == OLDEST_ID))
    else:
        _record(conn, OLDEST_ID, oldest)


def _record(conn: Connection, name: str, version: int) -> None:
    mine = _versions.c.repository_id == name
    if conn.execute(_versions.update().where(mine).values(version=version)).rowcount:
        return
    conn.execute(
        _versions.insert().values(repository_id=name, repository_path=REPOSITORY, version=version)
    )


def _take_all_text(conn: Connection) -> None:
    """Give a version table that sqlalchemy-migrate made in MySQL the character set of all others.

    It has the server's default, in which the path of the repository may not have a form.
    """
    if conn.dialect.name != "mysql":
        return
    collation = models.bytewise_collation(conn.dialect)
    others = sa.text(
        "SELECT count(*) FROM information_schema.columns WHERE table_schema = database()"
        " AND table_name = :table AND collation_name <> :collation"
    )
    if conn.execute(others, {"table": VERSION_TABLE, "collation": collation}).scalar():
        conn.exec_driver_sql(
            f"ALTER TABLE {VERSION_TABLE} CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}"
        )


def _require_unicode(conn: Connection) -> None:
    """Refuse to create tables in a database of PostgreSQL that cannot hold all of Unicode."""
    if conn.dialect.name != "postgresql":
        return
    encoding = conn.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise exception.DatabaseMigrationError(
            f"the database has the encoding {encoding}, which cannot hold every name: create it "
            "with ENCODING 'UTF8' TEMPLATE template0"
        )


def _recognise(conn: Connection) -> int:
    """Return the version of tables without a recorded one; 0 if there are no glance tables."""
    inspector = sa.inspect(conn)
    names = set(inspector.get_table_names()) & set(models.metadata.tables)
    if not names:
        _require_unicode(conn)
        return 0
    found = {name: {col["name"] for col in inspector.get_columns(name)} for name in names}
    for version in (models.SCHEMA_VERSION, schema.DIABLO):
        tables = schema.tables(version)
        if found == {name: set(table.columns.keys()) for name, table in tables.items()}:
            LOG.info("The tables match schema version %d", version)
            return version
    raise exception.DatabaseMigrationError(
        "the database has tables of an unknown schema and no version: enter the version they "
        "have with glance-manage version_control, then upgrade"
    )


# -- running steps -------------------------------------------------------------------------------


def _upgrade(conn: Connection, current: int, target: int) -> None:
    if current > models.SCHEMA_VERSION:
        raise exception.DatabaseMigrationError(
            f"the database is at version {current}, which this release does not know: use the "
            "release of glance that upgraded it"
        )
    if current > target:
        raise exception.DatabaseMigrationError(
            f"the database is at version {current}, above {target}: use downgrade"
        )
    _walk(conn, current, target)


def _walk(conn: Connection, current: int, target: int) -> None:
    """Run the steps from one version to another, and record each in the version table."""
    if current == target:
        return
    if max(current, target) > models.SCHEMA_VERSION:
        raise exception.DatabaseMigrationError(
            f"the database is at version {current}, which this release does not know"
        )
    _lock_tables(conn)
    # PERF: imported only when needed: sqlalchemy-migrate takes a third of a second to load.
    from migrate.versioning import repository

    changes = repository.Repository(REPOSITORY).changeset(conn.dialect.name, current, target)
    for version, change in changes:
        reached = int(version) + changes.step
        LOG.info("Changing the schema from version %d to %d", version, reached)
        change.run(conn, changes.step)
        _stamp(conn, reached)
        if conn.dialect.name == "mysql":
            # The step's tables are committed already; commit its number, too.
            conn.exec_driver_sql("COMMIT")


def _valid(version: int | str | None, default: int | None) -> int:
    """Return a version from a caller or a command line as the number of an existing version."""
    if version is None or version == "":
        if default is None:
            raise exception.DatabaseMigrationError("downgrade requires a version argument")
        return default
    text = str(version)
    if not (text.isascii() and text.isdigit()) or int(text) > models.SCHEMA_VERSION:
        raise exception.DatabaseMigrationError(
            f"there is no schema version '{text}': use a number from 0 to {models.SCHEMA_VERSION}"
        )
    return int(text)


@contextlib.contextmanager
def _connected(url: str, write: bool = False) -> Iterator[Connection]:
    """Yield a separate connection; with `write`, in a transaction that excludes all others."""
    try:
        urls.parse(url)
    except exception.ConfigError as err:
        raise exception.DatabaseMigrationError(str(err)) from None
    found = connecting.create(url, foreign_keys=False, busy_timeout=_LOCK_SECONDS * 1000)
    try:
        with _translated(url):
            with found.connect() as conn:
                if not write:
                    yield conn
                    return
                with conn.begin():
                    _exclude_others(conn)
                    yield conn
    finally:
        found.dispose()


def _exclude_others(conn: Connection) -> None:
    """Wait until no other process changes the schema."""
    connecting.exclude_writers(conn)
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    elif conn.dialect.name == "mysql":
        # The lock belongs to the connection, which is closed after the work.
        conn.execute(
            sa.text("SELECT GET_LOCK(:key, :seconds)"),
            {"key": f"glance-{_LOCK}", "seconds": _LOCK_SECONDS},
        )
        # NOTE: a change of a table copies its rows, also those with a date such as 0000-00-00.
        conn.exec_driver_sql(
            "SET SESSION sql_mode ="
            " replace(replace(@@sql_mode, 'NO_ZERO_DATE', ''), 'NO_ZERO_IN_DATE', '')"
        )


def _lock_tables(conn: Connection) -> None:
    """Take all tables of PostgreSQL before the first is changed, so that no deadlock is possible.

    Registries may be at work. They wait no longer than a moment at a time for somebody else, such
    as a backup, who keeps a table for long; then they go on, and it is tried again.
    """
    if conn.dialect.name != "postgresql":
        return
    found = set(sa.inspect(conn).get_table_names())
    names = [table.name for table in models.metadata.sorted_tables if table.name in found]
    if not names:
        return
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            with conn.begin_nested():
                conn.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_MOMENT}s'")
                conn.exec_driver_sql(f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE")
                conn.exec_driver_sql("SET LOCAL lock_timeout = DEFAULT")
                return
        except exc.DBAPIError as err:
            if getattr(err.orig, "pgcode", None) not in _PG_HELD or time.monotonic() > deadline:
                raise
        LOG.warning("The tables are in use by somebody for long; trying again")
        time.sleep(_LOCK_MOMENT)


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as err:
        raise exception.DatabaseMigrationError(_reason(url, err)) from err


def _reason(url: str, err: BaseException | None) -> str:
    """Return one line about a failure of the database, for the operator."""
    # SECURITY: only the driver's sentence, without the SQL and its bound values.
    text = " ".join(str(getattr(err, "orig", err)).split())
    return f"database '{config.mask_url(url)}': {text}"
