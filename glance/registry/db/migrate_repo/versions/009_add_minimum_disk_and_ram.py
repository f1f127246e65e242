"""Add what an image needs to run: disk in GB and memory in MB."""

from __future__ import annotations

from typing import Any

from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.add_columns(conn, schema.images(9), "min_disk", "min_ram")


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.drop_columns(conn, schema.images(8), 8, "min_disk", "min_ram")
