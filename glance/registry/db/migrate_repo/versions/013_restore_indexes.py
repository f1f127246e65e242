"""Bring indexes, defaults and foreign keys to the same state, whatever the database's history.

Diablo's migrations, its start-up and its supported databases left different sets of indexes, and
on a current SQLite foreign keys that refer to a table that no longer exists.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.registry.db.migrate_repo import operations, schema

TIMES = ("created_at", "updated_at", "deleted_at")
FLAGS = {
    "images": ("is_public", "deleted"),
    "image_properties": ("deleted",),
    "image_members": ("can_share", "deleted"),
}


def upgrade(migrate_engine: Any) -> None:
    _bring_to(migrate_engine, 13)


def downgrade(migrate_engine: Any) -> None:
    _bring_to(migrate_engine, 12)


def _bring_to(migrate_engine: Any, version: int) -> None:
    with operations.begin(migrate_engine) as conn:
        for name, table in schema.tables(version).items():
            if conn.dialect.name == "sqlite":
                operations.rebuild(conn, table, version)
                continue
            _set_defaults(conn, name, version)
            if conn.dialect.name == "mysql" and version == 13:
                _widen_times(conn, name)
            operations.set_indexes(conn, table, version)


def _set_defaults(conn: Connection, table: str, version: int) -> None:
    rule = "SET DEFAULT false" if version == 13 else "DROP DEFAULT"
    for column in FLAGS[table]:
        conn.execute(sa.text(f"ALTER TABLE {table} ALTER COLUMN {column} {rule}"))


def _widen_times(conn: Connection, table: str) -> None:
    """Let MySQL keep microseconds. A downgrade does not undo this, because it would lose them."""
    for column in TIMES:
        null = "NOT NULL" if column == "created_at" else "NULL"
        conn.execute(sa.text(f"ALTER TABLE {table} MODIFY {column} DATETIME(6) {null}"))
