"""Conversions in the registry's database: make jobs, find them, cancel them and forget them.

A row is a `glance.image.conversion_job.Job`, which decides what may become of it, with what only
the database needs: `by_admin` is whether its creator was an administrator, `worker` who has the
lease or had it last, and `request_key` and `request_digest` are digests of the request's
idempotency key, or of the attempt that made the job, and of the request itself.

A job and the image that it fills change together, in one transaction, which locks the image first.
What converters do is in `glance.registry.db.conversion_leases`.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import fields, types, uploads
from glance.image.conversion_codes import Code
from glance.image.conversion_job import Job, Phase, Status
from glance.registry.db import (
    attempts,
    engine,
    ids,
    lenient,
    models,
    paging,
    records,
    writing,
)

jobs, workers = models.conversion_jobs, models.conversion_workers
Context = identity_context.RequestContext

#: A converter that has not been heard of for so long does not count.
SILENCE = datetime.timedelta(seconds=120)
#: How long an idempotency key is remembered.
KEY_KEPT = datetime.timedelta(hours=24)
#: The container of a result: nothing but the disk.
CONTAINER = "bare"
#: Properties of the source whose names begin so are not those of the result.
PREFIX = "conversion_"
#: What conversion_error says of a conversion that was cancelled.
CANCELLED = "cancelled"

#: Who acts on the images of others, and sees what has been deleted.
SERVICE = Context(is_admin=True)
SEEING_ALL = Context(is_admin=True, show_deleted=True)

_ID_ATTEMPTS = 20
_CODES = {code.label: code for code in Code}
_AT_WORK = (Status.RUNNING.value, Status.CANCELLING.value)
#: Those that count towards the limits.
_UNFINISHED = (Status.QUEUED.value, *_AT_WORK)
#: The fields of a job whose columns have the same name and values.
_PLAIN = (
    "source_format",
    "disk_format",
    "owner",
    "created_at",
    "compress",
    "store",
    "progress",
    "started_at",
    "finished_at",
    "bytes_in",
    "bytes_out",
    "virtual_size",
    "attempts",
    "losses",
    "failures",
    "not_before",
    "leased_until",
)
#: What of a request its sender does not choose.
_NOT_ASKED = ("idempotency_key", "limits", "source_format")
_NO_JOB = "No conversion with this ID was found"
_WITH_KEY = sa.select(jobs).where(jobs.c.request_key == sa.bindparam("key"))
_UNFINISHED_OF = (
    sa.select(jobs.c.uuid)
    .where(jobs.c.image_id == sa.bindparam("image"))
    .where(jobs.c.status.in_(_UNFINISHED))
)
_TOUCH = (
    models.images.update()
    .where(models.images.c.id == sa.bindparam("row_id"))
    .values(updated_at=sa.bindparam("now"))
)
# NOTE: a lock on all rows, so that of two requests the second sees the jobs of the first.
_SEEN = sa.select(workers.c.name, workers.c.seen_at).order_by(workers.c.name).with_for_update()


class Created(NamedTuple):
    """A job, the record of its result, and whether the request has made them."""

    job: Job
    image: types.StoredImage
    is_new: bool


# -- rows ----------------------------------------------------------------------------------------


def to_job(row: Any) -> Job:
    """Return the job of a row of the table."""
    values = {name: getattr(row, name) for name in _PLAIN}
    values["compress"] = bool(row.compress)
    return Job(
        id=row.uuid,
        source_image_id=str(row.source_image_id),
        image_id=str(row.image_id),
        status=Status(row.status),
        phase=None if row.phase is None else Phase(row.phase),
        # NOTE: a later release may know others.
        error=None if row.error is None else _CODES.get(row.error, Code.CONVERSION_FAILED),
        worker=row.worker if row.leased_until is not None else None,
        last_worker=row.worker,
        **values,
    )


def _to_row(job: Job) -> dict[str, Any]:
    return {
        **{name: getattr(job, name) for name in _PLAIN},
        "uuid": job.id,
        "source_image_id": int(job.source_image_id),
        "image_id": int(job.image_id),
        "status": job.status.value,
        "phase": None if job.phase is None else job.phase.value,
        "error": None if job.error is None else job.error.label,
        "worker": job.last_worker,
    }


def lock(conn: Connection, job_id: str) -> Any:
    """Return the row of a job and lock it until the end of the transaction; None without one.

    If the image that it fills changes too, its row is locked first (`lock_image`).
    """
    return conn.execute(sa.select(jobs).where(jobs.c.uuid == job_id).with_for_update()).first()


def lock_image(conn: Connection, image_id: int) -> types.ImageRow | None:
    """Return and lock the image that a job fills; None if it is deleted."""
    try:
        image = records.lock(conn, SEEING_ALL, image_id)
    except exception.ImageNotFound:
        return None
    return None if image["deleted"] else image


def write(
    db: engine.Database,
    conn: Connection,
    before: Job,
    job: Job,
    image: types.ImageRow | None,
    now: datetime.datetime,
) -> Job:
    """Write a job that has changed, and what becomes of the locked image that it fills.

    If the job has ended without success, the image is killed; if it waits again, the image can be
    filled again. Returns the job.
    """
    old, new = _to_row(before), _to_row(job)
    changes = {name: value for name, value in new.items() if value != old[name]}
    if changes:
        conn.execute(jobs.update().where(jobs.c.uuid == job.id).values(changes))
    if image is None or image["status"] not in ("queued", "saving", "killed"):
        return job
    if job.status in (Status.FAILED, Status.CANCELLED):
        if image["status"] != "killed":
            _change_image(db, conn, image, uploads.KILLED)
        why = CANCELLED if job.error is None else job.error.label
        set_property(conn, image["id"], fields.CONVERSION_ERROR, why, now)
    elif job.status is Status.QUEUED and image["status"] == "saving":
        fill_again(db, conn, image)
    return job


def fill_again(db: engine.Database, conn: Connection, image: types.ImageRow) -> None:
    """Let the locked image, which somebody has begun to fill, be filled anew."""
    _change_image(db, conn, image, uploads.queued_again(0))


def _change_image(
    db: engine.Database, conn: Connection, image: types.ImageRow, values: uploads.Outcome
) -> None:
    record = cast(types.ImageRow, {**image, **values})
    writing.update_image(db, conn, SERVICE, image, record)


def set_property(
    conn: Connection, image_id: int, name: str, value: str, now: datetime.datetime
) -> None:
    """Set a property of an image whose row is locked."""
    found = lenient.fetch(conn, writing.ALL_PROPERTIES, {"image": image_id})
    stored = {lenient.text(row.name): row for row in found}
    if writing.change_properties(conn, image_id, stored, {name: value}, (), now):
        conn.execute(_TOUCH, {"row_id": image_id, "now": now})


# -- what else happens to images -----------------------------------------------------------------


def cancel_of(conn: Connection, image_id: int, now: datetime.datetime) -> None:
    """Cancel the job that fills an image, in the transaction that deletes the image."""
    for job_id in conn.execute(_UNFINISHED_OF, {"image": image_id}).scalars().all():
        row = lock(conn, job_id)
        if row is not None and row.status in _UNFINISHED:
            before = to_job(row)
            changes = _to_row(before.cancelled(now))
            conn.execute(jobs.update().where(jobs.c.uuid == job_id).values(changes))


def check_filling(
    conn: Connection,
    context: Context,
    before: Mapping[str, Any],
    record: Mapping[str, Any],
    names: Collection[str],
) -> None:
    """Raise Conflict if a caller would fill the image that a conversion is to fill.

    `record` is the record of the image after the change, `names` are those of its properties.
    SECURITY: what says of itself that it was converted would be anything.
    """
    if context.is_admin or fields.CONVERSION_JOB not in names:
        return
    kept = before["status"] in ("queued", "saving")
    guarded = ("status", "disk_format", "container_format")
    if not kept or all(record[name] == before[name] for name in guarded):
        return
    if conn.execute(_UNFINISHED_OF, {"image": before["id"]}).first() is not None:
        raise exception.Conflict(
            f"Image {before['id']} is filled by a conversion: cancel that first, or wait for it"
        )


# -- making --------------------------------------------------------------------------------------


def create(
    db: engine.Database,
    context: Context,
    request: types.ConversionRequest,
    *,
    property_quota: int = 0,
    formats: fields.Formats = fields.FORMATS,
    attempt: str | None = None,
    is_repeated: bool = False,
) -> Created:
    """Make a job and the queued record of its result, unless the job is there already.

    The request is checked (`glance.registry.conversions`). Raises what
    `ConversionCalls.create_conversion` does.
    """
    limits = request.get("limits", {})
    keys = _keys(context, request, attempt)

    def work(conn: Connection, step_over: bool) -> Created:
        now = records.utcnow()
        seen = [row.seen_at for row in conn.execute(_SEEN)]
        known = _known(db, conn, keys, now)
        if known is not None:
            return known._replace(is_new=is_repeated and _has_made(conn, known.job, attempt))
        source = _source(conn, context, request, limits)
        wanted = Job(
            id=str(uuid.uuid4()),
            source_image_id=str(source["id"]),
            image_id="0",
            source_format=source["disk_format"] or "",
            disk_format=request["disk_format"],
            owner=context.owner,
            created_at=now,
            compress=request.get("compress", False),
            store=request.get("store"),
        )
        same = _same_work(conn, wanted)
        if same is not None:
            image = records.load(conn, SEEING_ALL, int(same.image_id))
            return Created(same, records.reveal(db, image), False)
        if not any(moment is not None and moment > now - SILENCE for moment in seen):
            raise exception.NoConverter()
        _check_limits(conn, context, limits)
        values = {
            "name": _name(request.get("name"), source, wanted.disk_format),
            "status": "queued",
            # WIRE: what a reserved image has, because clients of version 1 read a number.
            "size": 0,
            "is_public": request.get("is_public", False),
            "disk_format": wanted.disk_format,
            "container_format": CONTAINER,
            "min_disk": source["min_disk"],
            "min_ram": source["min_ram"],
            "owner": context.owner,
        }
        record = writing.new_record(values, formats)
        properties = _properties(source, request, limits)
        records.check_quota(len(properties), 0, property_quota, "properties")
        properties |= {fields.CONVERTED_FROM: str(source["id"]), fields.CONVERSION_JOB: wanted.id}
        if source["checksum"]:
            properties[fields.CONVERSION_SOURCE_CHECKSUM] = source["checksum"]
        record.pop("id")
        image_id = ids.count(conn, step_over=step_over)
        try:
            writing.insert_image(db, conn, image_id, record, attempt)
        except exception.Duplicate as err:
            raise _IdTaken() from err
        writing.insert_properties(conn, image_id, properties, record["created_at"])
        job = dataclasses.replace(wanted, image_id=str(image_id))
        more = {"by_admin": context.is_admin, **keys.columns()}
        conn.execute(jobs.insert().values({**_to_row(job), **more}))
        made = {**record, "id": image_id, "properties": lenient.fold_names(properties)}
        return Created(job, cast(types.StoredImage, made), True)

    for step_over in (False, *[True] * (_ID_ATTEMPTS - 1)):
        try:
            return db.transaction(lambda conn: work(conn, step_over))  # noqa: B023
        except (exc.IntegrityError, _IdTaken):
            continue
    raise exception.ServiceUnavailable("No free image id was found; try again")


class _IdTaken(exception.Error):
    """The id that was counted belongs or belonged to another image."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Keys:
    """By what a request is known if it comes again."""

    request_key: str | None
    request_digest: str | None

    def columns(self) -> dict[str, str | None]:
        return dataclasses.asdict(self)


