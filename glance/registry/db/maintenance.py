"""What maintenance programs ask of the database, for all images and without a caller.

Called by the scrubber and by `glance-manage`; never on behalf of a request.
"""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.registry.db import engine, models, rows, rules

images, properties, members = models.images, models.image_properties, models.image_members
queue = models.scrub_queue


def images_stalled(db: engine.Database, changed_before: datetime.datetime) -> list[dict[str, Any]]:
    """Return live images in status `saving` that did not change since `changed_before`.

    Uploads whose process died leave them; records without properties, oldest change first.
    """
    statement = (
        _records()
        .where(images.c.status == "saving")
        .where(rules.live(images))
        .where(images.c.updated_at < changed_before)
        .order_by(images.c.updated_at, images.c.id)
    )
    return _fetch(db, statement)


def purge(db: engine.Database, deleted_before: datetime.datetime, max_images: int = 100) -> int:
    """Remove the rows of images that were deleted long ago; return how many images went.

    Images that the scrub queue names stay. So does the one with the highest id: SQLite
    and MySQL count new ids from it, and the id of a deleted image is never given out again.
    """
    highest = sa.select(sa.func.max(images.c.id)).scalar_subquery()
    old = (
        sa.select(images.c.id)
        .where(images.c.deleted == sa.true())
        .where(images.c.status != "pending_delete")
        .where(images.c.deleted_at < deleted_before)
        .where(~sa.exists().where(queue.c.image_id == images.c.id))
        .where(images.c.id < highest)
        .order_by(images.c.id)
        .limit(max_images)
    )

    def work(conn: Connection) -> int:
        ids = conn.execute(old).scalars().all()
        if ids:
            for table, column in (
                (properties, properties.c.image_id),
                (members, members.c.image_id),
                (images, images.c.id),
            ):
                conn.execute(table.delete().where(column.in_(ids)))
        return len(ids)

    return db.transaction(work)


def _records() -> Any:
    return sa.select(*(images.c[name] for name in rows.COLUMNS))


def _fetch(db: engine.Database, statement: Any) -> list[dict[str, Any]]:
    with db.read() as conn:
        return [dict(zip(rows.COLUMNS, row, strict=True)) for row in conn.execute(statement)]
