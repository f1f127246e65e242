"""The statements of lists of version 2, each bounded by the number of rows that it may read.

`glance.registry.db.image_search` says which one is run when. Like those of `list_statements`,
whose windows they use, they are built once for each `SearchShape`, and values are bound later.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import Select
from sqlalchemy.sql.elements import ColumnElement

from glance.registry.db import (
    list_statements,
    models,
    probes,
    records,
    search_visibility,
    visibility,
)

images, properties, tags = models.images, models.image_properties, models.image_tags

_marker, _other = images.alias("marker"), images.alias("other")
_LIMIT = sa.bindparam("page_limit", type_=sa.Integer)
_WINDOW = sa.bindparam("window", type_=sa.Integer)
_ONE = sa.literal_column("1")
#: Statuses of images that no list has.
_LEFT_OUT = ("killed", "pending_delete", "deleted")
#: Columns in whose order there is an index of the images that are not deleted.
INDEXED = frozenset(
    {"name", "status", "container_format", "disk_format", "size", "created_at", "updated_at"}
)


@dataclasses.dataclass(frozen=True, slots=True)
class SearchShape:
    """Everything in a query that changes the text of its statements.

    `spans` have a column, and whether the span has a beginning and an end; `outside` names the
    columns of spans to leave out. `properties` says of each whether its value is empty. `sort` has
    keys, of which `id` is the uuid, and whether they are descending; `marked` says whether there
    is a marker. `shown_only` leaves out the columns that version 2 does not show.
    """

    kind: str
    has_owner: bool
    visibility: str | None
    member_status: str
    os_hidden: bool
    equal: tuple[str, ...]
    among: tuple[str, ...]
    size_min: bool
    size_max: bool
    spans: tuple[tuple[str, bool, bool], ...]
    outside: tuple[str, ...]
    tags: int
    properties: tuple[bool, ...]
    sort: tuple[tuple[str, bool], ...]
    marked: bool
    dialect: str
    shown_only: bool = False

    @property
    def has_filters(self) -> bool:
        filters = self.equal, self.among, self.spans, self.outside, self.tags, self.properties
        return any(filters) or self.size_min or self.size_max

    @property
    def ties_descend(self) -> bool:
        return self.sort[-1][1]


@dataclasses.dataclass(frozen=True, slots=True)
class Scan:
    """The order in which images are examined: that of an index.

    `key` is a column of INDEXED, `uuid`, or `id`. `scope` is the column before it in the index,
    for one value of which images are examined, or empty: `is_public` for public images, `owner`
    for those of the viewer, another one for the bound `filter_` with its name.
    """

    key: str
    descending: bool
    scope: str = ""


@functools.cache
def marker(kind: str, key: str, dialect: str) -> Select:
    """Return the statement that finds the id of a marker, and its place in the order of a scan."""
    return (
        sa.select(images.c.id, *list_statements.place(images.c, key, dialect))
        .where(images.c.uuid == sa.bindparam("marker_uuid"))
        .where(visibility.visible_by_kind(kind))
        .where(visibility.live(images), visibility.none_of(images.c.status, _LEFT_OUT[1:]))
    )


# -- pages ---------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=512)
def page(shape: SearchShape, scan: Scan, part: str | None, counts: bool = False) -> Select:
    """Return the records of those images that match in a window, in the order of the scan.

    With `counts` each row ends with the number of rows of the window.
    """
    found = _records(shape, _in_window(shape, scan, part, is_ordered=True))
    if not counts:
        return found
    rows = _rows(shape, scan, part)
    return found.add_columns(sa.select(sa.func.count()).select_from(rows).scalar_subquery())


@functools.lru_cache(maxsize=512)
def best(shape: SearchShape, scan: Scan, part: str | None) -> Select:
    """Return the ids of the first images, in the order of the list, that match in a window."""
    return _in_window(shape, scan, part, is_ordered=False)


@functools.lru_cache(maxsize=512)
def among(shape: SearchShape) -> Select:
    """Return the records of the first images that match among the bound `ids`."""
    found = (
        sa.select(images.c.id)
        .where(probes.is_among(images.c.id, shape.dialect))
        .where(visibility.live(images), *_matches(shape, images.c, images.c))
        .where(*_after(shape))
        .order_by(*_order(shape, images.c))
        .limit(_LIMIT)
    )
    return _records(shape, found)


@functools.lru_cache(maxsize=256)
def ranked(sort: tuple[tuple[str, bool], ...], dialect: str) -> Select:
    """Return the first of the bound `ids` in the order of a list."""
    return (
        sa.select(images.c.id)
        .where(probes.is_among(images.c.id, dialect))
        .order_by(*_ordered(sort, dialect, images.c))
        .limit(_LIMIT)
    )


@functools.lru_cache(maxsize=512)
def end_of_window(shape: SearchShape, scan: Scan, part: str | None) -> Select:
    """Return the id and the place of the last row of a window; no row if it has fewer rows."""
    rows = _rows(shape, scan, part, with_key=True)
    if scan.key != "uuid":
        return list_statements.last_of(_scanned(scan, shape.dialect), rows)
    last = sa.bindparam("window_end", type_=sa.Integer)
    order = rows.c.uuid.desc() if scan.descending else rows.c.uuid.asc()
    found = sa.select(rows.c.id, sa.false(), sa.null()).order_by(order)
    return found.limit(_ONE).offset(last)


@functools.cache
def is_behind(scan: Scan) -> Select:
    """Return the statement that finds a row if image `last` is behind image `worst` in a scan.

    That is the case if its sort value comes later, whatever the ids.
    """
    key, before = _other.c[scan.key], _marker.c[scan.key]
    return (
        sa.select(_ONE)
        .where(_marker.c.id == sa.bindparam("worst"), _other.c.id == sa.bindparam("last"))
        .where(_beyond(key, before, scan.descending))
    )


@functools.cache
def before_group(scan: Scan, dialect: str) -> Select:
    """Return the id and the place of the last image before those with the marker's sort value."""
    key = images.c[scan.key]
    value = sa.select(_marker.c[scan.key]).where(_marker.c.id == sa.bindparam("marker_row"))
    earlier = key > value.scalar_subquery() if scan.descending else key < value.scalar_subquery()
    return (
        sa.select(images.c.id, *list_statements.place(images.c, scan.key, dialect))
        .with_hint(images, f"FORCE INDEX (ix_images_deleted_{scan.key}_id)", "mysql")
        .where(images.c.deleted == sa.false(), earlier)
        .order_by(*_ordered(((scan.key, not scan.descending),), dialect, images.c))
        .limit(_ONE)
    )


