"""Delete image records, settle them when their data is gone, and restore them.

Each function is one transaction. An image in `pending_delete` has a row in the scrub queue from
its deletion on, and loses it in the transaction that settles it.
"""

from __future__ import annotations

import copy

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import types
from glance.registry.db import (
    attempts,
    conversion_jobs,
    engine,
    models,
    records,
    scrub_queue,
    visibility,
)

images, properties, members = models.images, models.image_properties, models.image_members
Context = identity_context.RequestContext

_DELETE = (
    images.update()
    .where(images.c.id == sa.bindparam("row_id"))
    .where(visibility.live(images))
    .values(
        status=sa.bindparam("new_status"),
        deleted=True,
        deleted_at=sa.bindparam("now"),
        updated_at=sa.bindparam("now"),
    )
)
_DELETE_CHILDREN = [
    table.update()
    .where(table.c.image_id == sa.bindparam("row_id"))
    .where(visibility.live(table))
    .values(deleted=True, deleted_at=sa.bindparam("now"), updated_at=sa.bindparam("now"))
    for table in (properties, members)
]
#: The statuses in which an image can be the result of a conversion that goes on.
_UNFILLED = ("queued", "saving")
_WAITING = sa.and_(
    images.c.id == sa.bindparam("row_id"),
    images.c.deleted == sa.true(),
    images.c.status == "pending_delete",
)
_SETTLE = images.update().where(_WAITING).values(status="deleted", updated_at=sa.bindparam("now"))
_RESTORE = (
    images.update()
    .where(_WAITING)
    .values(
        status=sa.bindparam("new_status"),
        deleted=False,
        deleted_at=None,
        updated_at=sa.bindparam("now"),
    )
)


def image_delete(
    db: engine.Database,
    context: Context,
    image_id: int,
    status: str | None = None,
    *,
    any_owner: bool | None = None,
    due_in: float = 0,
    lease: float = 0,
) -> types.StoredImage:
    """Soft-delete an image with its properties and members; return the resulting record.

    `status` becomes the image's status; None keeps `deleted` or `pending_delete` and turns every
    other into `deleted`. With `pending_delete` the data is entered into the scrub queue, due in
    `due_in` seconds and leased to the caller for `lease` seconds; an image without a location has
    no data, and becomes `deleted`. `any_owner` is whether the caller may delete images of other
    owners; None means that administrators may. The returned record still has the properties of the
    image. Raises ImageNotFound if the caller cannot see or may not delete it, ImageProtected if it
    is protected.
    """
    if any_owner is None:
        any_owner = context.is_admin

    def work(conn: Connection) -> types.StoredImage:
        locked = records.lock(conn, context, image_id)
        if not context.is_image_deletable(locked, any_owner):
            raise exception.ImageNotFound(image_id)
        if locked["protected"]:
            raise exception.ImageProtected(
                f"Image {image_id} is protected: set protected to false before deleting it"
            )
        image = records.with_properties(conn, locked)
        new_status = status
        if new_status is None:
            kept = image["status"] in ("deleted", "pending_delete")
            new_status = image["status"] if kept else "deleted"
        if not image["location"]:
            new_status = "deleted"
        waits = new_status == "pending_delete"
        now = records.utcnow()
        params = {"row_id": image_id, "now": now}
        if conn.execute(_DELETE, {**params, "new_status": new_status}).rowcount != 1:
            raise exception.ImageNotFound(image_id)
        for statement in _DELETE_CHILDREN:
            conn.execute(statement, params)
        if waits:
            scrub_queue.enter(
                conn, image_id, image["location"], now=now, due_in=due_in, lease=lease
            )
        if locked["status"] in _UNFILLED:
            conversion_jobs.cancel_of(conn, image_id, now)
        image["status"], image["updated_at"] = new_status, now
        image["deleted"], image["deleted_at"] = True, now
        return records.reveal(db, image)

    return db.transaction(work)


def image_withdraw(db: engine.Database, context: Context, attempt: str) -> types.StoredImage:
    """Delete the record that an attempt created and that nobody has used since; return it.

    For a caller that has lost the response to the creation, and so cannot know the id. The data at
    a registered location stays. Raises NotFound if there is no such record: the attempt created
    none, or somebody has changed it since, begun to fill it, or shared it. Raises ImageNotFound if
    the caller may not change it.
    """

    def work(conn: Connection) -> types.StoredImage:
        now = records.utcnow()
        image_id = attempts.created_by(conn, attempt, "queued", now)
        if image_id is None:
            image_id = attempts.created_by(conn, attempt, "active", now)
        if image_id is None:
            raise exception.NotFound("This attempt left no record")
        locked = records.lock_mutable(conn, context, image_id)
        if locked["updated_at"] != locked["created_at"] or attempts.has_members(conn, image_id):
            raise exception.NotFound("The record of this attempt is in use")
        image = records.with_properties(conn, locked)
        params = {"row_id": image_id, "now": now}
        conn.execute(_DELETE, {**params, "new_status": "deleted"})
        for statement in _DELETE_CHILDREN:
            conn.execute(statement, params)
        conversion_jobs.cancel_of(conn, image_id, now)
        image["status"], image["updated_at"] = "deleted", now
        image["deleted"], image["deleted_at"] = True, now
        return records.reveal(db, image)

    return db.transaction(work)


