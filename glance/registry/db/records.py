"""Load image records: what `api`, `image_list`, `deletion` and `sharing` have in common.

A record is an image mapping of `glance.image.fields` with Python datetimes. Its location has its
stored form (see `glance.image.cipher`) until `reveal` puts it in clear, which is done for every
record that leaves this package.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext import compiler
from sqlalchemy.sql import Select, functions
from sqlalchemy.sql.elements import ColumnElement

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import entity, fields, types
from glance.registry.db import direct, engine, lenient, models, visibility

images, properties, tags = models.images, models.image_properties, models.image_tags
Row = TypeVar("Row", types.ImageRow, types.StoredImage)

#: Columns of a record, in the order in which statements select them.
COLUMNS = tuple(key for key in fields.RECORD_KEYS if key != "properties")

#: Those of which version 2 of the Images API shows anything.
SHOWN_COLUMNS = tuple(
    key for key in COLUMNS if key in entity.BY_NAME or key in ("uuid", "is_public")
)

#: Keys of a record: all columns and the properties of the image.
RECORD_COLUMNS = (*COLUMNS, "properties")
#: The same with its tags, for all columns, and for those that are shown.
FULL_KEYS = (*RECORD_COLUMNS, "tags")
SHOWN_KEYS = (*SHOWN_COLUMNS, "properties", "tags")

#: How many soft-deleted properties, or members, of a live image stay in the database.
KEPT_DELETED = 256

_PROPERTIES_OF = (
    sa.select(properties.c.name, properties.c.value)
    .where(properties.c.image_id == sa.bindparam("image_id"))
    .where(visibility.live(properties))
    .order_by(properties.c.name)
)


class json_object_agg(functions.GenericFunction):  # type: ignore[misc]  # no stubs, see setup.cfg
    """Names and values of many rows as one JSON object; null or empty for no rows."""

    type = sa.JSON()
    inherit_cache = True


@compiler.compiles(json_object_agg, "sqlite")  # type: ignore[untyped-decorator]  # no stubs
def _of_sqlite(element: Any, compiling: Any, **kw: Any) -> str:
    # NOTE: it refuses bytes, which any column can hold.
    name, value = (compiling.process(clause, **kw) for clause in element.clauses)
    return f"json_group_object({name}, CAST({value} AS TEXT))"


@compiler.compiles(json_object_agg, "mysql")  # type: ignore[untyped-decorator]  # no stubs
def _of_mysql(element: Any, compiling: Any, **kw: Any) -> str:
    return f"json_objectagg({compiling.process(element.clauses, **kw)})"


def utcnow() -> datetime.datetime:
    """Return the current UTC time in the database's form: naive, with microseconds."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


@functools.cache
def _whole(caller: str, show_deleted: bool, key: str = "id") -> Select:
    """Return one statement for one row (PERF): an image with its properties.

    By uuid the image has its tags, too.
    """
    more = [] if key == "id" else [tags_of(images.c.id)]
    columns = [images.c[name] for name in COLUMNS]
    statement = (
        sa.select(*columns, properties_of(images.c.id), *more)
        .where(images.c[key] == sa.bindparam("image_id"))
        .where(visibility.visible_by_kind(caller))
    )
    return statement if show_deleted else statement.where(visibility.live(images))


@functools.cache
def _for_update(caller: str, show_deleted: bool, key: str) -> Select:
    statement = (
        sa.select(*(images.c[name] for name in COLUMNS))
        .where(images.c[key] == sa.bindparam("image_id"))
        .where(visibility.visible_by_kind(caller))
        .with_for_update()
    )
    return statement if show_deleted else statement.where(visibility.live(images))


def load(
    conn: Connection, context: identity_context.RequestContext, image_id: int
) -> types.StoredImage:
    """Return the image with its live properties. ImageNotFound if the caller may not see it."""
    statement = _whole(visibility.kind(context), context.show_deleted)
    found = lenient.fetch(conn, statement, {"image_id": image_id, **_viewer(context)})
    if not found:
        raise exception.ImageNotFound(image_id)
    record: dict[str, Any] = agreed(dict(zip(RECORD_COLUMNS, found[0], strict=True)))
    record["properties"] = lenient.fold_names(record["properties"] or {})
    return cast(types.StoredImage, record)


def load_full(
    conn: Connection, context: identity_context.RequestContext, uuid: str
) -> types.StoredRecord:
    """Return the image with this uuid, with its live properties as they are named, and its tags.

    ImageNotFound if the caller may not see it.
    """
    statement = _whole(visibility.kind(context), context.show_deleted, "uuid")
    found = lenient.fetch(conn, statement, {"image_id": uuid, **_viewer(context)})
    if not found:
        raise exception.ImageNotFound(uuid)
    record: dict[str, Any] = agreed(dict(zip(FULL_KEYS, found[0], strict=True)))
    stored = record["properties"] or {}
    record["properties"] = {lenient.text(name): value for name, value in stored.items()}
    record["tags"] = sorted(record["tags"] or ())
    return cast(types.StoredRecord, record)


