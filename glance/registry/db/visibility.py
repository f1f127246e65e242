"""Who may see which image, as SQL.

`visible_to` is the counterpart of `glance.identity.context.RequestContext.is_image_visible`, for
one image requested by id; `listed_for` is the narrower rule of lists of version 1. Both refer to
the caller through the bound parameter `viewer`, so that a statement is built once for each kind of
caller.

An image is public, community, shared or private. `is_public` is the column that counts: this
release writes both columns together, but a registry of an earlier schema version, which may work
beside it or have worked before it, writes `is_public` alone. So what `is_public` says is public,
whatever the other column has, and `public` there means shared if it says otherwise (`effective`).
"""

from __future__ import annotations

from collections.abc import Iterable
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


def none_of(column: Any, values: Iterable[str]) -> ColumnElement[bool]:
    """Return the clause for rows in which a column has none of some values.

    PERF: SQLAlchemy writes the text of a statement with NOT IN anew each time that it runs.
    """
    return sa.and_(*(column != value for value in values))


def effective(is_public: bool, stored: str) -> str:
    """Return the visibility of an image by its two columns."""
    if is_public:
        return "public"
    return "shared" if stored == "public" else stored


def effective_of(row: Any) -> ColumnElement[str]:
    """Return `effective` over the columns of `row`."""
    return sa.case(
        (row.is_public.is_(sa.true()), "public"),
        (row.visibility == "public", "shared"),
        else_=row.visibility,
    )


def chosen(is_public: bool, shown: bool, before: str) -> str:
    """Return the visibility after version 1 has sent `is_public`, where it had shown `shown`.

    Its clients send again what they have read, so only another value changes anything.
    """
    if is_public == shown:
        return before
    return "public" if is_public else "shared"


def is_shared(row: Any) -> ColumnElement[bool]:
    """Return the clause over the columns of `row` for images that members may see by it.

    Public ones may be among them: everybody sees these.
    """
    return none_of(row.visibility, ("private", "community"))


_PUBLIC = images.c.is_public.is_not(sa.false())
_COMMUNITY = images.c.visibility == "community"
_OWNED = images.c.owner == sa.bindparam("viewer")
_SHARED = sa.and_(
    is_shared(images.c),
    sa.exists()
    .where(members.c.image_id == images.c.id)
    .where(members.c.member == sa.bindparam("viewer"))
    .where(live(members)),
)
_OWNERLESS = sa.and_(images.c.owner.is_(None), images.c.visibility != "private")

_VISIBLE: dict[str, ColumnElement[bool]] = {
    ADMIN: sa.true(),
    OWNER: sa.or_(_OWNERLESS, _PUBLIC, _COMMUNITY, _OWNED, _SHARED),
    ANONYMOUS: sa.or_(_OWNERLESS, _PUBLIC, _COMMUNITY),
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
    who can read an ownerless image, and a community image of others, by its id only. None means
    all, hidden ones too. A member that has rejected an image does not see it in lists.
    """
    if is_public is None:
        return sa.true()
    shown = not_hidden(row)
    if not is_public:
        return sa.and_(row.is_public.is_not(sa.true()), shown)
    public = row.is_public.is_not(sa.false())
    if not has_owner:
        return sa.and_(public, shown)
    may_see = sa.or_(
        public,
        row.owner == sa.bindparam("viewer"),
        sa.and_(is_shared(row), is_member(row, not_rejected())),
    )
    return sa.and_(may_see, shown)


def is_member(row: Any, *clauses: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the clause over the columns of `row` for images of which the viewer is a member.

    `clauses` are about the membership.
    """
    # PERF: a scalar subquery, not EXISTS, from which planners may make a join that begins with
    # all memberships of the caller.
    found = (
        sa.select(sa.literal_column("1"))
        .where(members.c.image_id == row.id)
        .where(members.c.member == sa.bindparam("viewer"))
        .where(live(members), *clauses)
        .limit(sa.literal_column("1"))
        .scalar_subquery()
    )
    return found.is_not(None)


def not_hidden(row: Any) -> ColumnElement[bool]:
    """Return the clause over the columns of `row` for images that are not hidden from lists."""
    return cast(ColumnElement[bool], row.os_hidden.is_not(sa.true()))


def not_rejected() -> ColumnElement[bool]:
    """Return the clause for memberships that lists of version 1 take into account."""
    return cast(ColumnElement[bool], members.c.status != "rejected")


def viewer(context: identity_context.RequestContext) -> dict[str, Any]:
    """Return the bound parameters of the clauses."""
    return {} if context.owner is None else {"viewer": context.owner}


def has_visibility(row: Any, word: str) -> ColumnElement[bool]:
    """Return the clause over the columns of `row` for images with a visibility, as `effective`."""
    if word == "public":
        return cast(ColumnElement[bool], row.is_public.is_not(sa.false()))
    stored = is_shared(row) if word == "shared" else row.visibility == word
    return sa.and_(row.is_public.is_not(sa.true()), stored)
