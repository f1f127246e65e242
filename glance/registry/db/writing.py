"""Write the rows of an image: its columns, its properties, and the storage that its owner uses.

What `api` and `full_records` have in common, which decide what is written. Every function works in
the transaction of its caller.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.sql import Select

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import fields, types
from glance.registry.db import direct, engine, ids, models, records, visibility

images, properties, tags = models.images, models.image_properties, models.image_tags
Context = identity_context.RequestContext

#: Defaults of a new record.
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(records.COLUMNS),
    "is_public": False,
    "visibility": "shared",
    "protected": False,
    "os_hidden": False,
    "deactivated_by_admin": False,
    "min_disk": 0,
    "min_ram": 0,
    "deleted": False,
}
#: Columns that a change may write, and those of them that it always writes: what another release
#: has left in the two columns of the visibility may differ.
_WRITTEN = (
    *sorted(fields.WRITABLE_KEYS - {"id"}),
    "updated_at",
    "activated_at",
    "visibility",
    "os_hidden",
    "deactivated_by_admin",
)
_ALWAYS_WRITTEN = frozenset({"updated_at", "is_public", "visibility"})
#: The statuses of an image whose data is not complete yet.
_FILLING = ("queued", "saving", "importing")
#: Those of an image whose bytes count towards what its owner may store.
_COUNTED = sorted(fields.WITH_DATA | {"saving"})

# PERF: SQLAlchemy analyses each new statement object again before it runs.
INSERT = images.insert()
_INSERT_PROPERTY = properties.insert()
_INSERT_TAG = tags.insert()
_DELETE_TAG = (
    tags.delete()
    .where(tags.c.image_id == sa.bindparam("image"))
    .where(tags.c.value == sa.bindparam("tag"))
)
ALL_PROPERTIES = sa.select(
    properties.c.id, properties.c.name, properties.c.value, properties.c.deleted
).where(properties.c.image_id == sa.bindparam("image"))
SET_PROPERTY = (
    properties.update()
    .where(properties.c.id == sa.bindparam("row_id"))
    .values(
        name=sa.bindparam("new_name"),
        value=sa.bindparam("new_value"),
        deleted=False,
        deleted_at=None,
        updated_at=sa.bindparam("now"),
    )
)
PURGE_PROPERTY = (
    properties.update()
    .where(properties.c.id == sa.bindparam("row_id"))
    .values(deleted=True, deleted_at=sa.bindparam("now"), updated_at=sa.bindparam("now"))
)
# What an upload has announced, or written so far, counts from its beginning.
USED_STORAGE = (
    sa.select(sa.func.sum(images.c.size))
    .where(images.c.owner == sa.bindparam("owner"))
    .where(images.c.status.in_(_COUNTED))
    .where(images.c.id != sa.bindparam("row_id"))
    .where(visibility.live(images))
)
# NOTE: otherwise MySQL reads the rows as they were when the transaction began.
_USED_STORAGE_NOW = USED_STORAGE.with_for_update(read=True)
#: The owner's first image, whose row is the lock under which the storage of all is counted.
_FIRST_OF_OWNER = (
    sa.select(images.c.id)
    .where(images.c.owner == sa.bindparam("owner"))
    .order_by(images.c.id)
    .limit(1)
    .with_for_update()
)


@functools.lru_cache(maxsize=512)
def _update(names: tuple[str, ...], is_live: bool) -> sa.sql.Update:
    """Return the statement that writes these columns of a live image, or of any one.

    PERF: a database writes each index anew that has one of the columns, whatever its value: those
    of all columns are in sixteen, and what an upload changes is in six.
    """
    statement = (
        images.update()
        .where(images.c.id == sa.bindparam("row_id"))
        .where(images.c.status == sa.bindparam("row_status"))
        .values({name: sa.bindparam(f"new_{name}") for name in names})
    )
    return statement.where(visibility.live(images)) if is_live else statement


def new_record(
    values: Mapping[str, Any], formats: fields.Formats = fields.FORMATS
) -> dict[str, Any]:
    """Return the record of an image that is created now, with a uuid, from typed values.

    `visibility` decides what `is_public` is; without it, `is_public` decides. Raises Invalid.
    """
    record = fields.validate({**DEFAULTS, **values}, formats)
    if "visibility" in values:
        record["is_public"] = record["visibility"] == "public"
    else:
        record["visibility"] = "public" if record["is_public"] else "shared"
    record["created_at"] = record["updated_at"] = records.utcnow()
    if record["status"] == "active":
        record["activated_at"] = record["created_at"]
    record["uuid"] = record["uuid"] or str(uuid.uuid4())
    return record


def insert_image(
    db: engine.Database,
    conn: Connection,
    image_id: int,
    record: Mapping[str, Any],
    attempt: str | None,
) -> None:
    """Insert the row of an image, whose location is in clear, under an id.

    Raises IntegrityError or Duplicate if another image has or had the id.
    """
    location = db.cipher.seal(image_id, record["location"])
    new = {"id": image_id, "location": location, "attempt": attempt}
    direct.insert(conn, INSERT, {**record, **new})
    if ids.is_purged(conn, image_id):
        raise exception.Duplicate(f"Image with ID {image_id} was purged")


def update_image(
    db: engine.Database,
    conn: Connection,
    context: Context,
    before: types.ImageRow,
    record: types.ImageRow,
    attempt: str | None = None,
) -> None:
    """Write the columns of a record that the transaction has locked as `before`.

    `updated_at` becomes now, and `activated_at` if the data has become complete; the location of
    `record` is in clear if it is another one than before. `attempt`, which the
    record keeps, is that of a change of the status, or of one that is refused from now on. Raises
    Conflict if another request was first.
    """
    record["updated_at"] = records.utcnow()
    if record["status"] == "active" and (
        before["status"] in _FILLING or record["checksum"] != before["checksum"]
    ):
        record["activated_at"] = record["updated_at"]
    old: Mapping[str, Any] = before
    written: dict[str, Any] = {
        name: value
        for name in _WRITTEN
        if (value := record.get(name)) != old[name] or name in _ALWAYS_WRITTEN
    }
    if attempt is not None or "status" in written:
        written["attempt"] = attempt
    if "location" in written:
        written["location"] = db.cipher.seal(before["id"], record["location"])
    else:
        records.reveal(db, record)
    statement = _update(tuple(written), not context.show_deleted)
    params = {f"new_{name}": value for name, value in written.items()}
    params.update(row_id=before["id"], row_status=before["status"])
    if direct.change(conn, statement, params) != 1:
        raise exception.Conflict(f"Image {before['id']} was changed by another request")


def check_storage(conn: Connection, record: Mapping[str, Any], quota: int) -> None:
    """Raise QuotaExceeded if the data of an image that is being filled exceeds its owner's quota.

    Images without an owner count towards no quota.
    """
    if quota <= 0 or record["owner"] is None or record["status"] not in _COUNTED:
        return
    conn.execute(_FIRST_OF_OWNER, {"owner": record["owner"]})
    statement = _USED_STORAGE_NOW if conn.dialect.name == "mysql" else USED_STORAGE
    used = used_storage(conn, statement, record)
    if used + (record["size"] or 0) > quota:
        raise exception.QuotaExceeded(
            f"{used} of the {quota} bytes that {record['owner']} may store are in use: "
            "delete images that are not needed"
        )


def used_storage(conn: Connection, statement: Select, record: Mapping[str, Any]) -> int:
    """Return how many bytes the other images of an image's owner have."""
    other = {"owner": record["owner"], "row_id": record.get("id") or 0}
    return int(conn.execute(statement, other).scalar() or 0)