def image_settle(
    db: engine.Database, context: Context, image_id: int, *, any_owner: bool = False
) -> types.StoredImage:
    """Change the status of an image from `pending_delete` to `deleted`: its data is gone.

    Raises ImageNotFound if the caller may not change it (nor, with `any_owner`, delete images of
    others), or if it is not in that status.
    """
    seeing = _seeing_deleted(context, any_owner)

    def work(conn: Connection) -> types.StoredImage:
        locked = records.lock_mutable(conn, seeing, image_id)
        now = records.utcnow()
        if conn.execute(_SETTLE, {"row_id": image_id, "now": now}).rowcount != 1:
            raise exception.ImageNotFound(image_id)
        scrub_queue.remove(conn, image_id)
        image = records.with_properties(conn, locked)
        image["status"], image["updated_at"] = "deleted", now
        return records.reveal(db, image)

    return db.transaction(work)


def image_postpone(
    db: engine.Database,
    context: Context,
    image_id: int,
    error: str,
    *,
    any_owner: bool = False,
    dead: bool = False,
    location: str | None = None,
) -> None:
    """Record that the API could not remove data, because of an error of this class.

    Without a `location` this is the data of an image in the scrub queue; it has no effect if the
    image is not queued, or if a scrubber has leased it. With one, it is what a failed write of the
    image left there. Raises ImageNotFound if the caller may not change the image (nor, with
    `any_owner`, delete images of others).
    """
    seeing = _seeing_deleted(context, any_owner)
    db.transaction(lambda conn: records.lock_mutable(conn, seeing, image_id))
    if location is None:
        scrub_queue.postpone(
            db, image_id, scrub_queue.DATA, error, owner=scrub_queue.API, dead=dead
        )
    else:
        scrub_queue.enter_leftover(db, image_id, location, error)


def _seeing_deleted(context: Context, any_owner: bool) -> Context:
    """Return a copy of the caller's context that may change deleted images."""
    seeing = copy.copy(context)
    seeing.show_deleted = True
    seeing.is_admin = context.is_admin or any_owner
    return seeing


def settle(db: engine.Database, image_id: int, item: str) -> bool:
    """Remove a row of the scrub queue, for a scrubber that has removed its data.

    An image that is still `pending_delete` becomes `deleted` in the same transaction. Returns
    False if it was settled already.
    """

    def work(conn: Connection) -> bool:
        if item == scrub_queue.DATA:
            # NOTE: the image first, because all transactions lock in this order.
            conn.execute(_SETTLE, {"row_id": image_id, "now": records.utcnow()})
        return scrub_queue.remove(conn, image_id, item)

    return db.transaction(work)


def image_restore(db: engine.Database, image_id: int) -> types.StoredImage:
    """Restore a deleted image whose data has not been removed yet; return the record.

    It is active again, or deactivated if an administrator had done that, with the properties and
    members it had. The caller has checked that the
    data still exists. Raises ImageNotFound if there is no such image, Conflict with the reason if
    it is not `pending_delete` or its data is being removed now.
    """
    admin = Context(is_admin=True, show_deleted=True)

    def work(conn: Connection) -> types.StoredImage:
        locked = records.lock(conn, admin, image_id)
        if locked["status"] != "pending_delete" or not locked["deleted"]:
            raise exception.Conflict(f"Image {image_id} is {locked['status']}, not pending_delete")
        now = records.utcnow()
        if scrub_queue.is_leased(conn, image_id, now):
            raise exception.Conflict(f"The data of image {image_id} is being removed now")
        scrub_queue.remove(conn, image_id)
        # SECURITY: otherwise a deletion would end a quarantine.
        status = "deactivated" if locked["deactivated_by_admin"] else "active"
        conn.execute(_RESTORE, {"row_id": image_id, "now": now, "new_status": status})
        for table in (properties, members):
            same_moment = table.c.deleted_at == locked["deleted_at"]
            if table is properties:
                # NOTE: Diablo stores no time for these. SECURITY: nor for members, so that members
                # deleted with the image cannot be distinguished from those removed before: they
                # are not restored.
                same_moment = sa.or_(same_moment, table.c.deleted_at.is_(None))
            conn.execute(
                table.update()
                .where(table.c.image_id == image_id)
                .where(table.c.deleted == sa.true())
                .where(same_moment)
                .values(deleted=False, deleted_at=None, updated_at=now)
            )
        image = records.with_properties(conn, locked)
        image["status"], image["updated_at"] = status, now
        image["deleted"], image["deleted_at"] = False, None
        return records.reveal(db, image)

    return db.transaction(work)
