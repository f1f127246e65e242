"""Queries and changes of maintenance programs, for all images and without a caller.

The scrubber and `glance-manage` call them, never a request.
"""

from __future__ import annotations

import datetime
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.image import cipher, types
from glance.registry.db import engine, ids, lenient, models, paging, records

images, properties, members = models.images, models.image_properties, models.image_members
queue, tags = models.scrub_queue, models.image_tags

#: How many rows of images, properties, members and tags one transaction of `purge` removes.
MAX_ROWS = 20_000


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
    """Remove, in one transaction, the rows of images deleted before a time; return how many.

    Removes at most `max_images`, and only the first of them if together they have more than
    `MAX_ROWS` properties, members and tags; 0 means that there are no more. Safe beside the
    services: an image that changes meanwhile stays, unless it still matches when its row is
    locked.

    Images in the scrub queue stay. So does the one with the highest id: older releases, to which
    the schema may be downgraded, count new ids from it. Removed ids and uuids are never used
    again.
    """
    is_old = sa.and_(
        images.c.deleted == sa.true(),
        images.c.status != "pending_delete",
        images.c.deleted_at < deleted_before,
    )
    highest = sa.select(sa.func.max(images.c.id)).scalar_subquery()
    old = (
        sa.select(images.c.id)
        .where(is_old)
        .where(~sa.exists().where(queue.c.image_id == images.c.id))
        .where(images.c.id < highest)
        .order_by(images.c.id)
        .limit(max_images)
    )

    def work(conn: Connection) -> int | None:
        ids.trim(conn)
        found = _whose_rows_fit(conn, list(conn.execute(old).scalars()))
        if not found:
            return 0
        # NOTE: those that changed, or that another purge removes, are not found again. The queue
        # is read after the rows are locked, because then nothing can be added to it, and with a
        # lock, because MySQL would show its state at the begin of the transaction.
        locked = (
            sa.select(images.c.id).where(images.c.id.in_(found)).where(is_old).with_for_update()
        )
        gone = set(conn.execute(locked).scalars())
        queued = sa.select(queue.c.image_id).where(queue.c.image_id.in_(gone)).with_for_update()
        gone.difference_update(conn.execute(queued).scalars() if gone else ())
        image_ids = sorted(gone)
        if image_ids:
            ids.keep_purged(conn, image_ids)
            ids.keep_purged_uuids(conn, image_ids)
            for table, column in (
                (properties, properties.c.image_id),
                (members, members.c.image_id),
                (tags, tags.c.image_id),
                (images, images.c.id),
            ):
                conn.execute(table.delete().where(column.in_(image_ids)))
        return len(image_ids) or None

    while True:
        purged = db.transaction(work)
        # Perhaps all of these have changed meanwhile; more may follow them.
        if purged is not None:
            return purged


def _whose_rows_fit(conn: Connection, image_ids: list[int]) -> list[int]:
    """Return the first of some images, as many as have `MAX_ROWS` rows together, at least one."""
    rows = dict.fromkeys(image_ids, 1)
    for table in (properties, members, tags) if image_ids else ():
        counted = (
            sa.select(table.c.image_id, sa.func.count())
            .where(table.c.image_id.in_(image_ids))
            .group_by(table.c.image_id)
        )
        for image_id, count in conn.execute(counted):
            rows[image_id] += count
    total = list(itertools.accumulate(rows.values()))
    return image_ids[: max(1, sum(count <= MAX_ROWS for count in total))]


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
                page = page.where(paging.behind(place, after))
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


def _sealed_anew(
    db: engine.Database, image_id: int, stored: str | bytes, rewrite: Callable[[str], str]
) -> str | None:
    """Return a location in the form to store now; None if it cannot be read."""
    clear = db.cipher.open(image_id, stored)
    if clear is None or not cipher.is_clear(clear):
        return None
    rewritten = rewrite(clear)
    if isinstance(stored, str) and rewritten == clear and db.cipher.is_current(stored):
        return stored
    return db.cipher.seal(image_id, rewritten)


def _records() -> Any:
    return sa.select(*(images.c[name] for name in records.COLUMNS))


def _fetch(db: engine.Database, statement: Any) -> list[types.ImageRow]:
    with db.read() as conn:
        found = [records.to_row(row) for row in lenient.fetch(conn, statement, {})]
    return [records.reveal(db, record) for record in found]
