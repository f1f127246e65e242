"""The statements of lists, each bounded by the number of rows that it may read.

`glance.registry.db.image_list` says which one is run when. Values are bound later, so that a
statement is built once for each `Shape`.

An index has the order `(sort key, id)` among images that are equal in the columns before. Such a
part of an index is called a *segment* here. A page is merged from the beginnings of segments.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.sql import Select
from sqlalchemy.sql.elements import ColumnElement

from glance.image import fields
from glance.registry.db import lenient, models, probes, records, visibility

images, properties = models.images, models.image_properties

_marker = images.alias("marker")
_other = properties.alias("other")
_LIMIT = sa.bindparam("page_limit", type_=sa.Integer)
_WINDOW = sa.bindparam("window", type_=sa.Integer)
_VIEWER = sa.bindparam("viewer")
_ONE = sa.literal_column("1")


#: Columns by which images are indexed, for one value each, in the order of their creation.
SCOPES = ("status", "disk_format", "container_format")


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Everything in a query that changes the text of its statements."""

    columns: tuple[str, ...]
    has_owner: bool
    is_public: bool | None
    deleted: bool | None
    include_killed: bool
    filters: tuple[str, ...]
    is_saving: bool
    properties: int
    odd_names: bool
    size_min: bool
    size_max: bool
    changes_since: bool
    sort_key: str
    descending: bool
    dialect: str
    #: On SQLite, `properties` are the text of a JSON object and not that object.
    has_text: bool = False

    @property
    def scopes(self) -> tuple[str, ...]:
        """Those of SCOPES that have one value."""
        return SCOPES[1:] if self.is_saving else SCOPES

    @property
    def has_filters(self) -> bool:
        return bool(
            self.filters or self.properties or self.size_min or self.size_max or self.changes_since
        )

    @property
    def deleted_values(self) -> tuple[bool, ...]:
        """The values of the first column of almost every index."""
        return (False, True) if self.deleted is None else (self.deleted,)


@functools.cache
def marker(caller: str, sort_key: str, live_only: bool, dialect: str) -> Select:
    """Return the statement that finds whether the marker's value is null, and the value.

    The value is not read from SQLite: see `_after_marker`.
    """
    statement = (
        sa.select(*place(images.c, sort_key, dialect))
        .where(images.c.id == sa.bindparam("marker_id"))
        .where(visibility.visible_by_kind(caller))
    )
    return statement.where(visibility.live(images)) if live_only else statement


def parts(shape: Shape, is_null: bool) -> list[str | None]:
    """Return the parts of the list after the marker, in order; `values` and `nulls` are whole.

    `is_null` says whether the marker's value is null. PERF: each part is a range of an index; for
    all of them at once no database uses one.
    """
    if is_null:
        return ["rest of nulls"] if shape.descending else ["rest of nulls", "values"]
    if shape.descending and images.c[shape.sort_key].nullable:
        return ["rest of values", "nulls"]
    return ["rest of values"]


# -- pages ---------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def whole(shape: Shape, part: str | None) -> Select:
    """Return the page of a list without filters that is one segment, or two to be merged.

    It reads no more rows than the page has, killed images apart.
    """
    segments = len(shape.deleted_values) * len(_after_marker(shape, part))
    if shape.dialect == "sqlite" and segments == 1:
        # PERF: SQLite would sort the rows of a subquery once more.
        columns = _record_columns(shape, images.c, images.c.id)
        only: Select = _merged(
            shape, part, _scope(shape), _LIMIT, _is_shown(shape), columns=columns
        )
        return only
    needed = _carried(shape)
    page = _merged(shape, part, _scope(shape), _LIMIT, _is_shown(shape), needed)
    return _records(shape, page)


