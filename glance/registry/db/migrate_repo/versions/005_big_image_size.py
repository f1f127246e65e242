"""Let an image be larger than 2 GiB."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.common import exception
from glance.image import fields
from glance.registry.db.migrate_repo import operations


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        _set_type(conn, "BIGINT")


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        if conn.dialect.name != "sqlite":
            _check_sizes(conn)
        _set_type(conn, "INTEGER")


def _set_type(conn: Connection, kind: str) -> None:
    # NOTE: nothing to do on SQLite, whose integers all have 64 bits.
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text(f"ALTER TABLE images ALTER COLUMN size TYPE {kind}"))
    elif conn.dialect.name == "mysql":
        conn.execute(sa.text(f"ALTER TABLE images MODIFY size {kind}"))


def _check_sizes(conn: Connection) -> None:
    statement = sa.text("SELECT count(*) FROM images WHERE size > :limit")
    count = conn.execute(statement, {"limit": fields.MAX_INT}).scalar()
    if count:
        raise exception.DatabaseMigrationError(
            f"{count} images are larger than the 2 GiB that version 4 can hold; their sizes "
            "would be lost"
        )