def _in_window(shape: SearchShape, scan: Scan, part: str | None, *, is_ordered: bool) -> Any:
    rows = _rows(shape, scan, part)
    found = list_statements.among_rows(sa.select(images.c.id), rows, shape.dialect)
    found = found.where(visibility.live(images), *_matches(shape, images.c, rows.c))
    if is_ordered and shape.dialect == "sqlite":
        # PERF: see `list_statements.window`.
        return found.limit(_LIMIT)
    if not is_ordered:
        found = found.where(*_after(shape))
    return found.order_by(*_order(shape, images.c)).limit(_LIMIT)


def _rows(shape: SearchShape, scan: Scan, part: str | None, *, with_key: bool = False) -> Any:
    """Return the rows of a window as a subquery; filters by its sort key are a range of it."""
    shown = _column_filters(shape, images.c, (scan.key,))
    if scan.key == "uuid":
        return _by_uuid(shape, scan, part)
    scanned = _scanned(scan, shape.dialect)
    return list_statements.scanned(scanned, part, scan.scope, shown, with_key=with_key)


def _by_uuid(shape: SearchShape, scan: Scan, part: str | None) -> Any:
    """Return rows in the order of uuids, deleted ones among them, which nobody indexes."""
    rows = sa.select(images.c.id, images.c.uuid).with_hint(images, "FORCE INDEX (uuid)", "mysql")
    if part is not None:
        last = sa.select(_marker.c.uuid).where(_marker.c.id == sa.bindparam("marker_id"))
        value = last.scalar_subquery()
        rows = rows.where(images.c.uuid < value if scan.descending else images.c.uuid > value)
    order = images.c.uuid.desc() if scan.descending else images.c.uuid.asc()
    return rows.order_by(order).limit(_WINDOW).subquery("rows")


@functools.cache
def _scanned(scan: Scan, dialect: str) -> list_statements.Shape:
    """Return the list of version 1 whose windows a scan has: all images that are not deleted."""
    return list_statements.Shape(
        columns=(),
        has_owner=False,
        is_public=True if scan.scope == "is_public" else None,
        deleted=False,
        include_killed=True,
        filters=(scan.scope,) if scan.scope not in ("", "is_public", "owner") else (),
        is_saving=False,
        properties=0,
        odd_names=False,
        size_min=False,
        size_max=False,
        changes_since=False,
        sort_key=scan.key,
        descending=scan.descending,
        dialect=dialect,
    )