def _keys(context: Context, request: types.ConversionRequest, attempt: str | None) -> _Keys:
    given = request.get("idempotency_key")
    if given is not None:
        # SECURITY: the key of another owner is another key.
        asked = [item for item in sorted(request.items()) if item[0] not in _NOT_ASKED]
        return _Keys(_digest(["key", context.owner, context.is_admin, given]), _digest(asked))
    return _Keys(None if attempt is None else _digest(["attempt", attempt]), None)


def _digest(parts: Iterable[object]) -> str:
    text = json.dumps(list(parts), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _known(
    db: engine.Database, conn: Connection, keys: _Keys, now: datetime.datetime
) -> Created | None:
    """Return what a request has made that came before under the same key."""
    if keys.request_key is None:
        return None
    for row in conn.execute(_WITH_KEY, {"key": keys.request_key}).all():
        if row.created_at <= now - KEY_KEPT:
            continue
        if row.request_digest != keys.request_digest:
            raise exception.Conflict(
                "This Idempotency-Key came with another request before; use a new one"
            )
        try:
            image = records.load(conn, SEEING_ALL, row.image_id)
        except exception.ImageNotFound:
            # It was deleted, and then purged.
            continue
        return Created(to_job(row), records.reveal(db, image), False)
    return None


def _has_made(conn: Connection, job: Job, attempt: str | None) -> bool:
    """Return whether the call with a lost response is the one that has made a job."""
    return attempt is not None and (
        attempts.has_made(conn, int(job.image_id), attempt) or job.status is not Status.QUEUED
    )


def _source(
    conn: Connection,
    context: Context,
    request: types.ConversionRequest,
    limits: types.ConversionLimits,
) -> types.StoredRecord:
    """Return the record of the image to convert, if the caller may have it converted now."""
    number = fields.path_id(request["source_image_id"])
    found = records.load(conn, context, number)
    source = records.load_full(conn, context, found["uuid"])
    if source["status"] != "active":
        raise exception.Conflict(f"Image {number} is {source['status']}, not active")
    expected = request.get("source_format")
    if expected is not None and source["disk_format"] != expected:
        raise exception.Conflict(f"Image {number} was changed; send the request again")
    if not source["disk_format"]:
        raise exception.Invalid(f"Image {number} has no disk_format")
    most = limits.get("max_input_size")
    if most is not None and (source["size"] or 0) > most:
        raise exception.ImageSizeLimitExceeded(
            f"Image {number} is larger than the {most} bytes that this server converts"
        )
    return source


def _same_work(conn: Connection, wanted: Job) -> Job | None:
    """Return the job that does the same work already, None if there is none."""
    waiting = (
        sa.select(jobs)
        .where(jobs.c.source_image_id == int(wanted.source_image_id))
        .where(jobs.c.status.in_((Status.QUEUED.value, Status.RUNNING.value)))
        .order_by(jobs.c.created_at)
    )
    found = (to_job(row) for row in conn.execute(waiting).all())
    return next((job for job in found if job.is_same_work(wanted)), None)


def _check_limits(conn: Connection, context: Context, limits: types.ConversionLimits) -> None:
    """Raise TooManyRequests if no other conversion may wait now."""
    unfinished = jobs.c.status.in_(_UNFINISHED)
    counted = sa.select(sa.func.count()).select_from(jobs).where(unfinished)
    own = limits.get("max_jobs_per_owner")
    # Those without an owner count towards the limit of all only.
    if own is not None and context.owner is not None:
        mine = counted.where(jobs.c.owner == context.owner)
        if conn.execute(mine).scalar_one() >= own:
            raise exception.TooManyRequests(
                f"You may have {own} conversions that wait or run at a time; wait for one, or "
                "cancel it"
            )
    most = limits.get("max_jobs")
    if most is not None and conn.execute(counted).scalar_one() >= most:
        raise exception.TooManyRequests("Too many conversions are waiting; try again later")


def _name(given: str | None, source: types.StoredRecord, disk_format: str) -> str:
    if given is not None:
        return given
    ending = f" ({disk_format})"
    return (source["name"] or str(source["id"]))[: fields.MAX_NAME - len(ending)] + ending


def _properties(
    source: types.StoredRecord, request: types.ConversionRequest, limits: types.ConversionLimits
) -> dict[str, str | None]:
    """Return the properties of a result, but for those of the service."""
    given = request.get("properties", {})
    fields.check_read_only({}, given)
    dropped = {name.lower() for name in limits.get("dropped_properties", ())}
    dropped.update(name.lower() for name in given)
    kept: dict[str, str | None] = {}
    for name, value in source["properties"].items():
        shown = name.lower()
        is_ours = fields.is_read_only(name) or shown.replace("-", "_").startswith(PREFIX)
        if shown not in dropped and not is_ours:
            kept[name] = value
    return kept | given


# -- finding and ending --------------------------------------------------------------------------


def visible_to(context: Context) -> ColumnElement[bool]:
    """Return the clause for the jobs that a caller sees: its own; an administrator all."""
    if context.is_admin:
        return sa.true()
    if context.owner is None:
        return sa.false()
    return cast(ColumnElement[bool], jobs.c.owner == context.owner)


def find(
    db: engine.Database,
    context: Context,
    *,
    status: str | None = None,
    source_image_id: int | None = None,
    image_id: int | None = None,
    either_image_id: int | None = None,
    limit: int = 25,
    marker: str | None = None,
) -> list[Job]:
    """Return a page of jobs, newest first; arguments as `ConversionCalls.find_conversions`.

    Raises Invalid for a marker that the caller cannot see.
    """
    found = sa.select(jobs).where(visible_to(context))
    for column, value in (
        (jobs.c.status, status),
        (jobs.c.source_image_id, source_image_id),
        (jobs.c.image_id, image_id),
    ):
        if value is not None:
            found = found.where(column == value)
    if either_image_id is not None:
        sides = (jobs.c.source_image_id, jobs.c.image_id)
        found = found.where(sa.or_(*(side == either_image_id for side in sides)))
    with db.read() as conn:
        if marker is not None:
            row = conn.execute(_one(context, marker)).first()
            if row is None:
                raise exception.Invalid("marker must be the ID of one of your conversions")
            found = found.where(
                ~paging.behind((jobs.c.created_at, jobs.c.uuid), (row.created_at, row.uuid))
            ).where(jobs.c.uuid != row.uuid)
        page = found.order_by(jobs.c.created_at.desc(), jobs.c.uuid.desc()).limit(limit)
        return [to_job(row) for row in conn.execute(page)]


def get(db: engine.Database, context: Context, job_id: str) -> Job:
    """Return a job. Raises NotFound if the caller cannot see one with this id."""
    with db.read() as conn:
        row = conn.execute(_one(context, job_id)).first()
    if row is None:
        raise exception.NotFound(_NO_JOB)
    return to_job(row)


def cancel(db: engine.Database, context: Context, job_id: str) -> Job:
    """Cancel a job, unless it has ended, and return it. Raises NotFound."""
    image_id = int(get(db, context, job_id).image_id)

    def work(conn: Connection) -> Job:
        now = records.utcnow()
        image = lock_image(conn, image_id)
        row = lock(conn, job_id)
        if row is None:
            raise exception.NotFound(_NO_JOB)
        before = to_job(row)
        if before.status.is_final:
            return before
        job = before.cancelled(now)
        if job.has_lapsed(now):
            # Nobody is left who could say that the work has ended.
            job = job.taken_back(now)
        return write(db, conn, before, job, image, now)

    return db.transaction(work)


def forget(db: engine.Database, context: Context, job_id: str) -> None:
    """Forget a job that has ended. Raises NotFound, and Conflict if it has not."""

    def work(conn: Connection) -> None:
        row = conn.execute(_one(context, job_id).with_for_update()).first()
        if row is None:
            raise exception.NotFound(_NO_JOB)
        if not to_job(row).status.is_final:
            raise exception.Conflict("The conversion has not ended yet: cancel it first")
        conn.execute(jobs.delete().where(jobs.c.uuid == job_id))

    db.transaction(work)


def _one(context: Context, job_id: str) -> sa.sql.Select:
    return sa.select(jobs).where(jobs.c.uuid == job_id).where(visible_to(context))
