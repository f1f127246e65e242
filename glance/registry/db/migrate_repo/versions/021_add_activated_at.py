"""Add the time at which the data of an image became complete.

NOTE: existing rows keep null, which counts as `created_at` (see `glance.registry.db.models`). The
registries of earlier versions, which go on beside the new ones, leave the column out as well; and
to fill a million rows here would keep everybody from reading the table for minutes.
"""

from __future__ import annotations

from typing import Any

from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.add_columns(conn, schema.images(21), "activated_at")


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.drop_columns(conn, schema.images(20), 20, "activated_at")