def parts(scan: Scan, dialect: str, is_null: bool) -> list[str | None]:
    """Return the parts of a scan after a place, in order."""
    if scan.key == "uuid":
        return ["rest of values"]
    return list_statements.parts(_scanned(scan, dialect), is_null)


def _records(shape: SearchShape, found: Any) -> Select:
    """Return full records, with properties and tags, of a subquery's ids, in order."""
    ids = found.subquery("page")
    columns = records.SHOWN_COLUMNS if shape.shown_only else records.COLUMNS
    return (
        sa.select(
            *(images.c[name] for name in columns),
            records.properties_of(ids.c.id),
            sa.type_coerce(records.tags_of(ids.c.id), sa.Text),
        )
        .select_from(ids.join(images, images.c.id == ids.c.id))
        .order_by(*_order(shape, images.c))
    )


# -- clauses -------------------------------------------------------------------------------------


def _matches(shape: SearchShape, row: Any, ids: Any) -> list[ColumnElement[bool]]:
    """Return all filters of the query as clauses over a row, cheap ones first."""
    found = [
        visibility.none_of(row.status, _LEFT_OUT),
        row.os_hidden.is_(sa.true()) if shape.os_hidden else visibility.not_hidden(row),
        *_column_filters(shape, row, None),
    ]
    found += [sa.or_(*_outside(row[name], number)) for number, name in enumerate(shape.outside)]
    found += [_has_tag(number, ids) for number in range(shape.tags)]
    found += [_has_property(number, empty, ids) for number, empty in enumerate(shape.properties)]
    found.append(
        search_visibility.found_by(
            shape.kind, shape.has_owner, shape.visibility, shape.member_status, row
        )
    )
    return found


