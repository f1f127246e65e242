"""Add the MD5 of the image's data."""

from __future__ import annotations

from typing import Any

from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.add_columns(conn, schema.images(4), "checksum")


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.drop_columns(conn, schema.images(3), 3, "checksum")
