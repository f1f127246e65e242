"""Fill a registry's database with many images, the same ones each time.

The database makes the rows itself, so that a million images take some minutes. All values come
from the number of the image by whole-number arithmetic, which every database does in the same way.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.registry.db import connecting, migration, models
from glance.registry.db.migrate_repo import operations, schema

#: How many tenants own images.
TENANTS = 1000
#: A tenant whose images are all private, and one with whom a hundredth of the others is shared.
OWNER, MEMBER = "tenant7", "tenant1"
#: A member of a tenth of the private images, and of no other; it owns nothing.
PARTNER = "partner"
#: How many rows a statement inserts.
_BATCH = 100_000

#: Whole numbers from 1 to `count`, as a table `numbers (n)`.
_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS"
    " (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})",
    "postgresql": "WITH numbers AS (SELECT generate_series({first}::bigint, {last}) AS n)",
    "mysql": "WITH RECURSIVE numbers(n) AS"
    " (SELECT CAST({first} AS SIGNED) UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})",
}
#: A time `{seconds}` after the beginning of 2020, in the form of each database.
_TIMES = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S', 1577836800 + {seconds}, 'unixepoch')"
    " || printf('.%06d', {micro})",
    "postgresql": "timestamp '2020-01-01' + ({seconds}) * interval '1 second'"
    " + ({micro}) * interval '1 microsecond'",
    "mysql": "TIMESTAMP('2020-01-01') + INTERVAL ({seconds}) SECOND"
    " + INTERVAL ({micro}) MICROSECOND",
}
_IS_DELETED = "n % 50 = 7"
_CREATED = ("n * 100", "n * 7919 % 1000000")
_UPDATED = ("n * 100 + n * 104729 % 1000000", "n * 7907 % 1000000")


def fill(url: str, count: int) -> None:
    """Make the tables of the current version in an empty database, with `count` images.

    A tenth is private and shared with two tenants; each image has five properties (of which
    `serial` is its own). One in fifty is deleted, one in a hundred waits for its data.
    """
    migration.db_sync(url)
    database = connecting.create(url, foreign_keys=False)
    tables = schema.tables(models.SCHEMA_VERSION)
    filled = [tables[name] for name in ("images", "image_properties", "image_members")]
    with database.begin() as conn:
        for table in filled:
            operations.drop_indexes(conn, table.name)
    for first in range(1, count + 1, _BATCH):
        with database.begin() as conn:
            _insert(conn, first, min(first + _BATCH - 1, count))
    with database.begin() as conn:
        for table in filled:
            operations.set_indexes(conn, table, models.SCHEMA_VERSION)
        set_counter(conn, count)
    database.dispose()


def set_counter(conn: Connection, count: int) -> None:
    """Let the images that are created next follow the last of `count`."""
    ids = models.image_id_counter
    conn.execute(ids.delete().where(ids.c.id >= count))
    conn.execute(ids.insert().values(id=count))
    if conn.dialect.name == "postgresql":
        for name in ("images_id_seq", "image_id_counter_id_seq"):
            conn.execute(sa.text(f"SELECT setval('{name}', {count})"))


def is_filled(url: str, count: int) -> bool:
    """Return whether a database has `count` images, and is at the current version."""
    database = connecting.create(url)
    try:
        if not sa.inspect(database).has_table("images"):
            return False
        with database.connect() as conn:
            found = conn.execute(sa.select(sa.func.max(models.images.c.id))).scalar()
        if found != count or migration.db_version(url) != models.SCHEMA_VERSION:
            raise SystemExit(f"{url} has {found} images, or an older schema")
        return True
    finally:
        database.dispose()


def analyze(url: str) -> None:
    """Gather the statistics, and write the pages, as a server does by itself within minutes."""
    database = connecting.create(url, autocommit=True)
    with database.connect() as conn:
        if conn.dialect.name == "mysql":
            conn.exec_driver_sql("ANALYZE TABLE images, image_properties, image_members")
        elif conn.dialect.name == "postgresql":
            conn.exec_driver_sql("VACUUM ANALYZE")
            conn.exec_driver_sql("CHECKPOINT")
        else:
            conn.exec_driver_sql("ANALYZE")
    database.dispose()


def _insert(conn: Connection, first: int, last: int) -> None:
    if conn.dialect.name == "mysql":
        conn.exec_driver_sql("SET SESSION max_recursive_iterations = 1000000000")
    numbers = _NUMBERS[conn.dialect.name].format(first=first, last=last)
    time = _TIMES[conn.dialect.name]
    text = "{} AS CHAR" if conn.dialect.name == "mysql" else "{} AS TEXT"

    def joined(*parts: str) -> str:
        casts = [part if part[0] == "'" else f"CAST({text.format(part)})" for part in parts]
        if conn.dialect.name == "mysql":
            return f"concat({', '.join(casts)})"
        return " || ".join(casts)

    true, false = ("true", "false") if conn.dialect.name != "sqlite" else ("1", "0")
    times = {
        "created_at": time.format(seconds=_CREATED[0], micro=_CREATED[1]),
        "updated_at": time.format(seconds=_UPDATED[0], micro=_UPDATED[1]),
        "deleted": f"CASE WHEN {_IS_DELETED} THEN {true} ELSE {false} END",
    }
    times["deleted_at"] = f"CASE WHEN {_IS_DELETED} THEN {times['updated_at']} END"
    images = {
        "id": "n",
        "name": joined("'image '", "n * 48271 % 1000003"),
        "disk_format": "CASE WHEN n % 1000 = 11 THEN 'vhd' WHEN n * 31 % 10 < 4 THEN 'raw'"
        " WHEN n * 31 % 10 < 8 THEN 'qcow2' ELSE 'iso' END",
        "container_format": "CASE WHEN n * 37 % 11 < 9 THEN 'bare' ELSE 'ovf' END",
        "size": "CASE WHEN n % 100 = 4 THEN NULL ELSE n * 2654435761 % 8589934583 END",
        "status": f"CASE WHEN {_IS_DELETED} THEN 'deleted' WHEN n % 100 = 4 THEN 'queued'"
        " WHEN n % 1000 = 5 THEN 'killed' ELSE 'active' END",
        "is_public": f"CASE WHEN n % 10 = 3 THEN {false} ELSE {true} END",
        "visibility": "CASE WHEN n % 10 = 3 THEN 'shared' ELSE 'public' END",
        "location": joined("'file:///var/lib/glance/images/'", "n"),
        "checksum": joined("'0123456789abcdef0123'", "100000000000 + n"),
        "owner": joined("'tenant'", f"n * 7919 % {TENANTS}"),
        **times,
    }
    queries = [("images", images, "")]
    values = {
        "arch": "CASE WHEN n * 41 % 7 < 5 THEN 'x86_64' ELSE 'aarch64' END",
        "os": "CASE n * 43 % 4 WHEN 0 THEN 'linux' WHEN 1 THEN 'windows' WHEN 2 THEN 'bsd'"
        " ELSE 'plan9' END",
        "project": joined("'project '", "n * 53 % 10007"),
        "serial": joined("'serial '", "n"),
        "vendor": joined("'vendor '", "n * 47 % 101"),
    }
    for name, value in values.items():
        row = {"image_id": "n", "name": f"'{name}'", "value": value, **times}
        queries.append(("image_properties", row, ""))
    members = {
        joined("'tenant'", f"n * 7907 % {TENANTS}"): "n % 10 = 3",
        joined("'tenant'", f"(n * 7907 + 1) % {TENANTS}"): "n % 10 = 3",
        f"'{PARTNER}'": "n % 100 = 13",
    }
    for member, condition in members.items():
        row = {"image_id": "n", "member": member, "can_share": false, **times}
        queries.append(("image_members", row, f" WHERE {condition}"))
    for table, row, where in queries:
        source = f"{numbers} SELECT {', '.join(row.values())} FROM numbers{where}"
        statement = f"INSERT INTO {table} ({', '.join(row)}) {source}"
        conn.exec_driver_sql(statement.replace("%", "%%") if _formats(conn) else statement)


def _formats(conn: Connection) -> bool:
    """Return whether the driver takes `%` as the beginning of a parameter."""
    return conn.dialect.paramstyle in ("format", "pyformat")