@functools.lru_cache(maxsize=256)
def visible(shape: Shape, part: str | None) -> Select:
    """Return the page of a list without filters, merged from what a user may see.

    These are the public images and the user's own, each in the order of an index, and those that
    are shared with the user, of whom there may be few only: they are all read and sorted.
    """
    found = [
        _merged(shape, part, scope, _LIMIT, _is_shown(shape)) for scope in ("owner", "is_public")
    ]
    shared = (
        sa.select(*_columns(shape, images.c))
        .where(probes.is_among(images.c.id, shape.dialect))
        .where(*_is_live(shape), *_is_shown(shape), visibility.is_shared(images.c))
        .where(sa.or_(*_after_marker(shape, part)))
    )
    found.append(_limited(shape, shared, _LIMIT))
    return _records(shape, _limited(shape, _union(found, sa.union), _LIMIT))


@functools.lru_cache(maxsize=512)
def window(shape: Shape, part: str | None, is_first: bool) -> Select:
    """Return the page of those images that match among the first `window` in the order.

    In windows after the first, matches are rare, as are private images.
    """
    if shape.dialect == "mysql":
        return _records(shape, _limited(shape, _looked_up(shape, part), _LIMIT))
    if shape.dialect == "sqlite" and shape.properties:
        return _records(shape, _looked_up(shape, part).limit(_LIMIT))
    is_frequent = is_first and shape.is_public is not False
    carried = _carried(shape) if is_frequent else _key(shape)
    rows = _window(shape, part, carried)
    matching = sa.select(*(rows.c[name] for name in carried))
    matching = matching.where(*_matches(shape, rows.c))
    if shape.dialect == "sqlite":
        # PERF: SQLite does not know that the window is in order already, and with an order would
        # read it to the end. It runs such a subquery as a co-routine, row by row; a test asserts
        # this.
        return _records(shape, matching.limit(_LIMIT))
    return _records(shape, _limited(shape, matching, _LIMIT))


def _looked_up(shape: Shape, part: str | None) -> Select:
    """Return the places of those images that match in a window, each looked up by its id.

    PERF: MySQL keeps a window in a table, which takes longer the more a row has, and text at its
    full length. And of images that do not have a property, no row is needed.
    """
    rows = scanned(shape, part, _scope(shape))
    return among_rows(sa.select(*_columns(shape, images.c)), rows, shape.dialect).where(
        *_matches(shape, images.c, rows.c)
    )


def scanned(
    shape: Shape,
    part: str | None,
    scope: str,
    shown: Iterable[ColumnElement[bool]] = (),
    *,
    with_key: bool = False,
) -> Any:
    """Return the rows of a window, in order, as a subquery that has their ids.

    `scope` is a column before the sort key in the index, or empty; only `shown` ones count.
    `with_key` says that the sort key is needed, too.
    """
    segments = len(shape.deleted_values) * len(_after_marker(shape, part))
    is_plain = segments == 1 and shape.dialect == "mysql" and not with_key
    needed = ("id",) if is_plain else _key(shape)
    return _merged(shape, part, scope, _WINDOW, shown, needed).subquery("rows")


def among_rows(selected: Select, rows: Any, dialect: str) -> Select:
    """Return the selection from those images whose ids `rows` has, looked up one by one."""
    if dialect == "mysql":
        selected = selected.prefix_with("STRAIGHT_JOIN")
    return selected.select_from(rows.join(images, images.c.id == rows.c.id))


@functools.lru_cache(maxsize=512)
def among(shape: Shape, part: str | None) -> Select:
    """Return the page of those images that match among the `ids`."""
    matching = (
        sa.select(*_columns(shape, images.c))
        .where(probes.is_among(images.c.id, shape.dialect))
        .where(*_is_live(shape), *_matches(shape, images.c))
        .where(sa.or_(*_after_marker(shape, part)))
    )
    return _records(shape, _limited(shape, matching, _LIMIT))


@functools.lru_cache(maxsize=512)
def end_of_window(shape: Shape, part: str | None) -> Select:
    """Return the id and the place of the last row of a window; no row if it has fewer rows."""
    return last_of(shape, scanned(shape, part, _scope(shape), with_key=True))


