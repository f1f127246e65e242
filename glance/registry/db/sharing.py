"""Memberships of images as version 1 changes them: with whom an image is shared.

A membership row is unique for (image, member) over deleted rows too, so adding revives a row. A
removed membership counts as none: it grants nothing, and its `can_share` has no effect. A member
that is added, also again, is pending; `glance.registry.db.member_records` has what version 2 does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import types
from glance.registry.db import engine, lenient, models, records, visibility

images, members = models.images, models.image_members
Context = identity_context.RequestContext

_OF_IMAGE = (
    sa.select(members.c.member, members.c.can_share)
    .where(members.c.image_id == sa.bindparam("image"))
    .where(visibility.live(members))
    .order_by(members.c.id)
)
_OF_IMAGE_ALL = sa.select(
    members.c.id, members.c.member, members.c.can_share, members.c.deleted, members.c.status
).where(members.c.image_id == sa.bindparam("image"))
_ONE = _OF_IMAGE.where(members.c.member == sa.bindparam("name"))
_SHARED_WITH = (
    sa.select(members.c.image_id, members.c.can_share)
    .join(images, images.c.id == members.c.image_id)
    .where(members.c.member == sa.bindparam("name"))
    .where(visibility.live(members))
    .where(visibility.live(images))
    .where(sa.or_(images.c.is_public == sa.true(), images.c.visibility != "private"))
    .order_by(members.c.created_at.desc(), members.c.id.desc())
)
_SET = (
    members.update()
    .where(members.c.id == sa.bindparam("row_id"))
    .values(
        can_share=sa.bindparam("new_can_share"),
        status=sa.bindparam("new_status"),
        deleted=False,
        deleted_at=None,
        updated_at=sa.bindparam("now"),
    )
)
_REMOVE = (
    members.update()
    .where(members.c.id == sa.bindparam("row_id"))
    .values(deleted=True, deleted_at=sa.bindparam("now"), updated_at=sa.bindparam("now"))
)


def member_list(db: engine.Database, context: Context, image_id: int) -> list[types.StoredMember]:
    """Return the memberships of an image that the caller may see, oldest first.

    Owners and administrators see all, a member sees its own, others none. Raises ImageNotFound if
    the caller cannot see the image.
    """
    with db.snapshot() as conn:
        image = records.load(conn, context, image_id)
        if context.is_image_mutable(image):
            found = lenient.fetch(conn, _OF_IMAGE, {"image": image_id})
        elif context.owner is None:
            return []
        else:
            found = lenient.fetch(conn, _ONE, {"image": image_id, "name": context.owner})
        return [{"member": lenient.text(row.member), "can_share": row.can_share} for row in found]


def member_images(db: engine.Database, context: Context, member: str) -> list[types.SharedImage]:
    """Return which images are shared with `member`, newest membership first.

    An administrator and the member itself see all, others only images that they own.
    """
    statement, params = _SHARED_WITH, {"name": member}
    if not context.is_admin and context.owner != member:
        if context.owner is None:
            return []
        statement = statement.where(images.c.owner == sa.bindparam("viewer"))
        params["viewer"] = context.owner
    with db.read() as conn:
        found = conn.execute(statement, params)
        return [{"image_id": row.image_id, "can_share": row.can_share} for row in found]


def member_check(db: engine.Database, context: Context, image_id: int) -> None:
    """Raise if the caller may not change the memberships of the image.

    Raises NotAuthorized without an owner, ImageNotFound if the image is not visible, Forbidden if
    the caller may not share it, or it is private.
    """
    with db.snapshot() as conn:
        _check(conn, context, image_id, records.load)


def member_add(
    db: engine.Database,
    context: Context,
    image_id: int,
    member: str,
    can_share: bool | None = None,
    *,
    member_quota: int = 0,
) -> None:
    """Share an image with `member`.

    `can_share` None does not change an existing membership and gives a new one no right to share.
    Raises the errors of `member_check`, and QuotaExceeded.
    """

    def work(conn: Connection) -> None:
        _check(conn, context, image_id, records.lock)
        stored = _stored(conn, image_id)
        row = stored.get(member)
        if row is not None and not row.deleted and can_share is None:
            return
        live = sum(not other.deleted for other in stored.values())
        if row is None or row.deleted:
            records.check_quota(live + 1, live, member_quota, "members")
        _apply(conn, image_id, stored, {member: can_share})

    db.transaction(work)


def member_replace(
    db: engine.Database,
    context: Context,
    image_id: int,
    memberships: Sequence[tuple[str, bool | None]],
    *,
    member_quota: int = 0,
) -> None:
    """Replace all memberships of an image by `memberships`: pairs of member and `can_share`.

    `can_share` None keeps the value of an existing membership and is False for a new one. Raises
    the errors of `member_check`, Invalid for a member named twice, and QuotaExceeded; then nothing
    changes.
    """
    requested = dict(memberships)
    if len(requested) != len(memberships):
        raise exception.Invalid("A member is named more than once")

    def work(conn: Connection) -> None:
        _check(conn, context, image_id, records.lock)
        stored = _stored(conn, image_id)
        live = sum(not row.deleted for row in stored.values())
        records.check_quota(len(requested), live, member_quota, "members")
        removed = [
            row for name, row in stored.items() if name not in requested and not row.deleted
        ]
        _remove(conn, removed)
        _apply(conn, image_id, stored, requested)

    db.transaction(work)


def member_delete(db: engine.Database, context: Context, image_id: int, member: str) -> None:
    """Stop sharing an image with `member`, if it was shared. Errors as for `member_check`."""

    def work(conn: Connection) -> None:
        _check(conn, context, image_id, records.lock)
        row = _stored(conn, image_id).get(member)
        if row is not None and not row.deleted:
            _remove(conn, [row])

    db.transaction(work)


def _check(
    conn: Connection,
    context: Context,
    image_id: int,
    load: Callable[[Connection, Context, int], types.ImageRow],
) -> None:
    if context.owner is None and not context.is_admin:
        raise exception.NotAuthorized("Sharing an image needs an authenticated user")
    image = load(conn, context, image_id)
    membership: types.OwnMembership | None = None
    if context.owner is not None:
        row = conn.execute(_ONE, {"image": image_id, "name": context.owner}).first()
        membership = None if row is None else {"can_share": row.can_share}
    if not context.is_image_sharable(image, membership):
        raise exception.Forbidden("No permission to share that image")
    if image["visibility"] == "private":
        raise exception.Forbidden(
            "The image is private by version 2 of the API: set its visibility to shared first"
        )


def _stored(conn: Connection, image_id: int) -> dict[str, Any]:
    found = lenient.fetch(conn, _OF_IMAGE_ALL, {"image": image_id})
    return {lenient.text(row.member): row for row in found}


def _apply(
    conn: Connection, image_id: int, stored: dict[str, Any], requested: dict[str, bool | None]
) -> None:
    """Add, change and revive the memberships in `requested`; forget removed ones if many are."""
    now = records.utcnow()
    new, changed = [], []
    for name, can_share in requested.items():
        row = stored.get(name)
        if row is None:
            new.append(
                {
                    "image_id": image_id,
                    "member": name,
                    "status": "pending",
                    "can_share": bool(can_share),
                    "created_at": now,
                    "updated_at": now,
                    "deleted": False,
                }
            )
        elif row.deleted or (can_share is not None and can_share != row.can_share):
            # NOTE: not by SQL: MySQL would look at `deleted` as it is after the change.
            status = "pending" if row.deleted else row.status
            changed.append(
                {
                    "row_id": row.id,
                    "new_can_share": bool(can_share),
                    "new_status": status,
                    "now": now,
                }
            )
    if new:
        conn.execute(members.insert(), new)
    if changed:
        conn.execute(_SET, changed)
    deleted = sum(row.deleted for row in stored.values())
    records.forget_deleted(conn, members, image_id, deleted)


def _remove(conn: Connection, found: list[Any]) -> None:
    if found:
        now = records.utcnow()
        conn.execute(_REMOVE, [{"row_id": row.id, "now": now} for row in found])
