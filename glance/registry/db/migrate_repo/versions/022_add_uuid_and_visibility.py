"""Add what version 2 of the Images API shows of images, and the uuids of purged ones.

Each image gets a random uuid. What is public stays public, every other image becomes shared, so
that its owner may go on adding members. Registries of earlier versions leave the columns out: then
the database makes the uuid, and `is_public` counts (see `glance.registry.db.visibility`).

MySQL ends a transaction at each change of a table, so there rows are filled in batches.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.registry.db import models
from glance.registry.db.migrate_repo import operations, schema

#: The columns that need no values of their own.
PLAIN = (
    "visibility",
    "os_hidden",
    "os_hash_algo",
    "os_hash_value",
    "virtual_size",
    "deactivated_by_admin",
    "upload_via",
)
_VISIBILITY = "CASE WHEN is_public THEN 'public' ELSE 'shared' END"
_FILL = sa.text(
    # NOTE: not uuid() itself, which tells the server's address and when the step ran.
    "UPDATE images SET uuid = concat_ws('-', substr(md5(concat(id, uuid())), 1, 8),"
    " substr(md5(concat(id, uuid())), 1, 4), concat('4', substr(md5(concat(id, uuid())), 1, 3)),"
    " concat('8', substr(md5(concat(id, uuid())), 1, 3)),"
    f" substr(md5(concat(id, uuid())), 1, 12)), visibility = {_VISIBILITY}"
    " WHERE uuid IS NULL AND id > :first AND id <= :last"
)


def upgrade(migrate_engine: Any) -> None:
    images = schema.images(22)
    with operations.begin(migrate_engine) as conn:
        if conn.dialect.name == "sqlite":
            values = dict.fromkeys(PLAIN, "NULL")
            values.update(dict.fromkeys(("os_hidden", "deactivated_by_admin"), "0"))
            values["uuid"] = str(models.new_uuid().compile(dialect=conn.dialect))
            values["visibility"] = _VISIBILITY
            operations.rebuild(conn, images, 22, values)
        elif conn.dialect.name == "postgresql":
            operations.add_columns(conn, images, "uuid", *PLAIN)
            conn.execute(sa.text("UPDATE images SET visibility = 'public' WHERE is_public"))
            conn.execute(sa.text("ALTER TABLE images ADD UNIQUE (uuid)"))
        else:
            _upgrade_mysql(conn, images)
        operations.set_indexes(conn, images, 22)
        operations.create_table(conn, schema.purged_uuids(22), 22)


def _upgrade_mysql(conn: Connection, images: sa.Table) -> None:
    operations.add_columns(conn, images, *PLAIN)
    if not any(column["name"] == "uuid" for column in sa.inspect(conn).get_columns("images")):
        kind = images.c.uuid.type.compile(dialect=conn.dialect)
        conn.execute(sa.text(f"ALTER TABLE images ADD COLUMN uuid {kind}"))
    # From now on, the rows of other registries have one.
    conn.execute(sa.text("ALTER TABLE images ALTER COLUMN uuid SET DEFAULT (uuid())"))
    for first, last in operations.id_ranges(conn, "images"):
        conn.execute(_FILL, {"first": first, "last": last})
        conn.exec_driver_sql("COMMIT")
    column = sa.schema.CreateColumn(images.c.uuid).compile(dialect=conn.dialect)
    conn.execute(sa.text(f"ALTER TABLE images MODIFY {column}"))
    keys = sa.inspect(conn).get_unique_constraints("images")
    if not any(key["column_names"] == ["uuid"] for key in keys):
        conn.execute(sa.text("ALTER TABLE images ADD UNIQUE (uuid)"))


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.drop_table(conn, "purged_uuids")
        # Data that is on its way has this status in version 1 of the API; the sweep settles it.
        left = "UPDATE images SET status = 'saving' WHERE status IN ('uploading', 'importing')"
        conn.execute(sa.text(left))
        if conn.dialect.name != "sqlite":
            operations.set_indexes(conn, schema.images(21), 21)
        operations.drop_columns(conn, schema.images(21), 21, "uuid", *PLAIN)
