"""Make `min_disk` and `min_ram` numbers in every row: no nulls, no text."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.registry.db.migrate_repo import operations, schema

COLUMNS = ("min_disk", "min_ram")


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        if conn.dialect.name == "sqlite":
            # Diablo did not convert on update, and SQLite keeps text in a column of integers.
            sources = {name: f"max(coalesce(CAST({name} AS INTEGER), 0), 0)" for name in COLUMNS}
            sources["size"] = "CAST(size AS INTEGER)"
            operations.rebuild(conn, schema.images(11), 11, sources)
            return
        for name in COLUMNS:
            conn.execute(
                sa.text(f"UPDATE images SET {name} = 0 WHERE {name} IS NULL OR {name} < 0")
            )
            _alter(conn, name, null=False)


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        if conn.dialect.name == "sqlite":
            operations.rebuild(conn, schema.images(10), 10)
            return
        for name in COLUMNS:
            _alter(conn, name, null=True)


def _alter(conn: Connection, name: str, null: bool) -> None:
    if conn.dialect.name == "mysql":
        rule = "NULL" if null else "NOT NULL DEFAULT 0"
        conn.execute(sa.text(f"ALTER TABLE images MODIFY {name} INTEGER {rule}"))
        return
    rules = ("DROP NOT NULL", "DROP DEFAULT") if null else ("SET NOT NULL", "SET DEFAULT 0")
    for rule in rules:
        conn.execute(sa.text(f"ALTER TABLE images ALTER COLUMN {name} {rule}"))
