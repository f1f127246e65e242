"""What converters do to the jobs of conversions: lease them, report of them and end them.

Each function is made of transactions of one job each (`glance.registry.db.conversion_jobs`), so
that many converters can work beside each other, on any host. A lease that is not renewed lapses,
and with it the claim of a dead process; whichever converter comes next takes the job back. The
clocks of registries must agree within a small part of `conversion_job.LEASE`.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import logging
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import fields, types
from glance.image.conversion_codes import Code
from glance.image.conversion_job import Job, LeaseLost, Outcome, Phase, Status
from glance.registry.db import conversion_jobs, engine, models, records
from glance.registry.db.conversion_jobs import to_job, write

LOG = logging.getLogger(__name__)

jobs, workers = models.conversion_jobs, models.conversion_workers

#: How many jobs one call takes back, and how many rows it removes, at most.
BATCH = 1000
#: A converter is forgotten when it has not been heard of for so long.
_FORGOTTEN = datetime.timedelta(hours=1)
_SIZE = (
    models.images.update()
    .where(models.images.c.id == sa.bindparam("row_id"))
    .values(virtual_size=sa.bindparam("disk_size"))
)
_AT_WORK = (Status.RUNNING.value, Status.CANCELLING.value)


class Leased(NamedTuple):
    """A job for a converter, with the records of its source and its result, locations in clear."""

    job: Job
    source: types.StoredImage
    image: types.StoredImage


def lease(
    db: engine.Database,
    worker: str,
    count: int,
    *,
    held: Collection[str] | None,
    retention: float,
) -> list[Leased]:
    """Give due jobs to a converter; arguments as `ConversionCalls.lease_conversions`."""
    _note_life(db, worker)
    _take_back(db)
    _purge(db, retention)
    found: list[Leased] = []
    if held is not None:
        found += _give_again(db, worker, held)
    if count > len(found):
        found += _give(db, worker, count - len(found))
    return found


def report(
    db: engine.Database,
    worker: str,
    job_id: str,
    *,
    phase: Phase | None = None,
    progress: int | None = None,
    virtual_size: int | None = None,
    **sizes: int | None,
) -> Job:
    """Renew a lease and record what the job is at.

    Raises LeaseLost, and Invalid for an earlier phase than before.
    """

    def change(conn: Connection, job: Job, image: types.ImageRow | None) -> Job:
        now = records.utcnow()
        found = job.renewed(worker, now)
        if phase is not None:
            try:
                found = found.at(worker, now, phase, progress, virtual_size=virtual_size, **sizes)
            except ValueError as err:
                raise exception.Invalid(f"The report cannot be right: {err}") from err
        if image is None:
            # A registry of an earlier release has deleted it.
            found = found.cancelled(now)
        elif found.virtual_size is not None and found.virtual_size != job.virtual_size:
            _show_size(conn, image, found, now)
        return found

    return _change(db, job_id, change)


def end(
    db: engine.Database,
    worker: str,
    job_id: str,
    outcome: Outcome,
    *,
    code: Code | None = None,
    result: types.ConversionResult | None = None,
) -> Job:
    """End the work on a job; arguments as `ConversionCalls.end_conversion`.

    Raises LeaseLost, and Invalid if the image of a job that is said to have succeeded is not
    active.
    """

    def change(conn: Connection, job: Job, image: types.ImageRow | None) -> Job:
        now = records.utcnow()
        if job.leased_until is None and job.last_worker == worker:
            is_done = job.status is Status.SUCCEEDED
            if outcome is Outcome.SUCCEEDED and not is_done:
                raise LeaseLost()
            # The response to the call that ended it was lost.
            return job
        if job.worker == worker and image is not None and image["status"] in fields.WITH_DATA:
            found = _done(job, image, now, result)
        elif image is None:
            found = job.cancelled(now).stopped(worker, now)
        elif outcome is Outcome.SUCCEEDED:
            raise exception.Invalid(
                f"Image {image['id']} is {image['status']}, so its conversion has not succeeded"
            )
        elif outcome is Outcome.STOPPED:
            found = job.cancelled(now).stopped(worker, now)
        elif outcome is Outcome.RELEASED:
            found = job.released(worker, now)
        else:
            found = job.failed(worker, now, code or Code.CONVERSION_FAILED)
        found = _unless_killed(found, image, now)
        if image is not None and found.virtual_size is not None:
            _show_size(conn, image, found, now)
        return found

    return _change(db, job_id, change)


def _change(
    db: engine.Database,
    job_id: str,
    change: Callable[[Connection, Job, types.ImageRow | None], Job],
) -> Job:
    """Change a job in one transaction; LeaseLost if there is none."""
    image_id = _image_id(db, job_id)

    def work(conn: Connection) -> Job:
        image = conversion_jobs.lock_image(conn, image_id)
        row = conversion_jobs.lock(conn, job_id)
        if row is None:
            raise LeaseLost()
        before = to_job(row)
        job = change(conn, before, image)
        return write(db, conn, before, job, image, records.utcnow())

    return db.transaction(work)


def _image_id(db: engine.Database, job_id: str) -> int:
    with db.read() as conn:
        found: int | None = conn.execute(
            sa.select(jobs.c.image_id).where(jobs.c.uuid == job_id)
        ).scalar()
    if found is None:
        raise LeaseLost()
    return found


def _done(
    job: Job,
    image: types.ImageRow,
    now: datetime.datetime,
    result: types.ConversionResult | None = None,
) -> Job:
    """Return a job whose result is active, whatever its converter says or cannot say."""
    if result is not None and not job.has_lapsed(now):
        return job.succeeded(job.worker or "", now, result)
    return job.found_done(now, image["size"])


def _unless_killed(job: Job, image: types.ImageRow | None, now: datetime.datetime) -> Job:
    """Return a job that waits again as failed if its image can never be filled again."""
    if job.status is not Status.QUEUED or image is None or image["status"] != "killed":
        return job
    code = job.error
    return job.given_up(now, Code.CONVERSION_FAILED if code is None or code.may_pass else code)


def _show_size(conn: Connection, image: types.ImageRow, job: Job, now: datetime.datetime) -> None:
    name = fields.CONVERSION_VIRTUAL_SIZE
    conversion_jobs.set_property(conn, image["id"], name, str(job.virtual_size), now)
    conn.execute(_SIZE, {"row_id": image["id"], "disk_size": job.virtual_size})


# -- the steps of a lease ------------------------------------------------------------------------


def _note_life(db: engine.Database, worker: str) -> None:
    now = records.utcnow()
    mine = workers.c.name == worker

    def work(conn: Connection) -> None:
        if not conn.execute(workers.update().where(mine).values(seen_at=now)).rowcount:
            conn.execute(workers.insert().values(name=worker, seen_at=now))
        silent = sa.select(workers.c.name).where(workers.c.seen_at < now - _FORGOTTEN)
        for name in conn.execute(silent).scalars().all():
            conn.execute(workers.delete().where(workers.c.name == name))

    db.transaction(work)


def _take_back(db: engine.Database) -> None:
    """Take the jobs back whose leases have lapsed."""
    lapsed = (
        sa.select(jobs.c.uuid)
        .where(jobs.c.status.in_(_AT_WORK))
        .where(jobs.c.leased_until <= records.utcnow())
        .limit(BATCH)
    )

    def change(conn: Connection, job: Job, image: types.ImageRow | None) -> Job:
        now = records.utcnow()
        if not job.has_lapsed(now):
            return job
        if image is not None and image["status"] in fields.WITH_DATA:
            return _done(job, image, now)
        if image is None:
            job = job.cancelled(now)
        return _unless_killed(job.taken_back(now), image, now)

    for job_id in _ids(db, lapsed):
        job = _try(db, job_id, change)
        if job is not None:
            LOG.warning("The converter of conversion %s is lost; it is %s", job.id, job.status)


def _purge(db: engine.Database, retention: float) -> None:
    """Forget jobs that have ended long ago, but not within the time of an idempotency key."""
    now = records.utcnow()
    try:
        since = now - datetime.timedelta(seconds=retention)
    except OverflowError:
        return
    old = (
        sa.select(jobs.c.uuid)
        .where(jobs.c.finished_at < since)
        .where(
            sa.or_(
                jobs.c.request_digest.is_(None),
                jobs.c.created_at < now - conversion_jobs.KEY_KEPT,
            )
        )
        .limit(BATCH)
    )
    found = _ids(db, old)
    if found:
        forget = jobs.delete().where(jobs.c.uuid.in_(found))
        db.transaction(lambda conn: conn.execute(forget))


def _give_again(db: engine.Database, worker: str, held: Collection[str]) -> list[Leased]:
    """Return the jobs that a converter has a lease of and does not know of."""
    leased = (
        sa.select(jobs.c.uuid).where(jobs.c.status.in_(_AT_WORK)).where(jobs.c.worker == worker)
    )

    def change(job: Job, image: types.ImageRow | None, source: types.StoredImage | None) -> Job:
        now = records.utcnow()
        if image is None:
            job = job.cancelled(now)
        elif source is None and job.status is Status.RUNNING:
            return job.failed(worker, now, Code.SOURCE_GONE)
        return job.begun_again(worker, now)

    unknown = [job_id for job_id in _ids(db, leased) if job_id not in held]
    return list(_leased(db, unknown, change))


def _give(db: engine.Database, worker: str, count: int) -> list[Leased]:
    """Lease due jobs, the oldest first."""
    now = records.utcnow()
    due = (
        sa.select(jobs.c.uuid)
        .where(jobs.c.status == Status.QUEUED.value)
        .where(sa.or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now))
        .order_by(jobs.c.created_at, jobs.c.uuid)
        .limit(BATCH)
    )

    def change(job: Job, image: types.ImageRow | None, source: types.StoredImage | None) -> Job:
        now = records.utcnow()
        if not job.is_due(now):
            raise LeaseLost()
        if image is None:
            return job.cancelled(now)
        if image["status"] in fields.WITH_DATA:
            # The converter that lost the job has ended the work all the same.
            return _done(job, image, now)
        if source is None:
            return job.given_up(now, Code.SOURCE_GONE)
        job = _unless_killed(job, image, now)
        return job if job.status.is_final else job.begun(worker, now)

    return list(itertools.islice(_leased(db, _ids(db, due), change), count))


def _leased(
    db: engine.Database,
    job_ids: list[str],
    change: Callable[[Job, types.ImageRow | None, types.StoredImage | None], Job],
) -> Iterator[Leased]:
    """Lease jobs one by one; leave out those that others have, and those that end."""
    for job_id in job_ids:
        work = functools.partial(_with_source, db, change)
        job = _try(db, job_id, work)
        if job is None or job.status is not Status.RUNNING:
            continue
        with db.read() as conn:
            source, image = _source_of(db, conn, job), _image_of(db, conn, job)
        if source is not None and image is not None:
            yield Leased(job, source, image)


def _with_source(
    db: engine.Database,
    change: Callable[[Job, types.ImageRow | None, types.StoredImage | None], Job],
    conn: Connection,
    job: Job,
    image: types.ImageRow | None,
) -> Job:
    changed = change(job, image, _source_of(db, conn, job))
    if changed.status is Status.RUNNING and image is not None and image["status"] == "saving":
        # A converter that has lost the job has begun to fill it.
        conversion_jobs.fill_again(db, conn, image)
    return changed


def _source_of(db: engine.Database, conn: Connection, job: Job) -> types.StoredImage | None:
    """Return the source as the owner of a job sees it; None if it is not active any more."""
    by_admin = conn.execute(sa.select(jobs.c.by_admin).where(jobs.c.uuid == job.id)).scalar()
    owner = identity_context.RequestContext(tenant=job.owner, is_admin=bool(by_admin))
    try:
        source = records.load(conn, owner, int(job.source_image_id))
    except exception.ImageNotFound:
        return None
    return records.reveal(db, source) if source["status"] == "active" else None


def _image_of(db: engine.Database, conn: Connection, job: Job) -> types.StoredImage | None:
    try:
        image = records.load(conn, conversion_jobs.SERVICE, int(job.image_id))
    except exception.ImageNotFound:
        return None
    return records.reveal(db, image)


def _ids(db: engine.Database, statement: Any) -> list[str]:
    with db.read() as conn:
        return list(conn.execute(statement).scalars())


def _try(
    db: engine.Database,
    job_id: str,
    change: Callable[[Connection, Job, types.ImageRow | None], Job],
) -> Job | None:
    """Change a job; return None if another converter was first."""
    try:
        return _change(db, job_id, change)
    except LeaseLost:
        return None
