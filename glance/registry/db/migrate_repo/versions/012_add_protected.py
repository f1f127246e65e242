"""Add the flag that protects an image from deletion."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        if conn.dialect.name == "sqlite":
            operations.rebuild(conn, schema.images(12), 12, {"protected": "0"})
        else:
            conn.execute(
                sa.text("ALTER TABLE images ADD COLUMN protected BOOLEAN NOT NULL DEFAULT false")
            )


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.drop_columns(conn, schema.images(11), 11, "protected")
