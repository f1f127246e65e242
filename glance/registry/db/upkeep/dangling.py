"""Rows that belong to an image which does not exist, and active images that name no data.

The tables forbid the former, but databases of older releases, tables without foreign keys and
programs that switch them off can hold them. For `glance-manage check`, beside the services: each
statement sees one state of the database, and an image and its rows come and go in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.image import fields
from glance.registry.db import engine, models, paging, visibility

images = models.images
#: The tables whose rows belong to an image.
TABLES = (
    models.image_properties,
    models.image_members,
    models.scrub_queue,
    models.image_tags,
)


class DanglingRow(NamedTuple):
    """A row whose image does not exist: its table, the id of the image, its primary key."""

    table: str
    image_id: int
    key: tuple[Any, ...]


def rows(db: engine.Database) -> Iterator[DanglingRow]:
    """Yield, in pages, all rows of images that do not exist, from each of `TABLES`."""
    for table in TABLES:
        key = list(table.primary_key.columns)
        found = sa.select(*key, table.c.image_id.label("owner")).where(_dangles(table))
        for row in paging.each(db, found, key):
            yield DanglingRow(table.name, row.owner, tuple(row)[:-1])


def remove(db: engine.Database, found: list[DanglingRow]) -> int:
    """Remove rows whose image still does not exist, in one transaction; return how many."""

    def work(conn: Connection) -> int:
        count = 0
        for row in found:
            table = models.metadata.tables[row.table]
            key = zip(table.primary_key.columns, row.key, strict=True)
            is_row = (column == value for column, value in key)
            count += conn.execute(table.delete().where(*is_row).where(_dangles(table))).rowcount
        return count

    return db.transaction(work)


def images_without_location(db: engine.Database) -> Iterator[int]:
    """Yield, in pages, the ids of active images whose records name no data."""
    unnamed = (
        sa.select(images.c.id)
        .where(images.c.status.in_(sorted(fields.WITH_DATA)))
        .where(visibility.live(images))
        .where(sa.or_(images.c.location.is_(None), images.c.location == ""))
    )
    for row in paging.each(db, unnamed, [images.c.id]):
        yield row.id


def _dangles(table: sa.Table) -> Any:
    return ~sa.exists().where(images.c.id == table.c.image_id)
