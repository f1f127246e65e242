"""Repair what other programs and old releases have left, so that rows are read as meant.

Times get the one form that glance writes, properties their names in lower case. What cannot be
repaired stays, and is reported in one line of the log for each row.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.image import fields
from glance.registry.db import lenient, records
from glance.registry.db.migrate_repo import operations, schema

LOG = logging.getLogger("glance.registry.db.migration")

BOOKKEEPING = ("created_at", "updated_at", "deleted_at")
TIMES: dict[str, tuple[str, ...]] = {
    "images": BOOKKEEPING,
    "image_properties": BOOKKEEPING,
    "image_members": BOOKKEEPING,
    "scrub_queue": ("created_at", "due_at", "lease_until"),
}
COUNTS = ("size", "min_disk", "min_ram")
#: Columns of text that are no part of a unique key.
TEXTS: dict[str, tuple[str, ...]] = {
    "images": ("name", "location", "disk_format", "container_format", "checksum", "owner"),
    "image_properties": ("value",),
}
#: SQL for values that have another form than glance writes, or that Python cannot read.
ODD_TIME = {
    "sqlite": "{0} IS NOT NULL AND (typeof({0}) <> 'text'"
    " OR {0} NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
    " [0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]'"
    " OR coalesce(strftime('%Y-%m-%d', {0}, '+0 days'), '') <> substr({0}, 1, 10))",
    "mysql": "CAST({0} AS CHAR) LIKE '%-00%' OR CAST({0} AS CHAR) LIKE '0000-%'",
    "postgresql": "NOT isfinite({0}) OR {0} < '0001-01-01' OR {0} >= '10000-01-01'",
}
BATCH = 1000


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        tables = schema.tables(18)
        for name, times in TIMES.items():
            _repair_times(conn, tables[name], times)
        _repair_numbers(conn, tables["images"])
        if conn.dialect.name == "sqlite":
            for name, texts in TEXTS.items():
                _repair_texts(conn, tables[name], texts)
        _repair_statuses(conn, tables["images"])
        _fold_names(conn, tables["image_properties"])
        operations.set_indexes(conn, tables["image_properties"], 18)


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.set_indexes(conn, schema.image_properties(17), 17)


def _report(image_id: int, problem: str) -> None:
    LOG.warning("Image %d: %s", image_id, problem)


def _rows(
    conn: Connection, table: sa.Table, columns: tuple[str, ...], odd: str, *more: str
) -> Iterator[Any]:
    """Yield the rows where a column is odd: keys, the columns as they are stored, and `more`."""
    keys = list(table.primary_key.columns)
    raw = [lenient.raw(table.c[name], conn.dialect.name).label(name) for name in columns]
    names = [name for name in more if name not in table.primary_key.columns]
    query = sa.select(*keys, *raw, *(table.c[name] for name in names)).order_by(*keys)
    condition = sa.or_(*(sa.text(f"({odd.format(name)})") for name in columns))
    # NOTE: in pages, because rows that cannot be repaired are found again.
    last = None
    while True:
        page = query.where(condition).limit(BATCH)
        if last is not None:
            page = page.where(sa.tuple_(*keys) > sa.tuple_(*last))
        found = lenient.fetch(conn, page, {})
        yield from found
        if len(found) < BATCH:
            return
        last = tuple(found[-1])[: len(keys)]


def _set(conn: Connection, table: sa.Table, row: Any, values: dict[str, Any]) -> None:
    if values:
        mine = (key == row[key.name] for key in table.primary_key.columns)
        conn.execute(table.update().where(*mine).values(values))


def _repair_times(conn: Connection, table: sa.Table, columns: tuple[str, ...]) -> None:
    is_queue = table.name == "scrub_queue"
    owner = "id" if table.name == "images" else "image_id"
    more = (owner,) if is_queue else (owner, "deleted")
    for row in _rows(conn, table, columns, ODD_TIME[conn.dialect.name], *more):
        read = {name: lenient.time(row[name]) for name in columns}
        lost = [name for name in columns if read[name] is None and row[name] is not None]
        fixed = _queue_times(lost) if is_queue else _times(read, lost, bool(row.deleted))
        _set(conn, table, row, {**{n: t for n, t in read.items() if t is not None}, **fixed})
        if left := [name for name in lost if name not in fixed]:
            place = "" if table.name == "images" else f" of {table.name}"
            _report(row[owner], f"correct {' and '.join(left)}{place}, which cannot be read")


def _times(
    read: dict[str, datetime.datetime | None], lost: list[str], deleted: bool
) -> dict[str, datetime.datetime | None]:
    """Return what to write for times that cannot be read, from the others of the row."""
    known = [time for time in read.values() if time is not None]
    if not known:
        # A row that is not deleted has no such time; then nothing is lost.
        return {} if deleted or "deleted_at" not in lost else {"deleted_at": None}
    created = read["created_at"] or min(known)
    changed = read["updated_at"] or created
    whole = {"created_at": created, "updated_at": changed}
    whole_or_none = {**whole, "deleted_at": changed if deleted else None}
    return {name: whole_or_none[name] for name in lost}


def _queue_times(lost: list[str]) -> dict[str, datetime.datetime | None]:
    now = records.utcnow()
    return {name: None if name == "lease_until" else now for name in lost}


def _repair_numbers(conn: Connection, images: sa.Table) -> None:
    odd = "{0} < 0"
    if conn.dialect.name == "sqlite":
        odd += " OR {0} IS NOT NULL AND typeof({0}) <> 'integer'"
    for row in _rows(conn, images, COUNTS, odd):
        values = {}
        for name in COUNTS:
            number = lenient.whole_number(row[name])
            if number is None and (name != "size" or row[name] is not None):
                number = None if name == "size" else 0
                now = "not set" if number is None else number
                _report(row.id, f"{name} was no number; now it is {now}")
            values[name] = number
        _set(conn, images, row, values)


def _repair_texts(conn: Connection, table: sa.Table, columns: tuple[str, ...]) -> None:
    for row in _rows(conn, table, columns, "typeof({0}) = 'blob'"):
        _set(conn, table, row, {name: lenient.text(row[name]) for name in columns})


def _repair_statuses(conn: Connection, images: sa.Table) -> None:
    for (status,) in lenient.fetch(conn, sa.select(images.c.status).distinct(), {}):
        known = lenient.text(status).strip().lower()
        if status in fields.STATUSES:
            continue
        having = images.c.status == sa.bindparam("old", status, sa.String)
        if known in fields.STATUSES:
            conn.execute(images.update().where(having).values(status=known))
            continue
        for image_id in conn.execute(sa.select(images.c.id).where(having)).scalars():
            _report(image_id, "correct its status, which is unknown")


def _fold_names(conn: Connection, properties: sa.Table) -> None:
    """Give properties names in lower case; of names that differ in case only, keep one."""
    odd: dict[str, list[str]] = {}
    for (name,) in lenient.fetch(conn, sa.select(properties.c.name).distinct(), {}):
        folded = lenient.text(name).lower()
        if name != folded:
            odd.setdefault(folded, []).append(name)
    columns = [properties.c[name] for name in ("id", "image_id", "name", "deleted")]
    for folded, names in odd.items():
        having = sa.select(*columns).where(properties.c.name.in_([folded, *names]))
        for image_ids in _images_with(conn, properties, names):
            by_image: dict[int, dict[str, Any]] = {}
            for row in lenient.fetch(conn, having.where(properties.c.image_id.in_(image_ids)), {}):
                by_image.setdefault(row.image_id, {})[row.name] = row
            for rows in by_image.values():
                _fold_one(conn, properties, folded, rows)


def _images_with(conn: Connection, properties: sa.Table, names: list[str]) -> Iterator[list[int]]:
    """Yield the ids of images with a property of one of these names, in pages."""
    image_id = properties.c.image_id
    query = sa.select(image_id).distinct().where(properties.c.name.in_(names)).order_by(image_id)
    # NOTE: in pages, as what was deleted keeps its name and is found again.
    page = conn.execute(query.limit(BATCH)).scalars().all()
    while page:
        yield page
        page = conn.execute(query.where(image_id > page[-1]).limit(BATCH)).scalars().all()


def _fold_one(conn: Connection, properties: sa.Table, folded: str, rows: dict[str, Any]) -> None:
    """Rename the property of one image that counts to `folded`, and delete the others."""
    ordered = [rows[name] for name in lenient.last_first(rows)]
    live = [row for row in ordered if not row.deleted]
    for row in live[1:]:
        now = records.utcnow()
        _set(conn, properties, row, {"deleted": True, "deleted_at": now, "updated_at": now})
        _report(
            row.image_id,
            f"property {row.name!r} was removed, because {folded!r} is the same name",
        )
    kept = (live or ordered)[0]
    if kept.name != folded:
        if folded in rows:
            # It is deleted, and keeps the name from the other one.
            conn.execute(properties.delete().where(properties.c.id == rows[folded].id))
        _set(conn, properties, kept, {"name": folded})
