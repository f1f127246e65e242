"""Read and change image records: each function is one transaction and returns plain dicts.

The registry application and maintenance programs call these functions. The first arguments are
always the `Database` and the caller's context, which decides what the caller may see and change.
Lists are in `image_list`, deletions in `deletion`, members in `sharing`; their functions are
exported here too, because other modules import `db.api`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection
from sqlalchemy.sql import Select

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import fields, types
from glance.registry.db import attempts, engine, ids, lenient, models, records, visibility
from glance.registry.db.deletion import (
    image_delete,
    image_postpone,
    image_restore,
    image_settle,
    image_withdraw,
)
from glance.registry.db.image_list import image_list
from glance.registry.db.sharing import (
    member_add,
    member_check,
    member_delete,
    member_images,
    member_list,
    member_replace,
)
from glance.registry.db.visibility import visible_to

__all__ = [
    "image_create",
    "image_delete",
    "image_get",
    "image_list",
    "image_postpone",
    "image_restore",
    "image_room",
    "image_settle",
    "image_update",
    "image_withdraw",
    "member_add",
    "member_check",
    "member_delete",
    "member_images",
    "member_list",
    "member_replace",
    "visible_to",
]

images, properties = models.images, models.image_properties
Context = identity_context.RequestContext

#: Defaults of a new record.
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(records.COLUMNS),
    "is_public": False,
    "protected": False,
    "min_disk": 0,
    "min_ram": 0,
    "deleted": False,
}
_CHANGEABLE = sorted(fields.WRITABLE_KEYS - {"id"})
_WRITTEN = (*_CHANGEABLE, "updated_at", "activated_at")
#: The statuses of an image whose data is not complete yet.
_FILLING = ("queued", "saving")
_ID_ATTEMPTS = 20

# PERF: SQLAlchemy analyses each new statement object again before it runs.
_INSERT = images.insert()
_INSERT_PROPERTY = properties.insert()
_UPDATE = (
    images.update()
    .where(images.c.id == sa.bindparam("row_id"))
    .where(images.c.status == sa.bindparam("row_status"))
    .values({name: sa.bindparam(f"new_{name}") for name in _WRITTEN})
    .values(
        attempt=sa.case(
            (sa.bindparam("changes_status", type_=sa.Boolean), sa.bindparam("new_attempt")),
            else_=images.c.attempt,
        )
    )
)
_UPDATE_LIVE = _UPDATE.where(visibility.live(images))
_ALL_PROPERTIES = sa.select(
    properties.c.id, properties.c.name, properties.c.value, properties.c.deleted
).where(properties.c.image_id == sa.bindparam("image"))
_SET_PROPERTY = (
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
_PURGE_PROPERTY = (
    properties.update()
    .where(properties.c.id == sa.bindparam("row_id"))
    .values(deleted=True, deleted_at=sa.bindparam("now"), updated_at=sa.bindparam("now"))
)
# What an upload has announced, or written so far, counts from its beginning.
_USED_STORAGE = (
    sa.select(sa.func.sum(images.c.size))
    .where(images.c.owner == sa.bindparam("owner"))
    .where(images.c.status.in_(("active", "saving")))
    .where(images.c.id != sa.bindparam("row_id"))
    .where(visibility.live(images))
)
# NOTE: otherwise MySQL reads the rows as they were when the transaction began.
_USED_STORAGE_NOW = _USED_STORAGE.with_for_update(read=True)
#: The owner's first image, whose row is the lock under which the storage of all is counted.
_FIRST_OF_OWNER = (
    sa.select(images.c.id)
    .where(images.c.owner == sa.bindparam("owner"))
    .order_by(images.c.id)
    .limit(1)
    .with_for_update()
)


def image_get(db: engine.Database, context: Context, image_id: int) -> types.StoredImage:
    """Return the image record. Raises ImageNotFound if the caller cannot see such an image."""
    with db.read() as conn:
        return records.reveal(db, records.load(conn, context, image_id))


def image_create(
    db: engine.Database,
    context: Context,
    values: Mapping[str, Any],
    *,
    property_quota: int = 0,
    storage_quota: int = 0,
    formats: fields.Formats = fields.FORMATS,
    attempt: str | None = None,
    is_repeated: bool = False,
) -> types.StoredImage:
    """Insert an image with its properties and return the record.

    `values` are typed (`fields.coerce`). `attempt` names what the caller is doing (see
    `glance.registry.db.attempts`); if it `is_repeated`, a record that it has created already is
    returned instead of another one. Raises Invalid for a record that breaks the rules,
    Duplicate for an id that is or was in use, QuotaExceeded for more properties than
    `property_quota`, or more bytes of the owner than `storage_quota` (no limit if not positive).
    """
    record = fields.validate({**_DEFAULTS, **values}, formats)
    record["created_at"] = record["updated_at"] = records.utcnow()
    if record["status"] == "active":
        record["activated_at"] = record["created_at"]
    given = dict(record.pop("properties", None) or {})
    records.check_quota(len(given), 0, property_quota, "properties")
    given_id = record.pop("id")
    tries = 0

    def work(conn: Connection) -> int:
        nonlocal tries
        tries += 1
        if attempt is not None and is_repeated:
            made = attempts.created_by(conn, attempt, record["status"], record["created_at"])
            if made is not None:
                records.lock_mutable(conn, context, made)
                return made
        _check_storage(conn, record, storage_quota)
        image_id: int = given_id or ids.count(conn, step_over=tries > 1)
        location = db.cipher.seal(image_id, record["location"])
        new = {"id": image_id, "location": location, "attempt": attempt}
        conn.execute(_INSERT, {**record, **new})
        if ids.is_purged(conn, image_id):
            raise exception.Duplicate(f"Image with ID {image_id} was purged")
        _insert_properties(conn, image_id, given, record["created_at"])
        return image_id

    for _ in range(_ID_ATTEMPTS):
        try:
            image_id = db.transaction(work)
            break
        except (exc.IntegrityError, exception.Duplicate) as err:
            if given_id is not None:
                raise exception.Duplicate(f"Image with ID {given_id} already exists") from err
    else:
        raise exception.ServiceUnavailable("No free image id was found; try again")
    if given_id is not None:
        ids.follow(db, image_id)
    if is_repeated:
        return image_get(db, context, image_id)
    return cast(types.StoredImage, {**record, "id": image_id, "properties": given})


def image_update(
    db: engine.Database,
    context: Context,
    image_id: int,
    values: Mapping[str, Any],
    *,
    purge_props: bool = False,
    from_state: str | None = None,
    property_quota: int = 0,
    storage_quota: int = 0,
    formats: fields.Formats = fields.FORMATS,
    attempt: str | None = None,
) -> types.StoredImage:
    """Change an image and its properties in one transaction and return the new record.

    `values` are typed and partial; properties are added or replaced, and with `purge_props` those
    not given are removed. `from_state` makes it a compare-and-set on the status; a change of the
    status that the same `attempt` has made already (see `glance.registry.db.attempts`) counts as
    made, and nothing is changed again.

    Raises ImageNotFound if the caller cannot see or may not change the image, Conflict if the
    status is not `from_state` or may not become the new one, Invalid if the merged record breaks
    the rules, QuotaExceeded when the image would get more properties than `property_quota`, or
    its owner more bytes than `storage_quota` by an upload that begins, goes on or ends.
    """

    def work(conn: Connection) -> types.StoredImage:
        image = records.lock_mutable(conn, context, image_id)
        old_status = image["status"]
        if from_state is not None and old_status != from_state:
            is_made = attempt is not None and old_status == values.get("status")
            if is_made and attempts.has_made(conn, image_id, attempt or ""):
                return records.reveal(db, records.with_properties(conn, image))
            raise exception.Conflict(f"Image {image_id} is {old_status}, not {from_state}")
        changes = {name: value for name, value in values.items() if name != "properties"}
        if changes.pop("id", None) not in (None, image_id):
            raise exception.Invalid("The id of an image cannot be changed")
        record = cast(types.StoredImage, fields.validate({**image, **changes}, formats))
        fields.check_transition(old_status, record["status"])
        if record["status"] != old_status or record["status"] == "saving":
            _check_storage(conn, record, storage_quota)
        now = record["updated_at"] = records.utcnow()
        written: Mapping[str, Any] = record
        if record["status"] == "active" and (
            old_status in _FILLING or record["checksum"] != image["checksum"]
        ):
            record["activated_at"] = now
        params = {f"new_{name}": written[name] for name in _WRITTEN}
        params.update(row_id=image_id, row_status=old_status, new_attempt=attempt)
        params["changes_status"] = record["status"] != old_status
        if "location" in changes:
            params["new_location"] = db.cipher.seal(image_id, record["location"])
        else:
            records.reveal(db, record)
        statement = _UPDATE if context.show_deleted else _UPDATE_LIVE
        if conn.execute(statement, params).rowcount != 1:
            raise exception.Conflict(f"Image {image_id} was changed by another request")
        stored = lenient.fetch(conn, _ALL_PROPERTIES, {"image": image_id})
        given = values.get("properties") or {}
        record["properties"] = _change_properties(
            conn, image_id, stored, given, purge_props, property_quota, now
        )
        return record

    return db.transaction(work)


def _check_storage(conn: Connection, record: Mapping[str, Any], quota: int) -> None:
    """Raise QuotaExceeded if the data of an image that is being filled exceeds its owner's quota.

    Images without an owner count towards no quota.
    """
    if quota <= 0 or record["owner"] is None or record["status"] not in ("saving", "active"):
        return
    conn.execute(_FIRST_OF_OWNER, {"owner": record["owner"]})
    statement = _USED_STORAGE_NOW if conn.dialect.name == "mysql" else _USED_STORAGE
    used = _used_storage(conn, statement, record)
    if used + (record["size"] or 0) > quota:
        raise exception.QuotaExceeded(
            f"{used} of the {quota} bytes that {record['owner']} may store are in use: "
            "delete images that are not needed"
        )


def _used_storage(conn: Connection, statement: Select, record: Mapping[str, Any]) -> int:
    """Return how many bytes the other images of an image's owner have."""
    other = {"owner": record["owner"], "row_id": record.get("id") or 0}
    return int(conn.execute(statement, other).scalar() or 0)