def last_of(shape: Shape, rows: Any) -> Select:
    """Return the id and the place of the last of the `window` rows of a subquery."""
    # PERF: without further columns, for which the rows of the table would be read.
    return (
        sa.select(rows.c.id, *place(rows.c, shape.sort_key, shape.dialect))
        .order_by(*_order(shape, rows.c))
        .limit(_ONE)
        .offset(sa.bindparam("window_end", type_=sa.Integer))
    )


def _records(shape: Shape, page: Any) -> Select:
    """Return the records of a page of ids, or of whole rows, in order."""
    found = page.subquery("page")
    is_whole = set(shape.columns) - {"properties"} <= set(found.c.keys())
    row = found.c if is_whole else images.c
    columns = _record_columns(shape, row, found.c.id)
    source = found if is_whole else found.join(images, images.c.id == found.c.id)
    return sa.select(*columns).select_from(source).order_by(*_order(shape, found.c))


def _record_columns(shape: Shape, row: Any, image_id: Any) -> list[ColumnElement[Any]]:
    columns = [row[name] for name in shape.columns if name != "properties"]
    if "properties" in shape.columns:
        found = records.properties_of(image_id)
        is_text = shape.has_text and shape.dialect == "sqlite"
        columns.append(sa.type_coerce(found, sa.String) if is_text else found)
    return columns


def _carried(shape: Shape) -> tuple[str, ...]:
    """Return the columns that a segment hands to the page.

    PERF: with those of the record, no row is looked up twice. But MySQL keeps a segment in a
    table, which is on disk if a column has long text; and two segments have to be sorted.
    """
    if shape.dialect == "mysql" or shape.deleted is None:
        return _key(shape)
    return tuple(sorted({*_key(shape), *shape.columns} - {"properties"}))


def _window(shape: Shape, part: str | None, carried: Iterable[str]) -> Any:
    needed = {*carried, *shape.filters} | (set() if shape.include_killed else {"status"})
    needed |= set() if shape.is_public is None else {"is_public", "os_hidden"}
    needed |= {"owner", "visibility"} if shape.is_public and shape.has_owner else set()
    needed |= {"size"} if shape.size_min or shape.size_max else set()
    needed |= {"updated_at"} if shape.changes_since else set()
    return _merged(shape, part, _scope(shape), _WINDOW, [], sorted(needed)).subquery("rows")


def _merged(
    shape: Shape,
    part: str | None,
    scope: str,
    limit: Any,
    shown: Iterable[ColumnElement[bool]],
    needed: Iterable[str] = (),
    columns: Iterable[ColumnElement[Any]] | None = None,
) -> Any:
    """Return the first `limit` rows, in order, of the segments with one value in column `scope`.

    They have the columns `needed` of the table, or else those given. Filters by the sort key
    itself are a range of a segment.
    """
    # PERF: of nulls by id only: MariaDB would sort them by the column that is null.
    is_null = shape.dialect == "mysql" and part in ("nulls", "rest of nulls")
    order = dataclasses.replace(shape, sort_key="id") if is_null else shape
    segments = [
        _limited(
            order,
            sa.select(*(columns or [images.c[name] for name in needed or _key(shape)]))
            .with_hint(images, _hint(scope, shape.sort_key), "mysql")
            .where(images.c.deleted == _flag(deleted))
            .where(*_in_scope(shape, scope))
            .where(*_column_filters(shape, images.c, (shape.sort_key,)))
            .where(after, *shown),
            limit,
            images.c,
        )
        for deleted in shape.deleted_values
        for after in _after_marker(shape, part)
    ]
    if len(segments) == 1:
        return segments[0]
    merged = _union(segments, sa.union_all)
    if shape.dialect == "sqlite" and len(shape.deleted_values) == 1:
        # PERF: the segments follow one another; see `window`.
        return merged.limit(limit)
    return _limited(shape, merged, limit)


def _union(segments: Iterable[Any], union: Any) -> Any:
    """Return the rows of several statements; SQLite takes an order and a limit in braces only."""
    merged = union(*(sa.select(segment.subquery()) for segment in segments))
    return sa.select(merged.subquery())