def insert_properties(
    conn: Connection, image_id: int, given: Mapping[str, str | None], now: Any
) -> None:
    if given:
        direct.insert_all(
            conn,
            _INSERT_PROPERTY,
            [
                {
                    "image_id": image_id,
                    "name": name,
                    "value": value,
                    "created_at": now,
                    "updated_at": now,
                    "deleted": False,
                }
                for name, value in given.items()
            ],
        )


def change_properties(
    conn: Connection,
    image_id: int,
    stored: Mapping[str, Any],
    wanted: Mapping[str, str | None],
    removed: Collection[str],
    now: Any,
) -> bool:
    """Set the properties `wanted` and remove others; return whether that changed anything.

    `stored` are the rows of `ALL_PROPERTIES` by name, those of deleted properties too, and
    `removed` names live ones.
    """
    changed = [
        {"row_id": stored[name].id, "new_name": name, "new_value": value, "now": now}
        for name, value in wanted.items()
        if name in stored
        and (stored[name].deleted or stored[name].value != value or stored[name].name != name)
    ]
    new = {name: value for name, value in wanted.items() if name not in stored}
    insert_properties(conn, image_id, new, now)
    if changed:
        conn.execute(SET_PROPERTY, changed)
    deleted = sum(row.deleted for row in stored.values())
    records.forget_deleted(conn, properties, image_id, deleted)
    if removed:
        conn.execute(PURGE_PROPERTY, [{"row_id": stored[name].id, "now": now} for name in removed])
    return bool(new or changed or removed)


def insert_tags(conn: Connection, image_id: int, given: Collection[str]) -> None:
    """Add tags that an image does not have."""
    if given:
        rows = [{"image_id": image_id, "value": tag} for tag in given]
        direct.insert_all(conn, _INSERT_TAG, rows)


def delete_tags(conn: Connection, image_id: int, given: Collection[str]) -> None:
    """Remove tags of an image."""
    if given:
        conn.execute(_DELETE_TAG, [{"image": image_id, "tag": tag} for tag in given])
