"""Lists of images: filters, order and paging in one statement.

A page begins after a row, not after a count (keyset pagination): rows that are added or removed
before it shift nothing. Null sort values are smaller than all others, on every database.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal, cast, overload

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.sql import Select
from sqlalchemy.sql.elements import ColumnElement

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import fields, listing, types
from glance.registry.db import engine, lenient, models, records, visibility

images, properties = models.images, models.image_properties

_marker = images.alias("marker")
_other = properties.alias("other")
#: How many names with capitals are looked at; more of them count as a match.
_MOST_NAMES = 1000
# PERF: PostgreSQL uses the index, which is almost always empty, for the first rows in its order;
# MySQL, whose index has all names, finds the different ones in it.
_ODD_NAMES = (
    sa.select(properties.c.name)
    .where(models.is_odd_name(properties))
    .order_by(properties.c.name)
    .limit(_MOST_NAMES)
)
_DIFFERENT_ODD_NAMES = _ODD_NAMES.distinct()
_ARE_LIVE = (
    sa.select(properties.c.id)
    .where(properties.c.name.in_(sa.bindparam("names", expanding=True)))
    .where(visibility.live(properties))
    .limit(1)
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Shape:
    """Everything in a query that changes the text of its statement; values are bound later."""

    columns: tuple[str, ...]
    has_owner: bool
    is_public: bool | None
    deleted: bool | None
    include_killed: bool
    filters: tuple[str, ...]
    properties: int
    odd_names: bool
    size_min: bool
    size_max: bool
    changes_since: bool
    sort_key: str
    descending: bool
    part: str | None  # of the order, relative to the marker; see `_parts`
    dialect: str


@overload
def image_list(
    db: engine.Database,
    context: identity_context.RequestContext,
    query: listing.ListQuery,
    *,
    detail: Literal[True] = True,
) -> list[types.StoredImage]: ...


@overload
def image_list(
    db: engine.Database,
    context: identity_context.RequestContext,
    query: listing.ListQuery,
    *,
    detail: Literal[False],
) -> list[types.BriefImage]: ...


def image_list(
    db: engine.Database,
    context: identity_context.RequestContext,
    query: listing.ListQuery,
    *,
    detail: bool = True,
) -> list[types.StoredImage] | list[types.BriefImage]:
    """Return one page of the images that the caller may list.

    Records are full with `detail`; otherwise they have the six keys of a short list. Raises
    Invalid if the marker is not an image that the caller can see.
    """
    deleted = True if context.show_deleted else query.deleted
    columns = fields.DETAIL_KEYS if detail else fields.BRIEF_KEYS
    with db.read() as conn:
        parts: list[str | None] = [None]
        params = _values(context, query)
        if query.marker is not None:
            marker = conn.execute(
                _marker_statement(
                    visibility.kind(context), query.sort_key, deleted is False, db.dialect
                ),
                {**params, "marker_id": query.marker},
            ).first()
            if marker is None:
                raise exception.Invalid("The marker image was not found")
            is_null, value = marker
            parts = _parts(query, is_null)
            params.update(marker_id=query.marker, marker_value=value)
        if query.limit == 0:
            return []
        shape = _Shape(
            columns=columns,
            has_owner=context.owner is not None,
            is_public=query.is_public,
            deleted=deleted,
            include_killed=query.include_killed,
            filters=tuple(query.filters),
            properties=len(query.properties),
            odd_names=_has_odd_names(conn, query.properties),
            size_min=query.size_min is not None,
            size_max=query.size_max is not None,
            changes_since=query.changes_since is not None,
            sort_key=query.sort_key,
            descending=query.sort_dir == "desc",
            part=None,
            dialect=db.dialect,
        )
        page: list[dict[str, Any]] = []
        for part in parts:
            statement = _page_statement(dataclasses.replace(shape, part=part))
            params["page_limit"] = query.limit - len(page)
            found = lenient.fetch(conn, statement, params)
            page += [dict(zip(columns, row, strict=True)) for row in found]
            if len(page) == query.limit:
                break
    if not detail:
        return cast(list[types.BriefImage], page)
    full = cast(list[types.StoredImage], page)
    for record in full:
        record["properties"] = lenient.fold_names(record["properties"] or {})
        records.reveal(db, record)
    return full


def _values(context: identity_context.RequestContext, query: listing.ListQuery) -> dict[str, Any]:
    params = {
        **visibility.viewer(context),
        "page_limit": query.limit,
        "size_min": query.size_min,
        "size_max": query.size_max,
        "changes_since": query.changes_since,
    }
    params.update((f"filter_{name}", value) for name, value in query.filters.items())
    for number, (name, value) in enumerate(query.properties.items()):
        params[f"property_name_{number}"] = name
        params[f"property_value_{number}"] = value
    return params


@functools.cache
def _marker_statement(caller: str, sort_key: str, live_only: bool, dialect: str) -> Select:
    """Return the statement that finds whether the marker's value is null, and the value.

    The value is not read from SQLite: see `_is_in_part`.
    """
    key = images.c[sort_key]
    value = sa.null() if dialect == "sqlite" else lenient.raw(key, dialect)
    statement = (
        sa.select(key.is_(None), value)
        .where(images.c.id == sa.bindparam("marker_id"))
        .where(visibility.visible_by_kind(caller))
    )
    return statement.where(visibility.live(images)) if live_only else statement


@functools.lru_cache(maxsize=512)
def _page_statement(shape: _Shape) -> Select:
    """Return the statement of a page. PERF: building one costs more than running it: cached."""
    columns = [images.c[name] for name in shape.columns if name != "properties"]
    statement = sa.select(*columns).where(visibility.listed_for(shape.is_public, shape.has_owner))
    if shape.deleted is False:
        statement = statement.where(visibility.live(images))
    elif shape.deleted:
        statement = statement.where(images.c.deleted == sa.true())
    if not shape.include_killed:
        statement = statement.where(images.c.status != "killed")
    for name in shape.filters:
        statement = statement.where(images.c[name] == sa.bindparam(f"filter_{name}"))
    for number in range(shape.properties):
        statement = statement.where(_has_property(number, shape))
    if shape.size_min:
        statement = statement.where(images.c.size >= sa.bindparam("size_min"))
    if shape.size_max:
        statement = statement.where(images.c.size <= sa.bindparam("size_max"))
    if shape.changes_since:
        statement = statement.where(images.c.updated_at > sa.bindparam("changes_since"))
    if shape.part:
        statement = statement.where(_is_in_part(shape))
    limit = sa.bindparam("page_limit", type_=sa.Integer)
    statement = statement.order_by(*_order(shape, images.c)).limit(limit)
    if "properties" not in shape.columns:
        return statement
    # NOTE: otherwise SQLite would read the properties of every image that it has to sort.
    page = statement.subquery("page")
    order = _order(shape, page.c)
    return sa.select(*page.c, records.properties_of(page.c.id)).order_by(*order)


def _has_odd_names(conn: Connection, wanted: Mapping[str, str]) -> bool:
    """Return whether a name that is wanted is also stored with capitals.

    PERF: a statement for such names takes PostgreSQL ten times as long.
    """
    if not wanted:
        return False
    is_mysql = conn.dialect.name == "mysql"
    odd = conn.execute(_DIFFERENT_ODD_NAMES if is_mysql else _ODD_NAMES).scalars().all()
    if len(odd) == _MOST_NAMES:
        return True
    names = [name for name in odd if name.lower() in wanted]
    return bool(names) and conn.execute(_ARE_LIVE, {"names": names}).first() is not None


def _has_property(number: int, shape: _Shape) -> ColumnElement[bool]:
    wanted = sa.bindparam(f"property_name_{number}")
    named = properties.c.name == wanted
    if shape.odd_names:
        # The counterpart of `lenient.fold_names`: in the order of bytes, capitals come first.
        later = _other.c.name > (
            sa.collate(properties.c.name, "C")
            if shape.dialect == "postgresql"
            else properties.c.name
        )
        hidden = (
            sa.exists()
            .where(_other.c.image_id == properties.c.image_id)
            .where(sa.func.lower(_other.c.name) == wanted)
            .where(later)
            .where(visibility.live(_other))
        )
        named = sa.or_(named, sa.and_(sa.func.lower(properties.c.name) == wanted, ~hidden))
    return (
        sa.exists()
        .where(properties.c.image_id == images.c.id)
        .where(named)
        .where(properties.c.value == sa.bindparam(f"property_value_{number}"))
        .where(visibility.live(properties))
    )


def _parts(query: listing.ListQuery, is_null: bool) -> list[str | None]:
    """Return the parts of the list after the marker, in order; `values` and `nulls` are whole.

    PERF: each part is a range of an index. One statement for all parts would use no index, and
    each page except the first would take as long as all following pages: 10 to 60 ms among 100 000
    images.
    """
    descending = query.sort_dir == "desc"
    if is_null:
        return ["rest of nulls"] if descending else ["rest of nulls", "values"]
    if descending and images.c[query.sort_key].nullable:
        return ["rest of values", "nulls"]
    return ["rest of values"]


def _is_in_part(shape: _Shape) -> ColumnElement[bool]:
    """Return the clause for rows in a part of the order, after the marker in its own part."""
    key, marker_id = images.c[shape.sort_key], sa.bindparam("marker_id")
    if shape.part == "nulls":
        return key.is_(None)
    if shape.part == "values":
        return key.is_not(None)
    further = images.c.id < marker_id if shape.descending else images.c.id > marker_id
    if shape.sort_key == "id":
        return further
    if shape.part == "rest of nulls":
        return sa.and_(key.is_(None), further)
    # NOTE: as it is stored, whether or not it can be read. Nothing else passes on what SQLite can
    # hold; for the others it is a constant, which their planners need.
    value = sa.bindparam("marker_value", type_=sa.String)
    if shape.dialect == "sqlite":
        found = sa.select(_marker.c[shape.sort_key]).where(_marker.c.id == marker_id)
        value = found.scalar_subquery()
    place, marker = sa.tuple_(key, images.c.id), sa.tuple_(value, marker_id)
    # PERF: `<=` too, because MySQL uses no index range for the comparison of pairs.
    if shape.descending:
        return sa.and_(key <= value, place < marker)
    return sa.and_(key >= value, place > marker)


def _order(shape: _Shape, columns: Any) -> list[ColumnElement[Any]]:
    names = [shape.sort_key] if shape.sort_key == "id" else [shape.sort_key, "id"]
    order: list[ColumnElement[Any]] = []
    for name in names:
        term = columns[name].desc() if shape.descending else columns[name].asc()
        if shape.dialect == "postgresql" and images.c[name].nullable:
            term = term.nulls_last() if shape.descending else term.nulls_first()
        order.append(term)
    return order