def _key(shape: Shape) -> tuple[str, ...]:
    """Return the columns by which a list is ordered."""
    return ("id",) if shape.sort_key == "id" else (shape.sort_key, "id")


def _columns(shape: Shape, row: Any) -> list[ColumnElement[Any]]:
    return [row[name] for name in _key(shape)]


def _limited(shape: Shape, statement: Any, limit: Any, columns: Any = None) -> Any:
    """Return the first `limit` rows, in the order of `columns`: by default of those it selects."""
    columns = statement.selected_columns if columns is None else columns
    return statement.order_by(*_order(shape, columns)).limit(limit)


# -- clauses -------------------------------------------------------------------------------------


def _flag(value: bool) -> ColumnElement[bool]:
    return sa.true() if value else sa.false()


def _is_live(shape: Shape) -> list[ColumnElement[bool]]:
    """Return the clause for `deleted` where no index shall be used for it."""
    if shape.deleted is None:
        return []
    return [visibility.live(images) if not shape.deleted else images.c.deleted.is_(sa.true())]


def _is_shown(shape: Shape) -> list[ColumnElement[bool]]:
    found = [] if shape.include_killed else [images.c.status != "killed"]
    return found if shape.is_public is None else [*found, visibility.not_hidden(images.c)]


def _scope(shape: Shape) -> str:
    """Return what of the query the longest index for this order has before the sort key."""
    if shape.sort_key != "created_at":
        return ""
    for name in shape.scopes:
        if name in shape.filters:
            return name
    is_plain = shape.is_public is False or (shape.is_public and not shape.has_owner)
    return "is_public" if is_plain else ""


def _in_scope(shape: Shape, scope: str) -> list[ColumnElement[bool]]:
    if scope == "is_public":
        return [images.c.is_public == _flag(shape.is_public is True)]
    if scope == "owner":
        return [images.c.owner == _VIEWER]
    return _column_filters(shape, images.c, (scope,))


def _hint(scope: str, sort_key: str) -> str:
    """Return the words by which MySQL uses the index that is meant.

    PERF: it estimates the length of ranges and not the order of rows, so that it would rather read
    half the table by its primary key and sort it.
    """
    columns = dict.fromkeys(("deleted", scope, sort_key, "id"))
    return f"FORCE INDEX (ix_images_{'_'.join(filter(None, columns))})"


def _column_filters(shape: Shape, row: Any, names: Iterable[str]) -> list[ColumnElement[bool]]:
    found = [_has_value(shape, row, name) for name in shape.filters if name in names]
    if shape.size_min and "size" in names:
        found.append(row.size >= sa.bindparam("size_min"))
    if shape.size_max and "size" in names:
        found.append(row.size <= sa.bindparam("size_max"))
    if shape.changes_since and "updated_at" in names:
        found.append(row.updated_at > sa.bindparam("changes_since"))
    return found


def _has_value(shape: Shape, row: Any, name: str) -> ColumnElement[bool]:
    if name == "status" and shape.is_saving:
        return cast(ColumnElement[bool], row.status.in_(fields.SAVING))
    return _equals(shape, row[name], sa.bindparam(f"filter_{name}"))


def _matches(shape: Shape, row: Any, ids: Any = None) -> list[ColumnElement[bool]]:
    """Return all filters of the query as clauses over a row, cheap ones first.

    `ids` has the id of the row, if it is known before the row is looked up.
    """
    ids = row if ids is None else ids
    found = [] if shape.include_killed else [row.status != "killed"]
    found += _column_filters(shape, row, (*shape.filters, "size", "updated_at"))
    found += [_has_property(number, shape, ids) for number in range(shape.properties)]
    found.append(visibility.listed_for(shape.is_public, shape.has_owner, row))
    return found


