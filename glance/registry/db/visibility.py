"""Who may see which image, as SQL.

`visible_to` is the counterpart of `glance.identity.context.RequestContext.is_image_visible`, for
one image requested by id; `listed_for` is the narrower rule of lists. Both refer to the caller
through the bound parameter `viewer`, so that a statement is built once for each kind of caller.
"""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.sql.elements import ColumnElement

from glance.identity import context as identity_context
from glance.registry.db import models

images, members = models.images, models.image_members

#: Kinds of caller.
ADMIN, OWNER, ANONYMOUS = "admin", "owner", "anonymous"


def live(table: sa.Table) -> ColumnElement[bool]:
    """Return the clause that excludes soft-deleted rows.

    PERF: `IS NOT true` cannot use an index. With `= false` SQLite, which has no statistics,
    assumes that the index on `deleted` is selective and reads every live row of the table.
    """
    return table.c.deleted.is_not(sa.true())


_PUBLIC = images.c.is_public.is_not(sa.false())
_OWNED = images.c.owner == sa.bindparam("viewer")
_SHARED = (
    sa.exists()
    .where(members.c.image_id == images.c.id)
    .where(members.c.member == sa.bindparam("viewer"))
    .where(live(members))
)
_OWNERLESS = images.c.owner.is_(None)

_VISIBLE: dict[str, ColumnElement[bool]] = {
    ADMIN: sa.true(),
    OWNER: sa.or_(_OWNERLESS, _PUBLIC, _OWNED, _SHARED),
    ANONYMOUS: sa.or_(_OWNERLESS, _PUBLIC),
}


def kind(context: identity_context.RequestContext) -> str:
    """Return the kind of the caller, one of three, for `visible_by_kind`."""
    if context.is_admin:
        return ADMIN
    return ANONYMOUS if context.owner is None else OWNER


def visible_to(context: identity_context.RequestContext) -> ColumnElement[bool]:
    """Return the clause over `images` that is true for images that the caller may read by id."""
    return visible_by_kind(kind(context))


def visible_by_kind(caller: str) -> ColumnElement[bool]:
    return _VISIBLE[caller]


def listed_for(is_public: bool | None, has_owner: bool, row: Any) -> ColumnElement[bool]:
    """Return the clause over the columns of `row` that is true for images that belong in a list.

    `is_public` is as in `glance.image.listing.ListQuery`: True means what an ordinary user sees,
    who can read an ownerless private image by its id only.
    """
    if is_public is None:
        return sa.true()
    if not is_public:
        return cast(ColumnElement[bool], row.is_public.is_not(sa.true()))
    public = row.is_public.is_not(sa.false())
    if not has_owner:
        return cast(ColumnElement[bool], public)
    # PERF: a scalar subquery, not EXISTS, from which planners may make a join that begins with
    # all memberships of the caller.
    shared = (
        sa.select(sa.literal_column("1"))
        .where(members.c.image_id == row.id)
        .where(members.c.member == sa.bindparam("viewer"))
        .where(live(members))
        .limit(sa.literal_column("1"))
        .scalar_subquery()
    )
    return sa.or_(public, row.owner == sa.bindparam("viewer"), shared.is_not(None))


def viewer(context: identity_context.RequestContext) -> dict[str, Any]:
    """Return the bound parameters of the clauses."""
    return {} if context.owner is None else {"viewer": context.owner}