def _outside(column: Any, number: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    begin, end = (sa.bindparam(f"outside_{word}_{number}") for word in ("since", "until"))
    return column < begin, column >= end


def column_of(name: str) -> str:
    """Return the name of the column that a filter or a sort key of version 2 is about."""
    return "uuid" if name == "id" else name


def _column_filters(
    shape: SearchShape, row: Any, only: tuple[str, ...] | None
) -> list[ColumnElement[bool]]:
    """Return the clauses for columns that an index may have; `only` for these if it is given."""
    found: list[ColumnElement[bool]] = []

    def wanted(name: str) -> bool:
        return only is None or name in only

    for name in shape.equal:
        column = column_of(name)
        value = sa.bindparam(f"equal_{name}")
        if wanted(column) and only and shape.dialect == "mysql" and name != "owner":
            # PERF: as in `list_statements`: MariaDB would sort by a column that is constant. The
            # index by owner goes on with the time of creation, and needs the constant.
            found += [row[column] >= value, row[column] <= value]
        elif wanted(column):
            found.append(row[column] == value)
    found += [
        row[column_of(name)].in_(sa.bindparam(f"among_{name}", expanding=True))
        for name in shape.among
        if wanted(column_of(name))
    ]
    if shape.size_min and wanted("size"):
        found.append(row.size >= sa.bindparam("size_min"))
    if shape.size_max and wanted("size"):
        found.append(row.size <= sa.bindparam("size_max"))
    for name, has_since, has_until in shape.spans:
        if has_since and wanted(name):
            found.append(row[name] >= sa.bindparam(f"since_{name}"))
        if has_until and wanted(name):
            found.append(row[name] < sa.bindparam(f"until_{name}"))
    return found


def _has_tag(number: int, ids: Any) -> ColumnElement[bool]:
    # PERF: not EXISTS; see `visibility.is_member`.
    found = (
        sa.select(_ONE)
        .where(tags.c.image_id == ids.id)
        .where(tags.c.value == sa.bindparam(f"tag_{number}"))
        .limit(_ONE)
        .scalar_subquery()
    )
    return found.is_not(None)


def _has_property(number: int, is_empty: bool, ids: Any) -> ColumnElement[bool]:
    value = properties.c.value == sa.bindparam(f"property_value_{number}")
    if is_empty:
        # Version 2 shows a null, which only version 1 can store, as an empty text.
        value = sa.or_(value, properties.c.value.is_(None))
    found = (
        sa.select(_ONE)
        .where(properties.c.image_id == ids.id)
        .where(properties.c.name == sa.bindparam(f"property_name_{number}"))
        .where(value, visibility.live(properties))
        .limit(_ONE)
        .scalar_subquery()
    )
    return found.is_not(None)


def _value(row: Any, key: str) -> Any:
    """Return what a sort key of version 2 has in a row."""
    return visibility.effective_of(row) if key == "visibility" else row[column_of(key)]


def _is_nullable(key: str) -> bool:
    return key != "visibility" and bool(images.c[column_of(key)].nullable)


def _order(shape: SearchShape, row: Any) -> list[ColumnElement[Any]]:
    return _ordered(shape.sort, shape.dialect, row)


def _ordered(
    sort: tuple[tuple[str, bool], ...], dialect: str, row: Any
) -> list[ColumnElement[Any]]:
    """Return the order of a list: nulls are smaller than values, ids decide last."""
    order: list[ColumnElement[Any]] = []
    for key, descending in sort:
        value = _value(row, key)
        term = value.desc() if descending else value.asc()
        if dialect == "postgresql" and _is_nullable(key):
            term = term.nulls_last() if descending else term.nulls_first()
        order.append(term)
    if sort[-1][0] != "id":
        order.append(row.id.desc() if sort[-1][1] else row.id.asc())
    return order


def _after(shape: SearchShape) -> list[ColumnElement[bool]]:
    """Return the clause for images behind the marker in the order of a list."""
    if not shape.marked:
        return []
    is_marker = _marker.c.id == sa.bindparam("marker_row")
    choices: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for key, descending in shape.sort:
        value = _value(images.c, key)
        other = sa.select(_value(_marker.c, key)).where(is_marker).scalar_subquery()
        choices.append(sa.and_(*same, _beyond(value, other, descending, _is_nullable(key))))
        is_same = value == other
        if _is_nullable(key):
            is_same = sa.or_(is_same, sa.and_(value.is_(None), other.is_(None)))
        same.append(is_same)
    row = sa.bindparam("marker_row")
    choices.append(sa.and_(*same, images.c.id < row if shape.ties_descend else images.c.id > row))
    return [sa.or_(*choices)]


def _beyond(
    value: Any, other: Any, descending: bool, is_nullable: bool = True
) -> ColumnElement[bool]:
    """Return the clause for a value that comes after another one in an order."""
    beyond = value < other if descending else value > other
    if not is_nullable:
        return beyond
    if descending:
        return sa.or_(beyond, sa.and_(value.is_(None), other.is_not(None)))
    return sa.or_(beyond, sa.and_(value.is_not(None), other.is_(None)))


# -- probes --------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def probe(shape: SearchShape, column: str) -> Select:
    """Return the ids of up to `window` images that an index finds by the filters of a column.

    The other filters are left out.
    """
    name = f"ix_images_deleted_{column}_id"
    order: list[Any] = [images.c[column], images.c.id]
    if column == "uuid":
        name, order = "uuid", []
    elif column in shape.among:
        # PERF: PostgreSQL would read and sort the images of all values.
        order = []
    elif column == "owner":
        name, order = "ix_images_deleted_owner_created_at_id", [images.c.created_at, images.c.id]
    statement = (
        sa.select(images.c.id)
        .with_hint(images, f"FORCE INDEX ({name})", "mysql")
        .where(*([] if column == "uuid" else [images.c.deleted == sa.false()]))
        .where(*_column_filters(shape, images.c, (column,)))
    )
    # NOTE: an order that the index has, so that no planner reads the table instead.
    return statement.order_by(*order).limit(_WINDOW)


@functools.cache
def seen(scope: str) -> Select:
    """Return the ids of up to `window` images that are public, community, or the viewer's own."""
    clauses = {
        "is_public": images.c.is_public == sa.true(),
        "visibility": images.c.visibility == sa.bindparam("filter_visibility"),
        "owner": images.c.owner == sa.bindparam("viewer"),
    }
    return (
        sa.select(images.c.id)
        .with_hint(images, f"FORCE INDEX (ix_images_deleted_{scope}_created_at_id)", "mysql")
        .where(images.c.deleted == sa.false(), clauses[scope])
        .order_by(images.c.created_at, images.c.id)
        .limit(_WINDOW)
    )


@functools.cache
def shared(member_status: str) -> Select:
    """Return the ids of up to `window` images that are shared with the viewer."""
    return probes.shared(*search_visibility.has_status(member_status))


@functools.cache
def tagged(number: int) -> Select:
    """Return the ids of up to `window` images with a tag."""
    return (
        sa.select(tags.c.image_id)
        .where(tags.c.value == sa.bindparam(f"tag_{number}"))
        .order_by(tags.c.image_id)
        .limit(_WINDOW)
    )
