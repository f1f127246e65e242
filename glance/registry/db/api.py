"""Read and change image records: each function is one transaction and returns plain dicts.

The registry application and maintenance programs call these functions. The first arguments are
always the `Database` and the caller's context, which decides what the caller may see and change.
Lists are in `image_list`, deletions in `deletion`, members in `sharing`; their functions are
exported here too, because other modules import `db.api`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import fields, types, uploads
from glance.image import headers as image_headers
from glance.registry.db import (
    attempts,
    conversion_jobs,
    direct,
    engine,
    ids,
    lenient,
    models,
    records,
    visibility,
    writing,
)
from glance.registry.db.deletion import (
    image_delete,
    image_postpone,
    image_restore,
    image_settle,
    image_withdraw,
)
from glance.registry.db.image_list import image_list, public_page
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
    "public_page",
    "visible_to",
]

images = models.images
Context = identity_context.RequestContext

_ID_ATTEMPTS = 20
_HAS_UUID = sa.select(images.c.id).where(images.c.uuid == sa.bindparam("uuid"))


def image_get(db: engine.Database, context: Context, image_id: int) -> types.StoredImage:
    """Return the image record. Raises ImageNotFound if the caller cannot see such an image."""
    with db.look_up() as conn:
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
    tags: Collection[str] = (),
    tag_quota: int = 0,
) -> types.StoredImage:
    """Insert an image with its properties and tags, and return the record.

    `values` are typed (`fields.coerce`). `visibility` decides what `is_public` is; without it,
    `is_public` decides. `attempt` names what the caller is doing (see
    `glance.registry.db.attempts`); if it `is_repeated`, a record that it has created already is
    returned instead of another one. Raises Invalid for a record that breaks the rules,
    Duplicate for an id or a uuid that is or was in use, QuotaExceeded for more properties than
    `property_quota`, more tags than `tag_quota`, or more bytes of the owner than `storage_quota`
    (no limit if not positive), Forbidden for properties that only the service sets.
    """
    record = writing.new_record(values, formats)
    given = dict(record.pop("properties", None) or {})
    fields.check_read_only({}, given)
    records.check_quota(len(given), 0, property_quota, "properties")
    records.check_quota(len(tags), 0, tag_quota, "tags")
    given_id, given_uuid = record.pop("id"), values.get("uuid")
    tries = 0

    def work(conn: Connection) -> int:
        nonlocal tries
        tries += 1
        if attempt is not None and is_repeated:
            made = attempts.created_by(conn, attempt, record["status"], record["created_at"])
            if made is not None:
                records.lock_mutable(conn, context, made)
                return made
        writing.check_storage(conn, record, storage_quota)
        image_id: int = given_id or ids.count(conn, step_over=tries > 1)
        writing.insert_image(db, conn, image_id, record, attempt)
        if given_uuid is not None and ids.is_purged_uuid(conn, given_uuid):
            raise exception.Duplicate(f"Image with ID {given_uuid} was purged")
        writing.insert_properties(conn, image_id, given, record["created_at"])
        writing.insert_tags(conn, image_id, tags)
        return image_id

    for _ in range(_ID_ATTEMPTS):
        try:
            image_id = db.transaction(work)
            break
        except (exc.IntegrityError, exception.Duplicate) as err:
            if given_id is not None:
                raise exception.Duplicate(f"Image with ID {given_id} already exists") from err
            if given_uuid is not None and _is_taken(db, given_uuid):
                raise exception.Duplicate(f"Image with ID {given_uuid} already exists") from err
    else:
        raise exception.ServiceUnavailable("No free image id was found; try again")
    if given_id is not None:
        ids.follow(db, image_id)
    if is_repeated:
        return image_get(db, context, image_id)
    return cast(types.StoredImage, {**record, "id": image_id, "properties": given})


def _is_taken(db: engine.Database, given_uuid: str) -> bool:
    """Return whether an image has or had a uuid."""
    with db.read() as conn:
        if conn.execute(_HAS_UUID, {"uuid": given_uuid}).first() is not None:
            return True
        return ids.is_purged_uuid(conn, given_uuid)


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
    not given are removed, if version 1 shows them by their names. `is_public` changes the
    visibility if it is another one than before. `from_state` makes it a compare-and-set on the
    status; a change of the status that the same `attempt` has made already (see
    `glance.registry.db.attempts`) counts as made, and nothing is changed again.

    Raises ImageNotFound if the caller cannot see or may not change the image, Conflict if the
    status is not `from_state` or may not become the new one, or the image is the result of a
    conversion that goes on, Forbidden for properties that only the service sets, Invalid if the
    merged record breaks the rules, QuotaExceeded when the image would get more properties than
    `property_quota`, or its owner more bytes than `storage_quota` by an upload that begins, goes
    on or ends.
    """

    def work(conn: Connection) -> types.StoredImage:
        image = records.lock_mutable(conn, context, image_id)
        old_status = image["status"]
        if from_state is not None and old_status != from_state:
            is_made = attempt is not None and old_status == values.get("status")
            if is_made and attempts.has_made(conn, image_id, attempt or ""):
                return records.reveal(db, records.with_properties(conn, image))
            raise exception.Conflict(f"Image {image_id} is {old_status}, not {from_state}")
        begins = attempt is not None and values.get("upload_via") == uploads.V2
        if begins and attempts.has_made(conn, image_id, attempt or ""):
            # The call comes late: the image was queued again under the name of the attempt.
            raise exception.Conflict(f"The upload to image {image_id} was given up")
        changes = {name: value for name, value in values.items() if name != "properties"}
        if changes.pop("id", None) not in (None, image_id):
            raise exception.Invalid("The id of an image cannot be changed")
        changes.pop("uuid", None)
        record = cast(types.StoredImage, fields.validate({**image, **changes}, formats))
        fields.check_transition(old_status, record["status"])
        record["visibility"] = visibility.chosen(
            record["is_public"], image["is_public"], image["visibility"]
        )
        if record["status"] != old_status or record["status"] == "saving":
            writing.check_storage(conn, record, storage_quota)
        named = attempt if "status" in values else None
        writing.update_image(db, conn, context, image, record, named)
        stored = direct.fetch(conn, writing.ALL_PROPERTIES, {"image": image_id})
        conversion_jobs.check_filling(
            conn, context, image, record, {row.name for row in stored if not row.deleted}
        )
        given = values.get("properties") or {}
        now = record["updated_at"]
        record["properties"] = _change_properties(
            conn, image_id, stored, given, purge_props, property_quota, now
        )
        return record

    return db.transaction(work)


