"""Few images, which a list reads and sorts: statements that return their ids, and how they run.

What `image_list` and `image_search` have in common. Each statement returns the ids of up to the
bound `window` images; the other filters of the list are left out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection
from sqlalchemy.sql import Select
from sqlalchemy.sql.elements import ColumnElement

from glance.registry.db import models, visibility

properties, members = models.image_properties, models.image_members

#: So many ids are fetched without counting them first.
MOST_AT_ONCE = 100
_WINDOW = sa.bindparam("window", type_=sa.Integer)
_VIEWER = sa.bindparam("viewer")
_ONE = sa.literal_column("1")


def shared(*clauses: ColumnElement[bool]) -> Select:
    """Return the ids of up to `window` images that are shared with the viewer.

    `clauses` are about the membership.
    """
    return (
        sa.select(members.c.image_id)
        .where(members.c.member == _VIEWER)
        .where(visibility.live(members), *clauses)
        .limit(_WINDOW)
    )


#: Those that lists of version 1 have.
SHARED = shared(visibility.not_rejected())


@functools.lru_cache(maxsize=256)
def exceeds(ids: Select) -> Select:
    """Return the statement that finds a row if there are more ids than `window`, cheaply."""
    found = ids.limit(None).subquery()
    return sa.select(_ONE).select_from(found).limit(_ONE).offset(_WINDOW)


def few(
    conn: Connection, statement: Select, params: Mapping[str, Any], most: int
) -> list[int] | None:
    """Run a statement that returns up to `window` ids; return them, None for more than `most`."""
    if most > MOST_AT_ONCE:
        # PERF: to fetch a thousand ids takes longer than to count them.
        more = conn.execute(exceeds(statement), {**params, "window": most}).first()
        if more is not None:
            return None
    found = conn.execute(statement, {**params, "window": most + 1}).scalars().all()
    return None if len(found) > most else list(found)


@functools.cache
def having(dialect: str) -> Select:
    """Return the ids of up to `window` images with a property of one of the `names`."""
    wanted = sa.bindparam("value", type_=sa.String)
    clauses = [properties.c.value == wanted]
    if dialect == "postgresql":
        length = sa.literal_column(str(models.INDEXED_VALUE))
        clauses.append(sa.func.left(properties.c.value, length) == sa.func.left(wanted, length))
    return (
        sa.select(properties.c.image_id)
        .where(properties.c.name.in_(sa.bindparam("names", expanding=True)), *clauses)
        .where(visibility.live(properties))
        .limit(_WINDOW)
    )


def is_among(image_id: Any, dialect: str) -> ColumnElement[bool]:
    """Return the clause for images of the bound `ids`, in the form that is cheap to bind."""
    if dialect == "sqlite":
        listed = sa.func.json_each(sa.bindparam("ids", type_=sa.String)).table_valued("value")
        return image_id.in_(sa.select(listed.c.value))
    if dialect == "postgresql":
        ids = sa.bindparam("ids", type_=postgresql.ARRAY(sa.Integer))
        return image_id == sa.any_(ids)
    return image_id.in_(sa.bindparam("ids", expanding=True, literal_execute=True))


def bound(ids: list[int], dialect: str) -> Any:
    """Return the value that `is_among` takes for its `ids`."""
    return json.dumps(ids) if dialect == "sqlite" else ids
