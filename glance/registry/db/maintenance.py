"""Queries and changes of maintenance programs, for all images and without a caller.

The scrubber and `glance-manage` call them, never a request.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.image import cipher, types
from glance.registry.db import engine, ids, lenient, models, records

images, properties, members = models.images, models.image_properties, models.image_members
queue = models.scrub_queue


def images_stalled(db: engine.Database, changed_before: datetime.datetime) -> list[types.ImageRow]:
    """Return live images in status `saving` that have not changed since `changed_before`.

    Uploads whose process died leave them. The records have no properties; the oldest change is
    first.
    """
    statement = (
        _records()
        .where(images.c.status == "saving")
        # PERF: not `visibility.live`; the index of the status begins with this column.
        .where(images.c.deleted == sa.false())
        .where(images.c.updated_at < changed_before)
        .order_by(images.c.updated_at, images.c.id)
    )
    return _fetch(db, statement)


def images_with_data(db: engine.Database, batch: int = 1000) -> Iterator[types.ImageRow]:
    """Yield, in pages, all records that name data that exists or waits for its removal.

    The records have no properties and are ordered by id; the locations are in clear.
    """
    after = 0
    while True:
        page = _fetch(
            db,
            _records()
            .where(images.c.id > after)
            .where(images.c.location.is_not(None))
            .where(images.c.status != "deleted")
            .order_by(images.c.id)
            .limit(batch),
        )
        if not page:
            return
        yield from page
        after = page[-1]["id"]


def purge(db: engine.Database, deleted_before: datetime.datetime, max_images: int = 100) -> int:
    """Remove the rows of images deleted before a time; return how many images were removed.

    Images in the scrub queue stay. So does the one with the highest id: older releases, to which
    the schema may be downgraded, count new ids from it. Removed ids are never used again.
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
        ids.trim(conn)
        found = conn.execute(old).scalars().all()
        # NOTE: those that another purge removes at the same time are not found again.
        locked = sa.select(images.c.id).where(images.c.id.in_(found)).with_for_update()
        image_ids = conn.execute(locked).scalars().all() if found else []
        if image_ids:
            ids.keep_purged(conn, image_ids)
            for table, column in (
                (properties, properties.c.image_id),
                (members, members.c.image_id),
                (images, images.c.id),
            ):
                conn.execute(table.delete().where(column.in_(image_ids)))
        return len(image_ids)

    return db.transaction(work)


def reseal(
    db: engine.Database,
    batch: int = 500,
    rewrite: Callable[[str], str] = lambda location: location,
) -> tuple[int, int]:
    """Seal all locations, including queued ones, with the current key, or put them in clear.

    `rewrite` gets each location in clear and returns the one to write. Safe while services run.
    Returns how many were changed, and how many could not be because no key opens them.
    """
    changed = failed = 0
    for table, columns in ((images, ("id",)), (queue, ("image_id", "item"))):
        place = [table.c[name] for name in columns]
        after: tuple[Any, ...] | None = None
        while True:
            page = (
                sa.select(*place, table.c.location)
                .where(table.c.location.is_not(None))
                .order_by(*place)
                .limit(batch)
            )
            if after is not None:
                page = page.where(_behind(place, after))
            with db.read() as conn:
                found = conn.execute(page).all()
            if not found:
                break
            after = tuple(found[-1][:-1])
            fresh = [(row, _sealed_anew(db, row[0], row.location, rewrite)) for row in found]
            failed += sum(text is None for _, text in fresh)
            statements = [
                table.update()
                .where(*(column == value for column, value in zip(place, row, strict=False)))
                # Another process may write another location meanwhile.
                .where(table.c.location == row.location)
                .values(location=text)
                for row, text in fresh
                if text not in (None, row.location)
            ]
            changed += db.transaction(functools.partial(_run_all, statements))
    return changed, failed


def _run_all(statements: Iterable[Any], conn: Connection) -> int:
    """Run statements that change rows; return how many rows they changed."""
    return sum(conn.execute(statement).rowcount for statement in statements)


def _behind(place: list[Any], after: tuple[Any, ...]) -> Any:
    """Return the clause for rows that come after one in the order of `place`."""
    first = place[0] > after[0]
    if len(place) == 1:
        return first
    return sa.or_(first, sa.and_(place[0] == after[0], place[1] > after[1]))


def _sealed_anew(
    db: engine.Database, image_id: int, stored: str, rewrite: Callable[[str], str]
) -> str | None:
    """Return a location in the form to store now; None if it cannot be read."""
    clear = db.cipher.open(image_id, stored)
    if clear is None or not cipher.is_clear(clear):
        return None
    rewritten = rewrite(clear)
    if rewritten == clear and db.cipher.is_current(stored):
        return stored
    return db.cipher.seal(image_id, rewritten)


def _records() -> Any:
    return sa.select(*(images.c[name] for name in records.COLUMNS))


def _fetch(db: engine.Database, statement: Any) -> list[types.ImageRow]:
    with db.read() as conn:
        found = [records.to_row(row) for row in lenient.fetch(conn, statement, {})]
    return [records.reveal(db, record) for record in found]