def image_room(db: engine.Database, record: Mapping[str, Any], storage_quota: int) -> int | None:
    """Return how many bytes an image may have, by what its owner's others leave of the quota.

    None means that there is no limit: for an image without an owner, or without a quota.
    """
    if storage_quota <= 0 or record["owner"] is None:
        return None
    with db.read() as conn:
        # NOTE: without a lock, because nothing depends on the number: on MySQL a lock of all rows
        # of the owner would meet those of uploads, and end in a deadlock.
        return max(0, storage_quota - writing.used_storage(conn, writing.USED_STORAGE, record))


def _change_properties(
    conn: Connection,
    image_id: int,
    stored: Sequence[Any],
    given: Mapping[str, str | None],
    purge: bool,
    quota: int,
    now: Any,
) -> dict[str, str | None]:
    """Store the properties `given` for an image; return all live ones as version 1 shows them.

    `stored` are the rows that it has, those of deleted properties included. A soft-deleted row is
    revived, because (image, name) is unique over deleted rows too. Names that version 1 cannot
    have, such as those with capitals, are shown in lower case where no other property has that
    name; then a given value is theirs.
    """
    by_name = {lenient.text(row.name): row for row in stored}
    live = {name: row.value for name, row in by_name.items() if not row.deleted}
    shown: dict[str, str] = {}
    for name in reversed(lenient.last_first(live)):
        shown[name.lower()] = name
    wanted = {shown.get(name, name): value for name, value in given.items()}
    result = {**live, **wanted}
    fields.check_read_only(live, wanted)
    purged = [
        name
        for name in live
        if purge
        and name not in wanted
        and image_headers.is_v1_name(name)
        and not fields.is_read_only(name)
    ]
    for name in purged:
        del result[name]
    counts = fields.count_own(result), fields.count_own(live)
    records.check_quota(*counts, quota, "properties")
    writing.change_properties(conn, image_id, by_name, wanted, purged, now)
    return lenient.fold_names(result)
