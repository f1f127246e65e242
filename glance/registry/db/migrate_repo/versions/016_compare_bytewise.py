"""Compare text byte by byte on every database: owners, members, names, statuses, unique keys.

A downgrade does not undo this: older versions work with it too, and rows that differ only in case
could not be kept.
"""

from __future__ import annotations

from typing import Any

from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        for table in schema.tables(16).values():
            operations.compare_bytewise(conn, table, 16)


def downgrade(migrate_engine: Any) -> None:
    """Do nothing."""
