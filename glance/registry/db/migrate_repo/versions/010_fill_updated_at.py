"""Give every row a time of its last change, which new records have from the start."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.registry.db.migrate_repo import operations

TABLES = ("images", "image_properties", "image_members")


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        if conn.dialect.name == "sqlite":
            _complete_dates(conn)
        for table in TABLES:
            conn.execute(
                sa.text(f"UPDATE {table} SET updated_at = created_at WHERE updated_at IS NULL")
            )


def downgrade(migrate_engine: Any) -> None:
    """Do nothing: version 9 allows a time here too."""


def _complete_dates(conn: Connection) -> None:
    """Turn bare dates, which Diablo's step 003 wrote on SQLite, into readable times."""
    for table in TABLES:
        for column in ("created_at", "updated_at", "deleted_at"):
            conn.execute(
                sa.text(
                    f"UPDATE {table} SET {column} = {column} || ' 00:00:00.000000'"
                    f" WHERE length({column}) = 10"
                )
            )
