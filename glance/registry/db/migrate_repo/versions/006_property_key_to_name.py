"""Rename the column `key` of image properties to `name`: the old one is a reserved word."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine: Any) -> None:
    _rename(migrate_engine, "key", "name", 6)


def downgrade(migrate_engine: Any) -> None:
    _rename(migrate_engine, "name", "key", 5)


def _rename(migrate_engine: Any, old: str, new: str, version: int) -> None:
    table = schema.image_properties(version)
    with operations.begin(migrate_engine) as conn:
        quote = conn.dialect.identifier_preparer.quote_identifier
        if conn.dialect.name == "sqlite":
            operations.rebuild(conn, table, version, {new: quote(old)})
            return
        if conn.dialect.name == "mysql":
            change = f"CHANGE {quote(old)} {quote(new)} VARCHAR(255) NOT NULL"
        else:
            change = f"RENAME COLUMN {quote(old)} TO {quote(new)}"
        conn.execute(sa.text(f"ALTER TABLE image_properties {change}"))
        operations.set_indexes(conn, table, version)