def agreed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of which both columns of the visibility say the same."""
    record["visibility"] = visibility.effective(record["is_public"], record["visibility"])
    return record


def lock(
    conn: Connection, context: identity_context.RequestContext, image_id: int | str
) -> types.ImageRow:
    """Return the image without properties and lock its row until the end of the transaction.

    `image_id` is its id, or its uuid. Raises ImageNotFound if the caller may not see it.
    """
    key = "uuid" if isinstance(image_id, str) else "id"
    statement = _for_update(visibility.kind(context), context.show_deleted, key)
    found = direct.fetch(conn, statement, {"image_id": image_id, **_viewer(context)})
    if not found:
        raise exception.ImageNotFound(image_id)
    return to_row(found[0])


def to_row(values: Iterable[Any]) -> types.ImageRow:
    """Return the record whose `COLUMNS` have these values."""
    return cast(types.ImageRow, agreed(dict(zip(COLUMNS, values, strict=True))))


def lock_mutable(
    conn: Connection, context: identity_context.RequestContext, image_id: int
) -> types.ImageRow:
    """Do as `lock` does; raise ImageNotFound also if the caller may not change the image."""
    image = lock(conn, context, image_id)
    if not context.is_image_mutable(image):
        # SECURITY: an image that the caller may not change looks absent, even if it is readable.
        raise exception.ImageNotFound(image_id)
    return image


def lock_own(
    conn: Connection, context: identity_context.RequestContext, uuid: str
) -> types.ImageRow:
    """Do as `lock` does; raise Forbidden if the caller may see the image but not change it."""
    image = lock(conn, context, uuid)
    if not context.is_image_mutable(image):
        raise exception.Forbidden(f"You are not allowed to change image {uuid}")
    return image


def reveal(db: engine.Database, record: Row) -> Row:
    """Put the stored location of a record in clear; return the record."""
    record["location"] = db.cipher.open(record["id"], record["location"])
    return record


def properties_of(image_id: ColumnElement[int]) -> ColumnElement[dict[str, str | None]]:
    """Return the live properties of the image `image_id`, a column, as a column `properties`.

    PERF: this makes a page one statement and not a transaction of two: with PostgreSQL that saves
    three round trips, and a fifth of the CPU time for a list of 25.
    """
    return (
        sa.select(json_object_agg(properties.c.name, properties.c.value))
        .where(properties.c.image_id == image_id)
        .where(visibility.live(properties))
        .scalar_subquery()
        .label("properties")
    )


def tags_of(image_id: ColumnElement[int]) -> ColumnElement[dict[str, str] | None]:
    """Return the tags of the image `image_id`, a column, as names of a column `tags`."""
    # NOTE: an object, because of arrays MariaDB knows only those that it builds out of text.
    return (
        sa.select(json_object_agg(tags.c.value, sa.literal_column("'1'")))
        .where(tags.c.image_id == image_id)
        .scalar_subquery()
        .label("tags")
    )


def with_properties(conn: Connection, record: types.ImageRow) -> types.StoredImage:
    """Return a record with its live properties."""
    found = direct.fetch(conn, _PROPERTIES_OF, {"image_id": record["id"]})
    properties_found = lenient.fold_names({row.name: row.value for row in found})
    return {**record, "properties": properties_found}


def forget_deleted(conn: Connection, table: sa.Table, image_id: int, count: int) -> None:
    """Remove the soft-deleted rows of an image if it is live and `count` of them are too many.

    Otherwise a caller could add and remove names for ever, and each request would take longer.
    """
    if count > KEPT_DELETED:
        is_live = sa.exists().where(images.c.id == image_id).where(visibility.live(images))
        rows = table.delete().where(table.c.image_id == image_id).where(is_live)
        conn.execute(rows.where(table.c.deleted == sa.true()))


def check_quota(count: int, before: int, quota: int, what: str) -> None:
    """Raise QuotaExceeded for growth beyond a quota; existing items may stay.

    A quota that is not positive means no limit.
    """
    if 0 < quota < count and count > before:
        raise exception.QuotaExceeded(
            f"The image would have {count} {what}; at most {quota} are allowed"
        )


def _viewer(context: identity_context.RequestContext) -> dict[str, Any]:
    # An administrator's statements have no parameters for the caller.
    return {} if context.is_admin else visibility.viewer(context)
