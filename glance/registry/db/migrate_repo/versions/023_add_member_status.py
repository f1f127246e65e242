"""Add what members say to the images that are shared with them.

Those who are members now see the images in their lists, and go on to do so: they have accepted.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from glance.registry.db.migrate_repo import operations, schema

_ACCEPT = sa.text(
    "UPDATE image_members SET status = 'accepted'"
    " WHERE NOT deleted AND id > :first AND id <= :last"
)


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.add_columns(conn, schema.image_members(23), "status")
        for first, last in operations.id_ranges(conn, "image_members"):
            conn.execute(_ACCEPT, {"first": first, "last": last})
            if conn.dialect.name == "mysql":
                conn.exec_driver_sql("COMMIT")


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.drop_columns(conn, schema.image_members(22), 22, "status")
