"""Replace the column `type` by two formats; its value becomes a property of that name."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.common import exception
from glance.registry.db import records
from glance.registry.db.migrate_repo import operations, schema

MAX_TYPE = 30


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.add_columns(conn, schema.images(3), "disk_format", "container_format")
        _types_to_properties(conn)
        operations.drop_columns(conn, schema.images(3), 3, "type")


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        _check_length(conn)
        operations.add_columns(conn, schema.images(2), "type")
        _properties_to_types(conn)
        operations.drop_columns(conn, schema.images(2), 2, "disk_format", "container_format")


def _types_to_properties(conn: Connection) -> None:
    """Give each typed image a live property, unless it has one already.

    The property of a deleted image is deleted with it, and a soft-deleted row is revived, because
    (image, key) is unique over deleted rows too.
    """
    images, properties = schema.images(2), schema.image_properties(3)
    typed = sa.select(images.c.id, images.c.type, images.c.deleted, images.c.deleted_at).where(
        images.c.type.is_not(None)
    )
    existing = {
        row.image_id: row
        for row in conn.execute(
            sa.select(properties.c.image_id, properties.c.id, properties.c.deleted).where(
                properties.c.key == "type"
            )
        )
    }
    now = records.utcnow()
    for image in conn.execute(typed).all():
        row = existing.get(image.id)
        values = {
            "value": image.type,
            "deleted": image.deleted,
            "deleted_at": image.deleted_at,
            "updated_at": now,
        }
        if row is None:
            conn.execute(
                properties.insert().values(image_id=image.id, key="type", created_at=now, **values)
            )
        elif row.deleted:
            conn.execute(properties.update().where(properties.c.id == row.id).values(values))


def _own_types(properties: sa.Table, images: sa.Table) -> Any:
    """Return a query of the properties that hold the column's value."""
    return (
        sa.select(properties.c.id, properties.c.image_id, properties.c.value)
        .join(images, images.c.id == properties.c.image_id)
        .where(properties.c.key == "type")
        .where(properties.c.deleted == images.c.deleted)
    )


def _check_length(conn: Connection) -> None:
    query = _own_types(schema.image_properties(3), schema.images(3))
    for row in conn.execute(query):
        if len(row.value or "") > MAX_TYPE:
            raise exception.DatabaseMigrationError(
                f"the property type of image {row.image_id} is longer than the {MAX_TYPE} "
                "characters that version 2 can hold; shorten or remove it first"
            )


def _properties_to_types(conn: Connection) -> None:
    images, properties = schema.images(2), schema.image_properties(2)
    for row in conn.execute(_own_types(properties, images)).all():
        conn.execute(images.update().where(images.c.id == row.image_id).values(type=row.value))
        conn.execute(properties.delete().where(properties.c.id == row.id))
