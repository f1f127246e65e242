"""Memberships as version 2 of the Images API sees them: with a status, and for shared images only.

Only the owner of an image, or an administrator, adds and removes members: here `can_share` has no
effect. Only the member itself, or an administrator, sets the status. An image is named by its
uuid.
"""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import types
from glance.registry.db import engine, lenient, models, records, visibility

members = models.image_members
Context = identity_context.RequestContext

_COLUMNS = ("member", "status", "created_at", "updated_at")
_OF_IMAGE = (
    sa.select(*(members.c[name] for name in _COLUMNS))
    .where(members.c.image_id == sa.bindparam("image"))
    .where(visibility.live(members))
    .order_by(members.c.id)
)
_ONE = _OF_IMAGE.where(members.c.member == sa.bindparam("name"))
_COUNT = (
    sa.select(sa.func.count())
    .where(members.c.image_id == sa.bindparam("image"))
    .where(visibility.live(members))
)
_SET = (
    members.update()
    .where(members.c.image_id == sa.bindparam("image"))
    .where(members.c.member == sa.bindparam("name"))
)
_REVIVE = _SET.where(members.c.deleted == sa.true()).values(
    status="pending",
    can_share=False,
    created_at=sa.bindparam("now"),
    updated_at=sa.bindparam("now"),
    deleted=False,
    deleted_at=None,
)
_SET_STATUS = _SET.values(status=sa.bindparam("new_status"), updated_at=sa.bindparam("now"))
_REMOVE = _SET.where(visibility.live(members)).values(
    deleted=True, deleted_at=sa.bindparam("now"), updated_at=sa.bindparam("now")
)
_DELETED = (
    sa.select(sa.func.count())
    .where(members.c.image_id == sa.bindparam("image"))
    .where(members.c.deleted == sa.true())
)


def members_of(db: engine.Database, context: Context, uuid: str) -> list[types.StoredMembership]:
    """Return the memberships of a shared image, oldest first; to a member, only its own.

    Raises ImageNotFound if the caller cannot see the image, Forbidden if it is not shared, or the
    caller neither its owner nor a member.
    """
    with db.snapshot() as conn:
        image = records.load_full(conn, context, uuid)
        _require_shared(image)
        if context.is_image_mutable(image):
            found = lenient.fetch(conn, _OF_IMAGE, {"image": image["id"]})
            return [_row(values) for values in found]
        own = _find(conn, image["id"], context.owner)
        if own is None:
            raise exception.Forbidden("Only the owner of an image may see its members")
        return [own]


def member_of(
    db: engine.Database, context: Context, uuid: str, member: str
) -> types.StoredMembership:
    """Return one membership of a shared image.

    Raises as `members_of` does, and NotFound if there is none that the caller may see.
    """
    with db.snapshot() as conn:
        image = records.load_full(conn, context, uuid)
        _require_shared(image)
        may_see = context.owner == member or context.is_image_mutable(image)
        found = _find(conn, image["id"], member) if may_see else None
        return _required(found, member)


def add(
    db: engine.Database, context: Context, uuid: str, member: str, *, member_quota: int = 0
) -> types.StoredMembership:
    """Share an image with a member, who is pending; return the membership.

    Raises ImageNotFound if the caller cannot see the image, Forbidden if it is another's or not
    shared, Duplicate for a member, QuotaExceeded.
    """

    def work(conn: Connection) -> types.StoredMembership:
        image = records.lock_own(conn, context, uuid)
        _require_shared(image)
        named = {"image": image["id"], "name": member}
        if conn.execute(_ONE, named).first() is not None:
            raise exception.Duplicate(f"{member} is a member of image {uuid} already")
        live = int(conn.execute(_COUNT, named).scalar() or 0)
        records.check_quota(live + 1, live, member_quota, "members")
        now = records.utcnow()
        if conn.execute(_REVIVE, {**named, "now": now}).rowcount == 0:
            row = {"image_id": image["id"], "member": member, "status": "pending"}
            times = {"created_at": now, "updated_at": now}
            conn.execute(members.insert(), {**row, **times, "can_share": False, "deleted": False})
        deleted = int(conn.execute(_DELETED, named).scalar() or 0)
        records.forget_deleted(conn, members, image["id"], deleted)
        return {"member": member, "status": "pending", "created_at": now, "updated_at": now}

    return db.transaction(work)


def set_status(
    db: engine.Database, context: Context, uuid: str, member: str, status: str
) -> types.StoredMembership:
    """Set the status of a membership and return it.

    Raises ImageNotFound if the caller cannot see the image, Forbidden for its owner and if it is
    not shared, NotFound if there is no such member or the caller is another.
    """

    def work(conn: Connection) -> types.StoredMembership:
        image = records.lock(conn, context, uuid)
        _require_shared(image)
        if context.owner != member and not context.is_admin:
            if context.is_image_mutable(image):
                raise exception.Forbidden("Only the member itself may accept or reject an image")
            raise _not_found(member)
        named = {"image": image["id"], "name": member}
        found = _required(_find(conn, image["id"], member), member)
        now = records.utcnow()
        conn.execute(_SET_STATUS, {**named, "new_status": status, "now": now})
        return {**found, "status": status, "updated_at": now}

    return db.transaction(work)


def remove(db: engine.Database, context: Context, uuid: str, member: str) -> None:
    """End a membership.

    Raises ImageNotFound if the caller cannot see the image, Forbidden if it is another's or not
    shared, NotFound if there is no such member.
    """

    def work(conn: Connection) -> None:
        image = records.lock_own(conn, context, uuid)
        _require_shared(image)
        params = {"image": image["id"], "name": member, "now": records.utcnow()}
        if conn.execute(_REMOVE, params).rowcount == 0:
            raise _not_found(member)

    db.transaction(work)


def _require_shared(image: types.ImageRow) -> None:
    if image["visibility"] != "shared":
        raise exception.Forbidden(
            f"Only shared images have members; this one is {image['visibility']}"
        )


def _find(conn: Connection, image_id: int, member: str | None) -> types.StoredMembership | None:
    if member is None:
        return None
    found = lenient.fetch(conn, _ONE, {"image": image_id, "name": member})
    return _row(found[0]) if found else None


def _row(values: Any) -> types.StoredMembership:
    row = dict(zip(_COLUMNS, values, strict=True))
    row["member"] = lenient.text(row["member"])
    return cast(types.StoredMembership, row)


def _required(found: types.StoredMembership | None, member: str) -> types.StoredMembership:
    if found is None:
        raise _not_found(member)
    return found


def _not_found(member: str) -> exception.NotFound:
    return exception.NotFound(f"{member} is not a member of the image")
