"""Copy a registry's database into another one, of the same kind or of another.

For `glance-manage copy_database`. One transaction of the target takes everything, and commits only
after all rows have been read back and compared: an interrupted or failed copy leaves the target as
it was, and is begun anew. Rows are read and written in batches, so that the memory does not grow
with the number of images. Values go through Python in one form for all databases; what the target
cannot hold is an error that names the row and never shows a value, because locations may hold
credentials.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from glance.common import config, exception
from glance.registry.db import engine, lenient, models, paging, urls
from glance.registry.db.upkeep import dangling

LOG = logging.getLogger(__name__)

#: Rows of a batch. A row has two texts of 64 KiB at most, unless another program wrote it.
BATCH = 500
_PROGRESS_ROWS = 100_000


class CopyFailed(exception.Error):
    """The copy was given up, and the target is as it was before; the message says why."""


class TableSum(NamedTuple):
    """The number of rows of a table, and a checksum of them that does not depend on their order.

    That is the sum of the SHA-256 of each row, because databases order text differently.
    """

    rows: int
    checksum: int

    def plus(self, rows: list[tuple[Any, ...]]) -> TableSum:
        digests = (hashlib.sha256(repr(row).encode("utf-8", "surrogatepass")) for row in rows)
        total = sum((int.from_bytes(digest.digest()) for digest in digests), self.checksum)
        return TableSum(self.rows + len(rows), total % 2**256)


def copy(
    source: engine.Database,
    target: engine.Database,
    *,
    overwrite: bool = False,
    done: Callable[[str, int], None] = lambda table, rows: None,
) -> int:
    """Copy all rows and return how many; both databases have the schema of this release.

    `done` is called for each table that was copied and compared. Nothing may change the source
    meanwhile: this is found at the end, and nothing is copied then. With `overwrite`, the rows of
    the target are removed; otherwise it must have none. Raises CopyFailed, and ServiceUnavailable
    if one of the databases is.
    """
    if _is_same(source, target):
        raise CopyFailed("the source and the target are the same database")
    for row in dangling.rows(source):
        raise CopyFailed(
            f"table {row.table} of the source has rows of image {row.image_id}, which does not "
            "exist: run glance-manage check --records-only --repair first"
        )
    tables = models.metadata.sorted_tables
    with target.write() as conn:
        _make_room(conn, tables, overwrite=overwrite)
        copied = _copy_tables(source, conn, tables)
        for table in tables:
            found = _sum(conn, table)
            if found != copied[table.name]:
                raise CopyFailed(
                    f"table {table.name} differs: {copied[table.name].rows} rows were copied, and "
                    f"{found.rows} were read back, or their values are others"
                )
            done(table.name, found.rows)
        _require_unchanged(source, copied)
        if conn.dialect.name == "postgresql":
            # NOTE: last, because a rollback does not undo it.
            _set_sequences(conn, tables)
    if target.dialect == "mysql":
        _lower_counters(target, tables)
    return sum(found.rows for found in copied.values())


def _is_same(source: engine.Database, target: engine.Database) -> bool:
    ours, theirs = urls.parse(source.url), urls.parse(target.url)
    if source.dialect == target.dialect == "sqlite":
        files = {os.path.realpath(url.database or "") for url in (ours, theirs)}
        return len(files) == 1
    return bool(ours == theirs)


def _make_room(conn: Connection, tables: list[sa.Table], *, overwrite: bool) -> None:
    if conn.dialect.name == "mysql":
        # NOTE: so that nothing is cut, and an id 0 stays what it is.
        conn.exec_driver_sql(
            "SET SESSION sql_mode = concat(@@sql_mode, ',STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO')"
        )
    for table in reversed(tables):
        if overwrite:
            conn.execute(table.delete())
        elif conn.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
            raise CopyFailed(
                f"the target is not empty: its table {table.name} has rows; --overwrite removes "
                "all that the target has"
            )


def _copy_tables(
    source: engine.Database, conn: Connection, tables: list[sa.Table]
) -> dict[str, TableSum]:
    copied = {}
    with source.snapshot() as reading:
        for table in tables:
            total = TableSum(0, 0)
            for rows in _batches(reading, table):
                _insert(conn, table, rows)
                total = total.plus(rows)
                if total.rows % _PROGRESS_ROWS < len(rows):
                    LOG.info("%s: %d rows so far", table.name, total.rows)
            copied[table.name] = total
    return copied


def _sum(conn: Connection, table: sa.Table) -> TableSum:
    total = TableSum(0, 0)
    for rows in _batches(conn, table):
        total = total.plus(rows)
    return total


def _require_unchanged(source: engine.Database, copied: dict[str, TableSum]) -> None:
    with source.snapshot() as reading:
        for table in models.metadata.sorted_tables:
            if _sum(reading, table) != copied[table.name]:
                raise CopyFailed(
                    f"table {table.name} of the source has changed while it was copied: stop "
                    "glance-registry and glance-scrubber, and copy again"
                )


# -- rows ----------------------------------------------------------------------------------------


def _batches(conn: Connection, table: sa.Table) -> Iterator[list[tuple[Any, ...]]]:
    """Yield all rows of a table in batches, in the order of its key, in the common form."""
    dialect = conn.dialect.name
    key = list(table.primary_key.columns)
    columns = [
        lenient.raw(column, dialect).label(column.name) if dialect == "sqlite" else column
        for column in table.columns
    ]
    places = [list(table.columns).index(column) for column in key]
    forms = [_form(column) for column in table.columns]
    ordered = sa.select(*columns).order_by(*key).limit(BATCH)
    page = ordered
    while True:
        found = lenient.fetch(conn, page, {})
        if found:
            yield [_common(table, forms, row) for row in found]
        if len(found) < BATCH:
            return
        page = ordered.where(paging.behind(key, [found[-1][place] for place in places]))


def _form(column: sa.Column) -> Callable[[Any], Any]:
    """Return the function that brings a value of a column into its common form."""
    if isinstance(column.type, lenient.Timestamp):
        return _time
    if isinstance(column.type, sa.Boolean):
        return _flag
    if isinstance(column.type, sa.Integer | lenient.WholeNumber):
        return int
    return _text


def _time(value: Any) -> datetime.datetime:
    found = lenient.time(value)
    if found is None:
        raise ValueError
    return found


def _flag(value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    return {"true": True, "t": True, "false": False, "f": False}[str(value).lower()]


def _text(value: Any) -> str:
    return str(lenient.text(value))


def _common(table: sa.Table, forms: list[Callable[[Any], Any]], row: Any) -> tuple[Any, ...]:
    values = []
    for column, form, value in zip(table.columns, forms, row, strict=True):
        try:
            values.append(None if value is None else form(value))
        except (ValueError, TypeError, KeyError, OverflowError):
            raise CopyFailed(
                f"{_name_of(table, row)}: its {column.name} cannot be read; correct it and copy "
                "again"
            ) from None
    return tuple(values)


def _insert(conn: Connection, table: sa.Table, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows. Raises CopyFailed, which names the row that the target refuses."""
    names = table.columns.keys()
    # SECURITY: raised apart from their causes, which may show values.
    bad: tuple[tuple[Any, ...], str] | None = None
    try:
        with conn.begin_nested():
            conn.execute(table.insert(), [dict(zip(names, row, strict=True)) for row in rows])
        return
    except (exc.DBAPIError, ValueError) as err:
        if isinstance(err, exc.DBAPIError) and err.connection_invalidated:
            raise
        bad = rows[0], _reason(err)
    for row in rows if len(rows) > 1 else ():
        try:
            with conn.begin_nested():
                conn.execute(table.insert(), dict(zip(names, row, strict=True)))
        except (exc.DBAPIError, ValueError) as err:
            bad = row, _reason(err)
            break
    raise CopyFailed(f"{_name_of(table, bad[0])} does not fit into the target: {bad[1]}")


