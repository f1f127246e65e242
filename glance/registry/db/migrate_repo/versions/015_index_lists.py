"""Index images in every order in which lists are requested; see `glance.registry.db.models`."""

from __future__ import annotations

from typing import Any

from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.set_indexes(conn, schema.images(15), 15)


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.set_indexes(conn, schema.images(14), 14)
