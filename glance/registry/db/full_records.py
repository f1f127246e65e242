"""Read and change images as version 2 of the Images API does: by uuid, and in one delta.

Each function is one transaction. It raises ImageNotFound if the caller cannot see the image, and
Forbidden if it can but may not change it. Names of properties keep their case here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import fields, types
from glance.registry.db import (
    api,
    conversion_jobs,
    direct,
    engine,
    lenient,
    models,
    records,
    writing,
)

tags = models.image_tags
Context = identity_context.RequestContext

#: Formats say what the data is, so they stay when it is there or on its way.
_OF_DATA = ("disk_format", "container_format")
_TAGS = sa.select(tags.c.value).where(tags.c.image_id == sa.bindparam("image"))
_TOUCH = (
    models.images.update()
    .where(models.images.c.id == sa.bindparam("row_id"))
    .values(updated_at=sa.bindparam("now"))
)


def record_get(db: engine.Database, context: Context, uuid: str) -> types.StoredRecord:
    """Return the record of an image."""
    with db.look_up() as conn:
        record = records.load_full(conn, context, uuid)
    records.reveal(db, record)
    return record


def record_create(
    db: engine.Database,
    context: Context,
    values: Mapping[str, Any],
    given_tags: Collection[str] = (),
    *,
    is_repeated: bool = False,
    **limits: Any,
) -> types.StoredRecord:
    """Insert an image and return its record; `values`, `limits` and errors as `api.image_create`.

    The tags are given once each. A call that `is_repeated` returns the record that its `attempt`
    has made already, as it is now.
    """
    image = api.image_create(
        db, context, values, tags=given_tags, is_repeated=is_repeated, **limits
    )
    if is_repeated:
        return record_get(db, context, image["uuid"])
    return cast(types.StoredRecord, {**image, "tags": sorted(given_tags)})


def record_patch(
    db: engine.Database,
    context: Context,
    uuid: str,
    change: types.Change,
    *,
    is_repeated: bool = False,
    property_quota: int = 0,
    tag_quota: int = 0,
    formats: fields.Formats = fields.FORMATS,
) -> types.StoredRecord:
    """Change an image, all of `change` or nothing, and return the new record.

    `updated_at` moves if anything changes. Raises Conflict for a status that is not in
    `from_state`, and for a property of `must_exist` or `remove` that is not there; Forbidden for
    another owner, unless by an administrator, for another format of an image that has data or
    gets it, and for properties that only the service sets; Invalid if the new record breaks the
    rules; QuotaExceeded. For a call that `is_repeated`, properties to remove may be gone if
    everything else of the change is made, too.
    """

    def work(conn: Connection) -> types.StoredRecord:
        image = records.lock_own(conn, context, uuid)
        expected = change.get("from_state")
        if expected is not None and image["status"] not in expected:
            raise exception.Conflict(f"Image {uuid} is {image['status']}")
        record = _changed(context, image, change.get("set", {}), formats)
        stored = direct.fetch(conn, writing.ALL_PROPERTIES, {"image": image["id"]})
        by_name = {lenient.text(row.name): row for row in stored}
        live = {name: row.value for name, row in by_name.items() if not row.deleted}
        wanted, removed = change.get("properties", {}), change.get("remove", [])
        missing = sorted({*change.get("must_exist", ()), *removed} - live.keys())
        may_be_made = is_repeated and set(missing) <= set(removed)
        if missing and not may_be_made:
            raise exception.Conflict(f"The image has no property {missing[0]}")
        removed = [name for name in removed if name not in wanted and name in live]
        fields.check_read_only(live, wanted, removed)
        result = {name: value for name, value in {**live, **wanted}.items() if name not in removed}
        counts = fields.count_own(result), fields.count_own(live)
        records.check_quota(*counts, property_quota, "properties")
        conversion_jobs.check_filling(conn, context, image, record, live)
        now = records.utcnow()
        old: Mapping[str, Any] = image
        is_changed = any(record[name] != value for name, value in old.items())
        is_changed |= writing.change_properties(conn, image["id"], by_name, wanted, removed, now)
        now_tags, tags_differ = _set_tags(conn, image["id"], change.get("tags"), tag_quota)
        if is_changed or tags_differ:
            if missing:
                # The lost call has not made this change, so somebody else removed the property.
                raise exception.Conflict(f"The image has no property {missing[0]}")
            writing.update_image(db, conn, context, image, record)
        else:
            records.reveal(db, record)
        return cast(types.StoredRecord, {**record, "properties": result, "tags": now_tags})

    return db.transaction(work)


def _changed(
    context: Context, image: types.ImageRow, values: Mapping[str, Any], formats: fields.Formats
) -> Any:
    """Return the record of an image with new values of its fields, checked."""
    before: Mapping[str, Any] = image
    if not context.is_admin and values.get("owner", image["owner"]) != image["owner"]:
        raise exception.Forbidden("Only an administrator may give an image to another owner")
    if image["status"] != "queued":
        for name in _OF_DATA:
            if name in values and values[name] != before[name]:
                raise exception.Forbidden(f"{name} cannot be changed: the image has data")
    merged = {**before, **values}
    # NOTE: checked only if they change, so that an image with formats that are no longer allowed
    # can be changed otherwise.
    record = fields.validate(merged, formats) if values.keys() & set(_OF_DATA) else merged
    record["is_public"] = record["visibility"] == "public"
    return record


def _set_tags(
    conn: Connection, image_id: int, given: Collection[str] | None, quota: int
) -> tuple[list[str], bool]:
    """Replace the tags of an image, unless None are given; return them, and if they changed."""
    before = _tags(conn, image_id)
    if given is None or set(given) == before:
        return sorted(before), False
    records.check_quota(len(set(given)), len(before), quota, "tags")
    writing.delete_tags(conn, image_id, before - set(given))
    writing.insert_tags(conn, image_id, set(given) - before)
    return sorted(set(given)), True


def _tags(conn: Connection, image_id: int) -> set[str]:
    return {lenient.text(value) for (value,) in conn.execute(_TAGS, {"image": image_id})}


def record_set_state(
    db: engine.Database,
    context: Context,
    uuid: str,
    from_states: Collection[str],
    status: str,
    values: Mapping[str, Any] | None = None,
    *,
    storage_quota: int = 0,
) -> types.StoredRecord:
    """Take an image from one of some statuses to `status`, and return the new record.

    `values` are fields that change with it. An image that is in the status already stays as it is
    if there are none. Raises Conflict if the image is in none of `from_states` or another request
    was first, Forbidden for the return of an image that an administrator has deactivated,
    QuotaExceeded for data that exceeds `storage_quota`.
    """

    def work(conn: Connection) -> types.StoredRecord:
        image = records.lock_own(conn, context, uuid)
        before = image["status"]
        if before not in from_states:
            raise exception.Conflict(f"Image {uuid} is {before}")
        fields.check_transition(before, status)
        quarantined = _quarantine(context, image, status)
        changes = {**(values or {}), "status": status, "deactivated_by_admin": quarantined}
        old: Mapping[str, Any] = image
        record: Any = {**image, **changes}
        if any(record[name] != old[name] for name in changes):
            if status in ("saving", "active") and before not in fields.WITH_DATA:
                writing.check_storage(conn, record, storage_quota)
            writing.update_image(db, conn, context, image, record)
        else:
            records.reveal(db, record)
        found = direct.fetch(conn, writing.ALL_PROPERTIES, {"image": image["id"]})
        live = {lenient.text(row.name): row.value for row in found if not row.deleted}
        conversion_jobs.check_filling(conn, context, image, record, live)
        return cast(
            types.StoredRecord,
            {**record, "properties": live, "tags": sorted(_tags(conn, image["id"]))},
        )

    return db.transaction(work)


def _quarantine(context: Context, image: types.ImageRow, status: str) -> bool:
    """Return whether only an administrator may activate the image again in its new status.

    SECURITY: otherwise the user whom a quarantine is meant for would end it.
    """
    is_kept = bool(image["deactivated_by_admin"])
    if status == "deactivated":
        return is_kept or (context.is_admin and context.owner != image["owner"])
    if image["status"] == "deactivated" and is_kept and not context.is_admin:
        raise exception.Forbidden(
            "An administrator has deactivated the image; only one may activate it again"
        )
    return False


# -- tags ----------------------------------------------------------------------------------------


def tag_add(db: engine.Database, context: Context, uuid: str, tag: str, quota: int = 0) -> None:
    """Give an image a tag, which it may have already. Raises QuotaExceeded."""

    def change(conn: Connection, image_id: int, found: set[str]) -> bool:
        if tag in found:
            return False
        records.check_quota(len(found) + 1, len(found), quota, "tags")
        writing.insert_tags(conn, image_id, [tag])
        return True

    _change_tags(db, context, uuid, change)


def tag_remove(db: engine.Database, context: Context, uuid: str, tag: str) -> None:
    """Take a tag from an image. Raises NotFound if it does not have it."""

    def change(conn: Connection, image_id: int, found: set[str]) -> bool:
        if tag not in found:
            raise exception.NotFound("The image does not have this tag")
        writing.delete_tags(conn, image_id, [tag])
        return True

    _change_tags(db, context, uuid, change)


def _change_tags(
    db: engine.Database,
    context: Context,
    uuid: str,
    change: Callable[[Connection, int, set[str]], bool],
) -> None:
    def work(conn: Connection) -> None:
        image_id = records.lock_own(conn, context, uuid)["id"]
        if change(conn, image_id, _tags(conn, image_id)):
            conn.execute(_TOUCH, {"row_id": image_id, "now": records.utcnow()})

    db.transaction(work)
