"""Index images for lists that take as long among many images; see `glance.registry.db.models`.

Indexes that no statement uses are dropped, so that creating an image does not take longer.
"""

from __future__ import annotations

from typing import Any

from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine: Any) -> None:
    _set_indexes(migrate_engine, 20)


def downgrade(migrate_engine: Any) -> None:
    _set_indexes(migrate_engine, 19)


def _set_indexes(migrate_engine: Any, version: int) -> None:
    tables = schema.tables(version)
    with operations.begin(migrate_engine) as conn:
        for name in ("images", "image_properties", "image_members"):
            operations.set_indexes(conn, tables[name], version)
