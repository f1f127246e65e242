"""Which images a list of version 2 has for whom, as SQL over the columns of a row.

The rules are those of `glance.registry.db.visibility`, with more choice: a list can be asked for
images of one visibility, and for those whose membership the caller has not accepted yet.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.elements import ColumnElement

from glance.registry.db import models, visibility

members = models.image_members
_VIEWER = sa.bindparam("viewer")


def found_by(
    kind: str, has_owner: bool, wanted: str | None, member_status: str, row: Any
) -> ColumnElement[bool]:
    """Return the clause for images that a list has for a caller.

    `kind` is that of `visibility.kind`; `has_owner` says whether a bound `viewer` names a project.
    `wanted` and `member_status` are as in `glance.image.search.SearchQuery`.
    """
    if kind == visibility.ADMIN:
        return _for_admin(has_owner, wanted, row)
    if wanted == "community":
        return visibility.has_visibility(row, "community")
    public = visibility.has_visibility(row, "public")
    if wanted == "public":
        return public
    if not has_owner:
        community = visibility.has_visibility(row, "community")
        return {None: public, "all": sa.or_(public, community)}.get(wanted, sa.false())
    own: ColumnElement[bool] = row.owner == _VIEWER
    if wanted == "private":
        return sa.and_(own, visibility.has_visibility(row, "private"))
    said = has_status(member_status)
    shared = sa.and_(visibility.is_shared(row), visibility.is_member(row, *said))
    if wanted == "shared":
        return sa.and_(visibility.has_visibility(row, "shared"), sa.or_(own, shared))
    if wanted == "all":
        return sa.or_(public, own, visibility.has_visibility(row, "community"), shared)
    return sa.or_(public, own, shared)


def _for_admin(has_owner: bool, wanted: str | None, row: Any) -> ColumnElement[bool]:
    if wanted in (None, "all"):
        # An administrator without a project, as without authentication, has no other projects.
        if wanted == "all" or not has_owner:
            return sa.true()
        foreign = sa.or_(row.owner.is_(None), row.owner != _VIEWER)
        return ~sa.and_(visibility.has_visibility(row, "community"), foreign)
    return visibility.has_visibility(row, wanted)


def has_status(status: str) -> list[ColumnElement[bool]]:
    """Return the clauses for memberships with a status, none for `all`."""
    return [] if status == "all" else [members.c.status == status]
