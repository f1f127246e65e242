"""How a step changes tables on SQLite, PostgreSQL and MySQL.

SQLite changes a table by rebuilding it: the new table is filled and gets the old one's name after
the old one is dropped, in that order, so that the foreign keys of other tables still refer to the
name. Every function works on a connection in a transaction; only MySQL ignores it for these
statements, so there each function leaves out what an interrupted run of the step has done already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateColumn, CreateTable

from glance.common import exception
from glance.registry.db import models
from glance.registry.db.migrate_repo import schema

#: How much of a file SQLite keeps in memory while it rebuilds a table, at most.
_CACHE_KIB = 128 * 1024
#: How many rows one statement of a step fills, where rows are filled in batches.
BATCH = 10_000


@contextlib.contextmanager
def begin(migrate_engine: Any) -> Iterator[Connection]:
    """Yield the connection of a step.

    glance's own runner passes the connection of its single transaction; the `migrate` tool passes
    an engine, and then the step is a separate transaction.
    """
    if isinstance(migrate_engine, Connection):
        yield migrate_engine
    else:
        with migrate_engine.begin() as conn:
            yield conn


def create_table(conn: Connection, table: sa.Table, version: int) -> None:
    """Create a table with its indexes.

    An existing table with the same columns is accepted: a Diablo registry creates missing tables
    when it starts, whatever version the database has.
    """
    existing = sa.inspect(conn)
    if existing.has_table(table.name):
        if _columns(conn, table.name) != set(table.columns.keys()):
            raise exception.DatabaseMigrationError(
                f"table {table.name} exists already with other columns than version {version} has"
            )
    else:
        conn.execute(CreateTable(table))
    set_indexes(conn, table, version)


def drop_table(conn: Connection, name: str) -> None:
    if_exists = "IF EXISTS " if conn.dialect.name == "mysql" else ""
    conn.execute(sa.text(f"DROP TABLE {if_exists}{name}"))


def add_columns(conn: Connection, table: sa.Table, *names: str) -> None:
    """Add columns, given by the table's new definition."""
    done = _columns(conn, table.name) if conn.dialect.name == "mysql" else set()
    for name in names:
        if name in done:
            continue
        ddl = CreateColumn(table.c[name]).compile(dialect=conn.dialect)
        conn.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {ddl}"))


def drop_columns(conn: Connection, table: sa.Table, version: int, *names: str) -> None:
    """Drop columns; `table` is the definition without them."""
    if conn.dialect.name == "sqlite":
        rebuild(conn, table, version)
        return
    left = _columns(conn, table.name) if conn.dialect.name == "mysql" else set(names)
    for name in names:
        if name in left:
            conn.execute(sa.text(f"ALTER TABLE {table.name} DROP COLUMN {name}"))


def _columns(conn: Connection, table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(conn).get_columns(table)}


def rebuild(
    conn: Connection,
    table: sa.Table,
    version: int,
    sources: Mapping[str, str] | None = None,
) -> None:
    """Replace a table of SQLite by one with the definition `table`, and keep the rows.

    `sources` gives SQL expressions for columns that are not simply copied.
    """
    # PERF: random keys, such as uuids, are spread over an index: with the 2 MiB by default, its
    # pages would be written again and again. The connection is closed after the steps.
    conn.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KIB}")
    quote = conn.dialect.identifier_preparer.quote
    fresh = table.to_metadata(table.metadata, name=f"{table.name}_new")
    drop_indexes(conn, table.name)
    conn.execute(CreateTable(fresh))
    names = list(table.columns.keys())
    values = [(sources or {}).get(name, quote(name)) for name in names]
    conn.execute(
        sa.text(
            f"INSERT INTO {fresh.name} ({', '.join(map(quote, names))})"
            f" SELECT {', '.join(values)} FROM {table.name} ORDER BY id"
        )
    )
    drop_table(conn, table.name)
    conn.execute(sa.text(f"ALTER TABLE {fresh.name} RENAME TO {table.name}"))
    set_indexes(conn, table, version)


def set_indexes(conn: Connection, table: sa.Table, version: int) -> None:
    """Give a table exactly the indexes of a version.

    Other indexes of glance (their names begin with `ix_`) are dropped; an operator's own stay.
    """
    expected = schema.indexes(table.name, version)
    found = _own_indexes(conn, table.name)
    for name, columns in expected.items():
        if found.get(name) != columns:
            if name in found:
                _drop_index(conn, table.name, name)
            if name == models.ODD_NAME_INDEX:
                index = models.odd_name_index(table)
            elif name == models.VALUE_INDEX:
                index = models.value_index(table)
            else:
                index = models.order_index(name, *(table.c[column] for column in columns))
            index.create(conn)
    # NOTE: after the new ones exist; MySQL refuses to drop the last index of a foreign key.
    for name in found.keys() - expected.keys():
        _drop_index(conn, table.name, name)