def _has_property(number: int, shape: Shape, row: Any) -> ColumnElement[bool]:
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
    # PERF: not EXISTS; see `visibility.is_member`.
    found = (
        sa.select(_ONE)
        .where(properties.c.image_id == row.id)
        .where(named)
        .where(properties.c.value == sa.bindparam(f"property_value_{number}"))
        .where(visibility.live(properties))
        .limit(_ONE)
        .scalar_subquery()
    )
    return found.is_not(None)


def _equals(shape: Shape, column: Any, value: Any) -> ColumnElement[bool]:
    if shape.dialect == "mysql" and column.name == shape.sort_key:
        # PERF: MariaDB would sort by the column after `=` with a text of another collation.
        return sa.and_(column >= value, column <= value)
    return cast(ColumnElement[bool], column == value)


def place(row: Any, sort_key: str, dialect: str) -> tuple[ColumnElement[Any], ...]:
    """Return whether the sort value of a row is null, and the value, which SQLite keeps."""
    key = row[sort_key]
    return key.is_(None), sa.null() if dialect == "sqlite" else lenient.raw(key, dialect)


def _after_marker(shape: Shape, part: str | None) -> list[ColumnElement[bool]]:
    """Return clauses, each a range of an index, for rows in a part of the order."""
    key, marker_id = images.c[shape.sort_key], sa.bindparam("marker_id")
    if part is None:
        return [sa.true()]
    if part == "nulls":
        return [key.is_(None)]
    if part == "values":
        return [key.is_not(None)]
    further = images.c.id < marker_id if shape.descending else images.c.id > marker_id
    if shape.sort_key == "id":
        return [further]
    if part == "rest of nulls":
        return [sa.and_(key.is_(None), further)]
    # NOTE: as it is stored, whether or not it can be read. Nothing else passes on what SQLite can
    # hold; for the others it is a constant, which their planners need.
    value = sa.bindparam("marker_value", type_=sa.String)
    if shape.dialect == "sqlite":
        found = sa.select(_marker.c[shape.sort_key]).where(_marker.c.id == marker_id)
        value = found.scalar_subquery()
    if shape.dialect == "postgresql":
        place, marked = sa.tuple_(key, images.c.id), sa.tuple_(value, marker_id)
        return [place < marked if shape.descending else place > marked]
    # PERF: two ranges, one after the other. For a comparison of pairs SQLite and MySQL would read
    # all images with the marker's key, which for a status are almost all.
    beyond = key < value if shape.descending else key > value
    return [sa.and_(_equals(shape, key, value), further), beyond]


def _order(shape: Shape, columns: Any) -> list[ColumnElement[Any]]:
    order: list[ColumnElement[Any]] = []
    for name in _key(shape):
        term = columns[name].desc() if shape.descending else columns[name].asc()
        if shape.dialect == "postgresql" and images.c[name].nullable:
            term = term.nulls_last() if shape.descending else term.nulls_first()
        order.append(term)
    return order


# -- probes --------------------------------------------------------------------------------------

#: Filters that an index finds, by the name under which `probe` knows them, and their columns.
RANGES = {"size": "size", "changes_since": "updated_at"}


@functools.lru_cache(maxsize=256)
def probe(shape: Shape, driver: str, deleted: bool) -> Select:
    """Return the ids of up to `window` images that an index finds for one filter.

    They include all images that match the filter and are, or are not, deleted; the other filters
    are left out. The order is that of the index, so that no planner reads the table instead.
    """
    scope = {"public": "is_public", "private": "is_public", "owned": "owner"}.get(driver, "")
    sort_key = "created_at" if scope else RANGES.get(driver, driver)
    alike = dataclasses.replace(shape, sort_key=sort_key)
    clauses = _in_scope(shape, scope) if scope else _column_filters(alike, images.c, (sort_key,))
    return (
        sa.select(images.c.id)
        .with_hint(images, _hint(scope, sort_key), "mysql")
        .where(images.c.deleted == _flag(deleted))
        .where(*clauses)
        .order_by(*_order(alike, images.c))
        .limit(_WINDOW)
    )
