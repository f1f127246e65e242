"""The scrub queue: data that waits for its removal, in the registry's database.

A row is entered in the transaction that deletes its image (`glance.registry.db.deletion`), by the
API for what a failed upload left in a store, and by `adopt` for images that an older release
deleted. Scrubbers lease rows, so that only one of them works on a row at a time, on any host; a
lease that is neither renewed nor released expires, and with it the claim of a dead process. The
clocks of the hosts must agree within a small part of `LEASE`.

The columns: `item` is `DATA` for the data of the image itself, else a digest of the address of a
leftover; `due_at` is when the row may be processed; `attempts` counts failures, `last_error` is
the class of the last one, never its text; `dead` rows are given up.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from glance.common import config
from glance.registry.db import engine, models, paging, records
from glance.streaming.retry import Backoff

images, queue = models.images, models.scrub_queue

#: The item for the data of the image itself.
DATA = "data"
#: Owner of the leases under which the API removes data itself.
API = "api"
#: How long a lease lasts unless it is renewed.
LEASE = datetime.timedelta(seconds=600)
#: How long a row waits after a failure.
BACKOFF = Backoff(60, 6 * 3600, jitter=0)


class Claim(NamedTuple):
    """A leased row: what to remove. `location` may hold secrets; None means no data."""

    image_id: int
    item: str
    location: str | None
    attempts: int


_LONG_AGO = datetime.datetime(1970, 1, 1)


class ScrubEntry(NamedTuple):
    """A row in the form for operators, without its location."""

    image_id: int
    item: str
    created_at: datetime.datetime
    due_at: datetime.datetime
    attempts: int
    last_error: str | None
    leased: bool
    dead: bool


def pause_after(attempts: int) -> datetime.timedelta:
    """Return how long a row waits after its failure number `attempts` (from 1)."""
    return datetime.timedelta(seconds=BACKOFF.pause(attempts))


def enter(
    conn: Connection,
    image_id: int,
    location: str | None,
    *,
    now: datetime.datetime,
    due_in: float = 0,
    lease: float = 0,
) -> None:
    """Add the data of an image to the queue, in the transaction that deletes the image.

    `location` is the value in the image's row, sealed or in clear. It is due in `due_in` seconds.
    With `lease`, the caller removes the data itself, and scrubbers ignore it for so many seconds.
    """
    until = now + datetime.timedelta(seconds=lease) if lease else None
    conn.execute(
        queue.insert().values(
            image_id=image_id,
            item=DATA,
            location=location,
            created_at=now,
            due_at=now + datetime.timedelta(seconds=due_in),
            lease_owner=API if lease else None,
            lease_until=until,
        )
    )


def enter_leftover(db: engine.Database, image_id: int, location: str, error: str) -> None:
    """Add what a failed write left at `location` and could not be removed because of `error`.

    A row that exists already is not changed. The image must have a record.
    """
    # SECURITY: a digest of text without the password, so that it cannot be used to guess it.
    shown = config.mask_url(location)
    item = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).hexdigest()
    now = records.utcnow()

    row = queue.insert().values(
        image_id=image_id,
        item=item,
        location=db.cipher.seal(image_id, location),
        created_at=now,
        due_at=now + pause_after(1),
        attempts=1,
        last_error=error,
    )
    _insert(db, row)


def adopt(db: engine.Database) -> int:
    """Add deleted images in `pending_delete` that have no row; return how many there were.

    Releases before the queue left such images.
    """
    waiting = (
        sa.select(
            images.c.id,
            sa.literal(DATA),
            images.c.location,
            sa.func.coalesce(images.c.deleted_at, images.c.created_at),
            sa.func.coalesce(images.c.deleted_at, images.c.created_at),
        )
        .where(images.c.status == "pending_delete")
        .where(images.c.deleted == sa.true())
        .where(~sa.exists().where(queue.c.image_id == images.c.id).where(queue.c.item == DATA))
    )
    columns = ["image_id", "item", "location", "created_at", "due_at"]
    with db.read() as conn:
        if conn.execute(waiting.limit(1)).first() is None:
            return 0
    adopted = _insert(db, queue.insert().from_select(columns, waiting))
    if adopted:
        _make_due(db)
    return adopted


def _make_due(db: engine.Database) -> None:
    """Put the time of now into rows whose times cannot be read, or they would never be due."""
    now = records.utcnow()

    def work(conn: Connection) -> None:
        rows = conn.execute(
            sa.select(queue.c.image_id, queue.c.created_at, queue.c.due_at)
            .where(queue.c.item == DATA)
            .where(queue.c.attempts == 0)
        )
        odd = [row.image_id for row in rows if None in (row.created_at, row.due_at)]
        for image_id in odd:
            conn.execute(
                queue.update().where(_is(image_id, DATA)).values(created_at=now, due_at=now)
            )

    db.transaction(work)


def enter_again(
    db: engine.Database, image_id: int, location: str, due_at: datetime.datetime
) -> None:
    """Add an image from another queue, or change its row: where its data is, and when it is due.

    A row that a scrubber has leased is not changed.
    """
    now = records.utcnow()
    sealed = db.cipher.seal(image_id, location)
    row = {"location": sealed, "created_at": now, "due_at": due_at}

    def work(conn: Connection) -> None:
        if is_leased(conn, image_id, now):
            return
        changed = conn.execute(queue.update().where(_is(image_id, DATA)).values(row)).rowcount
        if not changed:
            conn.execute(queue.insert().values(image_id=image_id, item=DATA, **row))

    db.transaction(work)


def _insert(db: engine.Database, statement: Any) -> int:
    """Insert rows and return how many; 0 if another process inserts one at the same time."""
    try:
        return int(db.transaction(lambda conn: conn.execute(statement).rowcount))
    except exc.IntegrityError:
        return 0


def lease(
    db: engine.Database, owner: str, limit: int, *, kept_for: datetime.timedelta
) -> list[Claim]:
    """Lease at most `limit` due rows, those that waited longest first.

    Data without an attempt so far is not leased until `kept_for` after its deletion.
    """
    now = records.utcnow()
    free = sa.and_(
        queue.c.dead == sa.false(),
        queue.c.due_at <= now,
        sa.or_(queue.c.attempts > 0, queue.c.created_at <= now - kept_for),
        sa.or_(queue.c.lease_until.is_(None), queue.c.lease_until <= now),
    )
    due = (
        sa.select(queue.c.image_id, queue.c.item, queue.c.location, queue.c.attempts)
        .where(free)
        .order_by(queue.c.due_at, queue.c.image_id, queue.c.item)
        .limit(limit)
    )
    take = (
        queue.update()
        .where(_is(sa.bindparam("row_image"), sa.bindparam("row_item")))
        .where(free)
        .values(lease_owner=owner, lease_until=now + LEASE)
    )

    def work(conn: Connection) -> tuple[bool, list[Claim]]:
        claims = [Claim(*row) for row in conn.execute(due)]
        # NOTE: row by row; only that shows which rows another scrubber has leased meanwhile.
        return bool(claims), [
            claim._replace(location=db.cipher.open(claim.image_id, claim.location))
            for claim in claims
            if conn.execute(take, {"row_image": claim.image_id, "row_item": claim.item}).rowcount
        ]

    while True:
        some_due, taken = db.transaction(work)
        # Others may have leased all of these; more rows may follow them.
        if taken or not some_due:
            return taken


def renew(db: engine.Database, owner: str) -> None:
    """Extend all leases of `owner` to `LEASE` from now."""
    _set_leases(db, queue.c.lease_owner == owner, owner, records.utcnow() + LEASE)


def release(db: engine.Database, owner: str) -> None:
    """Release all leases of `owner`."""
    _set_leases(db, queue.c.lease_owner == owner, None, None)


def _set_leases(
    db: engine.Database,
    which: ColumnElement[bool],
    owner: str | None,
    until: datetime.datetime | None,
) -> None:
    statement = queue.update().where(which).values(lease_owner=owner, lease_until=until)
    db.transaction(lambda conn: conn.execute(statement))


def remove(conn: Connection, image_id: int, item: str = DATA) -> bool:
    """Remove a row within a transaction; return whether it existed."""
    return bool(conn.execute(queue.delete().where(_is(image_id, item))).rowcount)


def postpone(
    db: engine.Database,
    image_id: int,
    item: str,
    error: str,
    *,
    owner: str,
    dead: bool = False,
    max_attempts: int = 0,
) -> ScrubEntry | None:
    """Record a failure of class `error`, release the lease of `owner` and let the row wait.

    It is given up if `dead`, or at failure number `max_attempts` (0: never). Returns the changed
    row; None if it is gone or leased by another owner.
    """
    now = records.utcnow()

    def work(conn: Connection) -> ScrubEntry | None:
        attempts = conn.execute(
            sa.select(queue.c.attempts)
            .where(_is(image_id, item))
            .where(queue.c.lease_owner == owner)
            .with_for_update()
        ).scalar()
        if attempts is None:
            return None
        count = attempts + 1
        conn.execute(
            queue.update()
            .where(_is(image_id, item))
            .values(
                attempts=count,
                last_error=error,
                due_at=now + pause_after(count),
                lease_owner=None,
                lease_until=None,
                dead=dead or 0 < max_attempts <= count,
            )
        )
        return _entry(conn.execute(_ENTRIES.where(_is(image_id, item))).one(), now)

    return db.transaction(work)


def entries(
    db: engine.Database, *, kept_for: datetime.timedelta = datetime.timedelta()
) -> list[ScrubEntry]:
    """Return all rows, ordered by when `lease` would lease them with the same `kept_for`."""
    now = records.utcnow()
    with db.read() as conn:
        found = [_entry(row, now) for row in conn.execute(_ENTRIES)]
    found = [entry._replace(due_at=_leasable_at(entry, kept_for)) for entry in found]
    return sorted(found, key=lambda entry: (entry.due_at, entry.image_id, entry.item))


def lengths(db: engine.Database) -> tuple[int, int]:
    """Return how many entries wait, and how many were given up."""
    counted = sa.select(queue.c.dead, sa.func.count()).group_by(queue.c.dead)
    with db.read() as conn:
        found = {bool(dead): int(count) for dead, count in conn.execute(counted)}
    return found.get(False, 0), found.get(True, 0)


def _leasable_at(entry: ScrubEntry, kept_for: datetime.timedelta) -> datetime.datetime:
    if entry.attempts or not kept_for:
        return entry.due_at
    try:
        return max(entry.due_at, entry.created_at + kept_for)
    except OverflowError:
        return datetime.datetime.max


def locations(db: engine.Database) -> Iterator[str]:
    """Yield, in pages, the locations of all rows in clear; they may hold secrets."""
    key = (queue.c.image_id, queue.c.item)
    named = sa.select(*key, queue.c.location).where(queue.c.location.is_not(None))
    for row in paging.each(db, named, key):
        yield db.cipher.open(row.image_id, row.location) or ""


def retry(db: engine.Database) -> int:
    """Make all failed rows due; return how many there are.

    The failures of rows that were given up are counted from 0 again.
    """
    now = records.utcnow()
    statement = (
        queue.update()
        .where(queue.c.attempts > 0)
        .where(sa.or_(queue.c.dead == sa.true(), queue.c.due_at > now))
        .values(
            attempts=sa.case((queue.c.dead == sa.true(), 1), else_=queue.c.attempts),
            dead=False,
            due_at=now,
        )
    )
    return int(db.transaction(lambda conn: conn.execute(statement).rowcount))


def is_leased(conn: Connection, image_id: int, now: datetime.datetime) -> bool:
    """Return whether the data of an image is leased."""
    statement = sa.select(queue.c.item).where(_is(image_id, DATA)).where(queue.c.lease_until > now)
    return conn.execute(statement).first() is not None


_ENTRIES = sa.select(
    queue.c.image_id,
    queue.c.item,
    queue.c.created_at,
    queue.c.due_at,
    queue.c.attempts,
    queue.c.last_error,
    queue.c.lease_until,
    queue.c.dead,
)


def _entry(row: Any, now: datetime.datetime) -> ScrubEntry:
    return ScrubEntry(
        row.image_id,
        row.item,
        # What cannot be read has waited long enough.
        row.created_at or _LONG_AGO,
        row.due_at or _LONG_AGO,
        row.attempts,
        row.last_error,
        leased=row.lease_until is not None and row.lease_until > now,
        dead=bool(row.dead),
    )


def _is(image_id: Any, item: Any) -> ColumnElement[bool]:
    return sa.and_(queue.c.image_id == image_id, queue.c.item == item)