def compare_bytewise(conn: Connection, table: sa.Table, version: int) -> None:
    """Make the database compare the text columns of a table byte by byte; keep the rows.

    SQLite and PostgreSQL do so, unless an operator has given a column another collation. Raises
    DatabaseMigrationError for a MySQL or MariaDB that cannot.
    """
    if conn.dialect.name == "sqlite":
        ddl = sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
        if "COLLATE" in conn.execute(ddl, {"name": table.name}).scalar_one().upper():
            rebuild(conn, table, version)
        return
    columns = [column for column in table.columns if isinstance(column.type, sa.types.Variant)]
    texts = [column for column in columns if isinstance(column.type.impl, sa.String)]
    if conn.dialect.name == "mysql":
        collation = models.bytewise_collation(conn.dialect)
        if not conn.execute(sa.text(f"SHOW COLLATION LIKE '{collation}'")).first():
            raise exception.DatabaseMigrationError(
                f"version {version} needs MySQL 8.0.17 or MariaDB 10.5: upgrade the database "
                "server first"
            )
        changes = [
            f"MODIFY {CreateColumn(column).compile(dialect=conn.dialect)}" for column in texts
        ]
        # NOTE: other row formats limit the keys of an index to 767 bytes.
        changes.append("ROW_FORMAT = DYNAMIC")
        conn.execute(sa.text(f"ALTER TABLE {table.name} {', '.join(changes)}"))
        return
    loose = set(conn.execute(_LOOSE, {"table": table.name}).scalars())
    for column in texts:
        if column.name in loose:
            kind = column.type.compile(dialect=conn.dialect)
            conn.execute(
                sa.text(
                    f"ALTER TABLE {table.name} ALTER COLUMN {column.name} TYPE {kind}"
                    ' COLLATE "default"'
                )
            )


#: Columns of a table of PostgreSQL whose values can be equal although their bytes differ.
_LOOSE = sa.text(
    "SELECT attname FROM pg_attribute AS a"
    " JOIN pg_type AS t ON t.oid = a.atttypid"
    " LEFT JOIN pg_collation AS c ON c.oid = a.attcollation"
    " WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0"
    " AND (t.typname = 'citext' OR NOT c.collisdeterministic)"
)


def id_ranges(conn: Connection, table: str) -> Iterator[tuple[int, int]]:
    """Yield ranges of the ids of a table, each of `BATCH` rows at most: above the first, and up
    to and including the last.
    """
    ends = sa.text(
        f"SELECT max(id) FROM (SELECT id FROM {table} WHERE id > :first ORDER BY id LIMIT {BATCH})"
        " AS batch"
    )
    first = -1
    while (last := conn.execute(ends, {"first": first}).scalar()) is not None:
        yield first, last
        first = last


def longest(conn: Connection, table: str, column: str, condition: str = "1 = 1") -> int:
    """Return the length of the longest text in a column, in characters."""
    function = "char_length" if conn.dialect.name in ("mysql", "postgresql") else "length"
    statement = f"SELECT max({function}({column})) FROM {table} WHERE {condition}"
    return conn.execute(sa.text(statement)).scalar() or 0


def _own_indexes(conn: Connection, table: str) -> dict[str, tuple[str, ...] | None]:
    """Return glance's indexes with their columns; None for a unique one."""
    if conn.dialect.name == "postgresql":
        # NOTE: SQLAlchemy does not report an index that has an expression.
        parts: dict[str, list[str]] = {}
        for name, column in conn.execute(_INDEX_PARTS, {"table": table}):
            parts.setdefault(name, []).append(column)
        return {name: tuple(columns) for name, columns in parts.items()}
    return {
        index["name"]: None if index["unique"] else tuple(index["column_names"])
        for index in sa.inspect(conn).get_indexes(table)
        if str(index["name"]).startswith("ix_")
    }


#: Names and columns of the indexes of a table of PostgreSQL that are no constraints of it. Of an
#: expression, the column that it depends on.
_INDEX_PARTS = sa.text(
    "SELECT i.relname, coalesce(a.attname, ("
    "SELECT c.attname FROM pg_depend AS d JOIN pg_attribute AS c"
    " ON c.attrelid = d.refobjid AND c.attnum = d.refobjsubid"
    " WHERE d.objid = i.oid AND d.refobjid = x.indrelid AND d.refobjsubid > 0"
    " AND d.refobjsubid <> ALL (x.indkey) LIMIT 1))"
    " FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid"
    " CROSS JOIN LATERAL unnest(x.indkey) WITH ORDINALITY AS k(number, place)"
    " LEFT JOIN pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = k.number"
    " AND k.number > 0"
    " WHERE x.indrelid = to_regclass(:table) AND i.relname LIKE 'ix\\_%'"
    " AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = x.indexrelid)"
    " ORDER BY i.relname, k.place"
)


def drop_indexes(conn: Connection, table: str) -> None:
    for name in _own_indexes(conn, table):
        _drop_index(conn, table, name)


def _drop_index(conn: Connection, table: str, name: str) -> None:
    where = f" ON {table}" if conn.dialect.name == "mysql" else ""
    conn.execute(sa.text(f"DROP INDEX {name}{where}"))
