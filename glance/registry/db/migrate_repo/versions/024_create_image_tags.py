"""Create the table of tags."""

from __future__ import annotations

from typing import Any

from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.create_table(conn, schema.image_tags(24), 24)


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.drop_table(conn, "image_tags")
