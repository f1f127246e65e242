"""Count ids in a table of their own, and remember those of purged images.

What was purged before is not known. So all ids below the newest image that do not exist count as
purged, apart from those below an id that only a caller can have chosen.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.registry.db import ids
from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        counter, purged = schema.image_id_counter(17), schema.purged_image_ids(17)
        for table in (counter, purged):
            operations.create_table(conn, table, 17)
            conn.execute(table.delete())
        counted = max(ids.highest_counted(conn), _sequence(conn))
        conn.execute(
            sa.text(
                "INSERT INTO purged_image_ids (first_id, last_id)"
                " SELECT previous + 1, id - 1 FROM"
                " (SELECT id, coalesce(lag(id) OVER (ORDER BY id), 0) AS previous"
                " FROM images WHERE id BETWEEN 1 AND :counted) AS pairs"
                " WHERE id > previous + 1"
            ),
            {"counted": counted},
        )
        if counted:
            conn.execute(counter.insert().values(id=counted))
            _move_sequence(conn, "image_id_counter", counted)


def downgrade(migrate_engine: Any) -> None:
    """Forget which images were purged; the ids of new images are still counted from the last."""
    with operations.begin(migrate_engine) as conn:
        counted = conn.execute(sa.text("SELECT max(id) FROM image_id_counter")).scalar() or 0
        _move_sequence(conn, "images", counted)
        if conn.dialect.name == "mysql":
            conn.execute(sa.text(f"ALTER TABLE images AUTO_INCREMENT = {counted + 1}"))
        operations.drop_table(conn, "purged_image_ids")
        operations.drop_table(conn, "image_id_counter")


def _sequence(conn: Connection) -> int:
    """Return the last number of the sequence of images; 0 for none."""
    if not _has_sequence(conn, "images"):
        return 0
    counted = sa.text("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM images_id_seq")
    return int(conn.execute(counted).scalar_one())


def _has_sequence(conn: Connection, table: str) -> bool:
    if conn.dialect.name != "postgresql":
        return False
    name = sa.text("SELECT pg_get_serial_sequence(:table, 'id')")
    return conn.execute(name, {"table": table}).scalar() is not None


def _move_sequence(conn: Connection, table: str, counted: int) -> None:
    """Let a sequence of PostgreSQL go on after `counted`, if it is not further already."""
    if counted and _has_sequence(conn, table):
        conn.execute(
            sa.text(
                f"SELECT setval('{table}_id_seq',"
                f" greatest(:counted, (SELECT last_value FROM {table}_id_seq)))"
            ),
            {"counted": counted},
        )