def _reason(err: Exception) -> str:
    """Return the driver's sentence about a row, without values."""
    cause = getattr(err, "orig", None) or err
    if isinstance(cause, UnicodeError):
        return "it has a character that the target cannot hold"
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    args = getattr(cause, "args", ())
    text = str(primary or (args[-1] if args else type(cause).__name__))
    # What MySQL and MariaDB quote first is a value.
    for start in ("Duplicate entry", "Incorrect string value", "Incorrect datetime value"):
        if text.startswith(start):
            return start.lower()
    return config.mask_text(" ".join(text.split()))


def _name_of(table: sa.Table, row: Any) -> str:
    values = dict(zip(table.columns.keys(), row, strict=True))
    key = " ".join(f"{column.name} {values[column.name]}" for column in table.primary_key.columns)
    return f"the row of {table.name} with {key}"


# -- counters ------------------------------------------------------------------------------------


def _counted(tables: list[sa.Table]) -> Iterator[sa.Table]:
    """Yield the tables whose ids the database counts."""
    return (table for table in tables if table.primary_key.columns.keys() == ["id"])


def _set_sequences(conn: Connection, tables: list[sa.Table]) -> None:
    """Let the sequences of PostgreSQL go on behind the rows."""
    for table in _counted(tables):
        conn.execute(
            sa.text(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'),"
                f" greatest(coalesce(max(id), 1), 1), coalesce(max(id), 0) > 0) FROM {table.name}"
            )
        )


def _lower_counters(target: engine.Database, tables: list[sa.Table]) -> None:
    """Let MySQL count on behind the rows, and not behind those that were overwritten.

    NOTE: a change of a table ends the transaction, so this is done after the copy. MySQL raises
    the number to one that is free.
    """
    with target.write() as conn:
        for table in _counted(tables):
            conn.exec_driver_sql(f"ALTER TABLE {table.name} AUTO_INCREMENT = 1")