def image_room(db: engine.Database, record: Mapping[str, Any], storage_quota: int) -> int | None:
    """Return how many bytes an image may have, by what its owner's others leave of the quota.

    None means that there is no limit: for an image without an owner, or without a quota.
    """
    if storage_quota <= 0 or record["owner"] is None:
        return None
    with db.read() as conn:
        # NOTE: without a lock, because nothing depends on the number: on MySQL a lock of all rows
        # of the owner would meet those of uploads, and end in a deadlock.
        return max(0, storage_quota - _used_storage(conn, _USED_STORAGE, record))


def _change_properties(
    conn: Connection,
    image_id: int,
    stored: Sequence[Any],
    given: Mapping[str, str | None],
    purge: bool,
    quota: int,
    now: Any,
) -> dict[str, str | None]:
    """Store the properties `given` for an image and return all of its live properties.

    `stored` are the rows that it has, those of deleted properties included. A soft-deleted row is
    revived, because (image, name) is unique over deleted rows too. Stored names of old databases
    may have capitals; they count as the same names, and only one row of each stays live.
    """
    by_folded: dict[str, list[Any]] = {}
    for row in stored:
        by_folded.setdefault(lenient.text(row.name).lower(), []).append(row)
    result: dict[str, str | None] = {}
    changed, purged = [], []
    for name, rows in by_folded.items():
        by_name = {row.name: row for row in rows}
        live = [by_name[each] for each in lenient.last_first(by_name) if not by_name[each].deleted]
        # NOTE: the row that has the name, because another one could not take it.
        row = by_name.get(name) or (live or rows)[0]
        if live:
            result[name] = live[0].value
        if name in given:
            value = given[name]
            if row.deleted or row.value != value or row.name != name:
                changed.append(
                    {"row_id": row.id, "new_name": name, "new_value": value, "now": now}
                )
            live = [other for other in live if other is not row]
        if name in given or purge:
            purged += [{"row_id": other.id, "now": now} for other in live]
    new = {name: value for name, value in given.items() if name not in by_folded}
    before = len(result)
    if purge:
        result = {}
    result.update(given)
    records.check_quota(len(result), before, quota, "properties")
    _insert_properties(conn, image_id, new, now)
    if changed:
        conn.execute(_SET_PROPERTY, changed)
    deleted = sum(row.deleted for row in stored)
    records.forget_deleted(conn, properties, image_id, deleted)
    if purged:
        conn.execute(_PURGE_PROPERTY, purged)
    return result


def _insert_properties(
    conn: Connection, image_id: int, given: Mapping[str, str | None], now: Any
) -> None:
    if given:
        conn.execute(
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
