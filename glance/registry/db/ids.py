"""Ids of images: none is ever given out twice, counted or chosen, even after a purge.

The counter has a table of its own, because those of SQLite, MySQL and PostgreSQL differ in what an
id that a caller has chosen does to them: one huge id would leave none for others, or ids a little
ahead would make later creations fail. This one steps over ids that are taken, and moves to a
chosen id that is not far ahead: after 77 it counts 78. It does not wait for open transactions, nor
for those of processes that are gone.

Ids of purged images are kept as ranges, which are merged when they meet. So their number depends
on how many images remain between them, not on how many were purged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from glance.common import exception
from glance.image import fields
from glance.registry.db import direct, engine, models

LOG = logging.getLogger(__name__)

images, counter, purged = models.images, models.image_id_counter, models.purged_image_ids
purged_uuids = models.purged_uuids

#: No service has counted this far; this id, and a greater one, was chosen.
CHOSEN = 2**30
#: How far the counter moves for a chosen id; a request cannot use up more ids than that.
NEAR = 1000

#: Of so many rows of the counter the last ones are kept: one is added for each id.
TRIM_EVERY = 1000

_COUNT = counter.insert()
_LAST = sa.select(sa.func.max(counter.c.id))
_RANGE_FROM = (
    sa.select(purged.c.first_id, purged.c.last_id)
    .where(purged.c.first_id <= sa.bindparam("id"))
    .order_by(purged.c.first_id.desc())
    .limit(1)
)
# NOTE: on MySQL a plain query would not see what was purged since the transaction began.
_RANGE_FROM_NOW = _RANGE_FROM.with_for_update(read=True)
# SECURITY: whoever holds the uuid of a purged image must not be given another image for it.
_PURGED_UUID = (
    sa.select(purged_uuids.c.uuid)
    .where(purged_uuids.c.uuid == sa.bindparam("uuid"))
    .with_for_update(read=True)
)
_IS_TAKEN = sa.select(images.c.id).where(images.c.id == sa.bindparam("id"))
_next = images.alias("next_image")
_END_OF_TAKEN = (
    sa.select(images.c.id)
    .where(images.c.id >= sa.bindparam("id"))
    # NOTE: the sum with the last id would exceed an integer of PostgreSQL.
    .where(~sa.exists().where(_next.c.id == sa.cast(images.c.id, sa.BigInteger) + 1))
    .order_by(images.c.id)
    .limit(1)
)
# NOTE: in one statement with the read, so that another process can hardly move it back; if one
# does, the ids that come again are taken, and the next attempt steps over them.
_MOVE_SEQUENCE = sa.text(
    "SELECT setval(pg_get_serial_sequence('image_id_counter', 'id'),"
    " greatest(:id, (SELECT last_value FROM image_id_counter_id_seq)))"
)


def count(conn: Connection, *, step_over: bool = False) -> int:
    """Return the next id of the counter.

    It may be in use: then call again, in a new transaction, with `step_over`, which moves the
    counter to an id that is neither in use nor purged. Raises ServiceUnavailable if there is none.
    """
    number = direct.insert(conn, _COUNT, {})
    if number % TRIM_EVERY == 0:
        # NOTE: no open transaction has counted ids that far behind, so this waits for none.
        conn.execute(counter.delete().where(counter.c.id < number - TRIM_EVERY))
    if number > 1 and not step_over:
        return number
    # NOTE: a counter that is new, or was lost, begins behind all images.
    free = _first_free(conn, number if number > 1 else highest_counted(conn) + 1)
    if free != number:
        _move_to(conn, free)
    return free


def follow(db: engine.Database, image_id: int) -> None:
    """Move the counter to the id of an image that was chosen, unless it is far ahead.

    Counting goes on without it too, so an error only goes to the log.
    """

    def work(conn: Connection) -> None:
        last = conn.execute(_LAST).scalar() or 0
        if last < image_id <= last + NEAR:
            _move_to(conn, image_id)

    try:
        db.transaction(work)
    except (exc.IntegrityError, exception.ServiceUnavailable) as err:
        LOG.info("The counter of image ids was not moved: %s", type(err).__name__)


def _move_to(conn: Connection, number: int) -> None:
    conn.execute(_COUNT, {"id": number})
    if conn.dialect.name == "postgresql":
        conn.execute(_MOVE_SEQUENCE, {"id": number})


def highest_counted(conn: Connection) -> int:
    """Return the highest id of an image that may have been counted; 0 for none."""
    highest = sa.select(sa.func.max(images.c.id)).where(images.c.id < CHOSEN)
    return max(conn.execute(highest).scalar() or 0, 0)


def is_purged(conn: Connection, image_id: int) -> bool:
    """Return whether an image had this id and was purged.

    Call it after the insert of the image, which waits for a purge in progress.
    """
    found = direct.fetch(conn, _RANGE_FROM_NOW, {"id": image_id})
    return bool(found) and image_id <= found[0].last_id


def keep_purged(conn: Connection, image_ids: Iterable[int]) -> None:
    """Record the ids of images that the transaction purges."""
    for first, last in _runs(sorted(image_ids)):
        met = [
            row
            for row in conn.execute(
                sa.select(purged)
                .where(purged.c.first_id <= last + 1)
                .order_by(purged.c.first_id.desc())
                .limit(2)
                .with_for_update()
            )
            if row.last_id >= first - 1
        ]
        for row in met:
            conn.execute(purged.delete().where(purged.c.first_id == row.first_id))
        merged = {
            "first_id": min([first, *(row.first_id for row in met)]),
            "last_id": max([last, *(row.last_id for row in met)]),
        }
        conn.execute(purged.insert(), merged)


def is_purged_uuid(conn: Connection, uuid: str) -> bool:
    """Return whether an image had this uuid and was purged; call it when `is_purged` may be."""
    return conn.execute(_PURGED_UUID, {"uuid": uuid}).first() is not None


def keep_purged_uuids(conn: Connection, image_ids: Iterable[int]) -> None:
    """Record the uuids of images that the transaction purges."""
    gone = sa.select(images.c.uuid).where(images.c.id.in_(image_ids))
    conn.execute(purged_uuids.insert().from_select(["uuid"], gone))


def trim(conn: Connection) -> None:
    """Delete rows of the counter that it needs no more: all but the last one."""
    last = conn.execute(_LAST).scalar()
    if last is not None:
        conn.execute(counter.delete().where(counter.c.id < last))


def _first_free(conn: Connection, number: int) -> int:
    """Return the first id from `number` on that is neither in use nor purged."""
    while number <= fields.MAX_INT:
        row = conn.execute(_RANGE_FROM, {"id": number}).first()
        if row is not None and number <= row.last_id:
            number = row.last_id + 1
        elif conn.execute(_IS_TAKEN, {"id": number}).first() is not None:
            number = conn.execute(_END_OF_TAKEN, {"id": number}).scalar_one() + 1
        else:
            return number
    raise exception.ServiceUnavailable("There are no more image ids")


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last number of each run of consecutive numbers."""
    start = 0
    for place, number in enumerate(numbers, 1):
        if place == len(numbers) or numbers[place] != number + 1:
            yield numbers[start], number
            start = place
