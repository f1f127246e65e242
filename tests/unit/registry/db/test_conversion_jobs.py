"""Jobs of conversions in each kind of database: one record of the result, and one worker a job."""

from __future__ import annotations

import contextlib
import datetime
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from glance.common import exception
from glance.identity.context import RequestContext
from glance.image import fields
from glance.image.conversion_codes import Code
from glance.image.conversion_job import LeaseLost, Outcome, Phase
from glance.registry.db import (
    api,
    conversion_jobs,
    conversion_leases,
    full_records,
    models,
    records,
)
from glance.registry.db.engine import Database
from glance.registry.db.upkeep import maintenance

OWNER = RequestContext(tenant="owner", user="u")
OTHER = RequestContext(tenant="other", user="u")
ADMIN = RequestContext(is_admin=True)
RESULT = {"bytes_in": 10, "bytes_out": 20, "virtual_size": 30}
WEEK = 7 * 86400
UNTIL = "w1"


class Clock:
    """The time of the database's functions, which a test moves."""

    def __init__(self) -> None:
        self.now = records.utcnow()

    def __call__(self) -> datetime.datetime:
        self.now += datetime.timedelta(microseconds=1)
        return self.now

    def later(self, seconds: float) -> None:
        self.now += datetime.timedelta(seconds=seconds)


class Site:
    """A database with a source of `OWNER` and a converter that is alive."""

    def __init__(self, db: Database, clock: Clock):
        self.db, self.clock = db, clock
        self.source = self.image()
        self.lease("alive", 0)

    def image(self, context: RequestContext = OWNER, **values: Any) -> int:
        given = {
            "name": "web",
            "status": "active",
            "owner": context.owner,
            "disk_format": "raw",
            "container_format": "bare",
            "location": "file:///srv/1",
            "size": 10,
            "checksum": "0" * 32,
            "min_disk": 3,
            "min_ram": 4,
            **values,
        }
        return api.image_create(self.db, context, given)["id"]

    def create(self, context: RequestContext = OWNER, **values: Any) -> Any:
        number = values.pop("source", self.source)
        keys = ("attempt", "is_repeated", "property_quota")
        more = {name: values.pop(name) for name in keys if name in values}
        request = {"source_image_id": str(number), "disk_format": "qcow2", **values}
        return conversion_jobs.create(self.db, context, request, **more)

    def lease(self, worker: str = "w1", count: int = 1, **more: Any) -> Any:
        given = {"held": None, "retention": WEEK, **more}
        return conversion_leases.lease(self.db, worker, count, **given)

    def leased(self, worker: str = "w1", **values: Any) -> Any:
        """Make a job and lease it."""
        job = self.create(**values).job
        found = self.lease(worker)
        assert [leased.job.id for leased in found] == [job.id]
        return found[0].job

    def end(self, job: Any, outcome: str, worker: str = "w1", **more: Any) -> Any:
        return conversion_leases.end(self.db, worker, job.id, Outcome(outcome), **more)

    def report(self, job: Any, worker: str = "w1", **more: Any) -> Any:
        return conversion_leases.report(self.db, worker, job.id, **more)

    def get(self, job: Any) -> Any:
        return conversion_jobs.get(self.db, ADMIN, job.id)

    def result(self, job: Any) -> Any:
        return api.image_get(self.db, RequestContext(is_admin=True, show_deleted=True),
                             int(job.image_id))  # fmt: skip

    def set(self, job: Any, **values: Any) -> None:
        api.image_update(self.db, ADMIN, int(job.image_id), values)

    def activate(self, job: Any) -> None:
        self.set(job, status="saving")
        self.set(job, status="active", location="file:///srv/2", size=20, checksum="1" * 32)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(records, "utcnow", found)
    return found


@pytest.fixture
def site(any_database: Database, clock: Clock) -> Site:
    return Site(any_database, clock)


@pytest.fixture
def plain(sqlite_database: Database, clock: Clock) -> Site:
    """A site for what does not depend on the kind of database."""
    return Site(sqlite_database, clock)


# -- the way to success --------------------------------------------------------------------------


def test_a_job_from_its_request_to_its_result(site: Site) -> None:
    made = site.create(store="swift", compress=True, properties={"k": "v"}, is_public=True)
    assert made.is_new and (made.job.status, made.job.owner) == ("queued", "owner")
    properties = {
        "k": "v",
        "converted_from": str(site.source),
        "conversion_source_checksum": "0" * 32,
        "conversion_job": made.job.id,
    }
    image = site.result(made.job)
    assert made.image["properties"] == image["properties"] == properties
    assert {**made.image, "updated_at": None} == {**image, "updated_at": None}
    assert (image["name"], image["status"], image["owner"]) == ("web (qcow2)", "queued", "owner")
    assert (image["disk_format"], image["container_format"]) == ("qcow2", "bare")
    assert (image["min_disk"], image["min_ram"], image["visibility"]) == (3, 4, "public")
    (work,) = site.lease(count=5)
    assert (work.job.status, work.job.phase, work.job.attempts) == ("running", Phase.FETCHING, 1)
    assert (work.job.store, work.job.compress) == ("swift", True)
    assert (work.source["id"], work.source["location"]) == (site.source, "file:///srv/1")
    assert (work.image["id"], work.image["status"]) == (image["id"], "queued")
    assert site.lease("w2") == site.lease() == []
    for phase in Phase:
        site.clock.later(50)
        size = 30 if phase is Phase.CONVERTING else None
        now = site.report(work.job, phase=phase, progress=7, bytes_in=10, virtual_size=size)
        assert (now.phase, now.progress, now.bytes_in) == (phase, 7, 10)
    assert site.result(work.job)["properties"]["conversion_virtual_size"] == "30"
    site.activate(work.job)
    done = site.end(work.job, "succeeded", result=RESULT)
    assert (done.status, done.bytes_out, done.virtual_size) == ("succeeded", 20, 30)
    assert site.end(work.job, "succeeded", result=RESULT) == done == site.get(work.job)
    image = site.result(work.job)
    assert (image["status"], image["virtual_size"]) == ("active", 30)
    assert "conversion_error" not in image["properties"]


def test_the_source_may_go_later(site: Site) -> None:
    job = site.leased()
    api.image_delete(site.db, OWNER, site.source)
    site.activate(job)
    assert site.end(job, "succeeded", result=RESULT).status == "succeeded"
    assert site.result(job)["status"] == "active"


def test_properties_of_a_source(plain: Site) -> None:
    properties = {"kernel_id": "1", "conversion_x": "1", "a": "b", "Kept": "Ü", "x": "old"}
    source = api.image_get(plain.db, ADMIN, plain.source)
    change = {"properties": properties}
    full_records.record_patch(plain.db, OWNER, source["uuid"], change)  # type: ignore[arg-type]
    made = plain.create(properties={"x": "new"}, limits={"dropped_properties": ["Kernel_ID"]})
    record = full_records.record_get(plain.db, OWNER, made.image["uuid"])
    shown = {name for name in record["properties"] if not fields.is_read_only(name)}
    assert shown == {"a", "Kept", "x"}
    assert record["properties"]["x"] == "new"
    with pytest.raises(exception.QuotaExceeded, match="3 properties"):
        plain.create(property_quota=2, disk_format="vdi", properties={"x": "new"},
                     limits={"dropped_properties": ["kernel_id"]})  # fmt: skip
    # What the service adds does not count.
    assert plain.create(property_quota=3, disk_format="vdi",
                        limits={"dropped_properties": ["kernel_id"]}).is_new  # fmt: skip


def test_a_result_of_a_result_says_only_where_it_comes_from(plain: Site) -> None:
    job = plain.leased()
    plain.activate(job)
    plain.end(job, "succeeded", result=RESULT)
    again = plain.create(source=int(job.image_id), disk_format="vdi")
    properties = again.image["properties"]
    assert properties["converted_from"] == job.image_id
    assert properties["conversion_job"] == again.job.id
    assert "conversion_virtual_size" not in properties


def test_a_delta_changes_no_property_of_the_service(plain: Site) -> None:
    made = plain.create()

    def patch(**change: Any) -> Any:
        return full_records.record_patch(plain.db, ADMIN, made.image["uuid"], change)  # type: ignore[arg-type]

    for change in (
        {"remove": ["conversion_job"]},
        {"properties": {"converted_from": "99"}},
        {"properties": {"CONVERSION-ERROR": "x"}},
    ):
        with pytest.raises(exception.Forbidden, match="read-only"):
            patch(set={"name": "y"}, **change)
    same = made.image["properties"]
    assert patch(properties={**same, "a": "b"})["properties"] == {**same, "a": "b"}
    assert plain.result(made.job)["name"] == "web (qcow2)"


@pytest.mark.parametrize("name", sorted(fields.READ_ONLY_PROPERTIES))
def test_nobody_gives_a_result_properties_of_the_service(plain: Site, name: str) -> None:
    with pytest.raises(exception.Forbidden, match=name):
        plain.create(properties={name: "x"})


def test_long_names(plain: Site) -> None:
    plain.source = plain.image(name="ü" * 255)
    assert plain.create().image["name"] == "ü" * 247 + " (qcow2)"
    assert plain.create(name="", disk_format="vdi").image["name"] == ""


# -- what is refused -----------------------------------------------------------------------------


def count_rows(db: Database) -> list[int]:
    with db.read() as conn:
        return [
            conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (models.images, models.image_properties, models.conversion_jobs)
        ]


def test_a_refused_request_leaves_nothing(site: Site) -> None:
    queued = site.image(status="queued", location=None)
    deleted = site.image()
    api.image_delete(site.db, OWNER, deleted)
    before = count_rows(site.db)
    for refused, values in (
        (exception.NotFound, {"source": 999}),
        (exception.NotFound, {"source": deleted}),
        (exception.NotFound, {"context": OTHER}),
        (exception.Conflict, {"source": queued}),
        (exception.Conflict, {"source_format": "vmdk"}),
        (exception.Invalid, {"disk_format": "floppy"}),
        (exception.ImageSizeLimitExceeded, {"limits": {"max_input_size": 9}}),
        (exception.TooManyRequests, {"limits": {"max_jobs": 0}}),
        (exception.TooManyRequests, {"limits": {"max_jobs_per_owner": 0}}),
        (exception.QuotaExceeded, {"property_quota": 1, "properties": {"a": "", "b": ""}}),
    ):
        with pytest.raises(refused):
            site.create(**values)
    site.clock.later(121)
    with pytest.raises(exception.NoConverter):
        site.create()
    assert count_rows(site.db) == before


def test_a_member_may_convert_what_is_shared_into_an_image_of_its_own(plain: Site) -> None:
    api.member_add(plain.db, OWNER, plain.source, "other", False)
    made = plain.create(OTHER)
    assert (made.job.owner, made.image["owner"]) == ("other", "other")
    assert [leased.job.id for leased in plain.lease()] == [made.job.id]
    with pytest.raises(exception.NotFound):
        conversion_jobs.get(plain.db, OWNER, made.job.id)


def test_limits_count_what_waits_and_runs(plain: Site) -> None:
    limits = {"max_jobs_per_owner": 2, "max_jobs": 3}
    plain.leased(limits=limits)
    second = plain.create(disk_format="vdi", limits=limits).job
    with pytest.raises(exception.TooManyRequests, match="You may have 2 conversions"):
        plain.create(disk_format="vhd", limits=limits)
    mine = plain.image(OTHER)
    plain.create(OTHER, source=mine, limits=limits)
    with pytest.raises(exception.TooManyRequests, match="Too many conversions are waiting"):
        plain.create(OTHER, source=mine, disk_format="vdi", limits=limits)
    conversion_jobs.cancel(plain.db, OWNER, second.id)
    assert plain.create(OTHER, source=mine, disk_format="vdi", limits=limits).is_new
    # Images without an owner count towards no quota of an owner.
    for disk_format in ("vdi", "vhd", "vmdk"):
        plain.create(ADMIN, disk_format=disk_format, limits={"max_jobs_per_owner": 1})


# -- the same request again ----------------------------------------------------------------------


def test_the_same_work_is_done_once(plain: Site) -> None:
    first = plain.create(name="a")
    again = plain.create(name="b")
    assert (again.job.id, again.is_new, again.image["name"]) == (first.job.id, False, "a")
    for values in ({"store": "s3"}, {"compress": True}, {"disk_format": "vdi"}):
        assert plain.create(**values).is_new
    assert plain.create(ADMIN).is_new
    conversion_jobs.cancel(plain.db, OWNER, first.job.id)
    assert plain.create().is_new


def test_an_idempotency_key_is_kept_for_a_day(plain: Site) -> None:
    first = plain.create(idempotency_key="k")
    plain.end(plain.lease()[0].job, "failed", code=Code.TIMEOUT)
    again = plain.create(idempotency_key="k", source_format="raw", limits={"max_jobs": 0})
    assert (again.job.id, again.is_new, again.job.status) == (first.job.id, False, "failed")
    with pytest.raises(exception.Conflict, match="another request"):
        plain.create(idempotency_key="k", name="x")
    assert plain.create(ADMIN, idempotency_key="k").is_new
    # The row is kept for it, too.
    plain.lease("alive", 0, retention=0)
    assert plain.create(idempotency_key="k").job.id == first.job.id
    plain.clock.later(86401)
    plain.lease("alive", 0, retention=0)
    assert plain.create(idempotency_key="k").is_new


def test_a_lost_response_makes_no_second_job(plain: Site) -> None:
    first = plain.create(attempt="a" * 32)
    plain.lease()
    plain.set(first.job, status="saving")
    again = plain.create(attempt="a" * 32, is_repeated=True, limits={"max_jobs": 0})
    assert (again.job.id, again.is_new) == (first.job.id, True)


def test_a_creation_that_is_given_up_is_withdrawn_with_its_job(plain: Site) -> None:
    job = plain.create(attempt="a" * 32).job
    api.image_withdraw(plain.db, OWNER, "a" * 32)
    assert plain.get(job).status == "cancelled"
    assert plain.lease() == []


def test_an_id_that_is_taken_is_stepped_over(plain: Site) -> None:
    number = int(plain.create().job.image_id)
    values = {"status": "queued", "properties": {}}
    with plain.db.write() as conn:
        conn.execute(models.images.insert().values(id=number + 1, status="queued",
                                                   created_at=plain.clock()))  # fmt: skip
    made = plain.create(disk_format="vdi")
    assert int(made.job.image_id) == number + 2
    assert values and plain.result(made.job)["status"] == "queued"


# -- who sees a job ------------------------------------------------------------------------------


def test_lists(site: Site) -> None:
    made = []
    for disk_format in ("qcow2", "vdi", "vhd"):
        made.append(site.create(disk_format=disk_format).job.id)
    theirs = site.create(OTHER, source=site.image(OTHER)).job
    site.lease()

    def listed(context: RequestContext = OWNER, **wanted: Any) -> list[str]:
        return [job.id for job in conversion_jobs.find(site.db, context, **wanted)]

    assert listed() == made[::-1]
    assert listed(ADMIN) == [theirs.id, *made[::-1]]
    assert listed(RequestContext()) == []
    assert listed(limit=1) == made[2:]
    assert listed(limit=1, marker=made[2]) == made[1:2]
    assert listed(marker=made[1]) == made[:1]
    assert listed(status="running") == made[:1]
    assert listed(status="queued") == made[:0:-1]
    assert listed(source_image_id=site.source, limit=2) == made[:0:-1]
    result = int(theirs.image_id)
    assert listed(ADMIN, image_id=result) == listed(ADMIN, either_image_id=result) == [theirs.id]
    assert listed(either_image_id=site.source) == made[::-1]
    assert listed(either_image_id=result) == []
    with pytest.raises(exception.Invalid, match="marker"):
        listed(marker=theirs.id)
    for call in (conversion_jobs.get, conversion_jobs.cancel):
        with pytest.raises(exception.NotFound):
            call(site.db, OWNER, theirs.id)


# -- ends without a result -----------------------------------------------------------------------


def test_a_failure_kills_the_image(site: Site) -> None:
    job = site.leased()
    site.set(job, status="saving")
    failed = site.end(job, "failed", code=Code.UNSAFE_IMAGE)
    assert (failed.status, failed.error) == ("failed", Code.UNSAFE_IMAGE)
    image = site.result(job)
    assert image["status"] == "killed"
    assert image["properties"]["conversion_error"] == "unsafe_image"
    assert site.end(job, "failed", code=Code.UNSAFE_IMAGE) == failed
    with pytest.raises(LeaseLost):
        site.end(job, "succeeded", result=RESULT)


def test_what_may_pass_is_tried_again(site: Site) -> None:
    job = site.leased()
    site.set(job, status="saving")
    waits = site.end(job, "failed", code=Code.NO_SPACE)
    assert (waits.status, waits.error) == ("queued", Code.NO_SPACE)
    assert site.result(job)["status"] == "queued"
    assert site.lease() == []
    site.clock.later(31)
    assert site.lease()[0].job.attempts == 2


def test_an_image_that_was_killed_is_not_filled_again(plain: Site) -> None:
    job = plain.leased()
    plain.set(job, status="killed")
    failed = plain.end(job, "failed", code=Code.STORE_FULL)
    assert failed.status == "failed"
    assert plain.result(job)["properties"]["conversion_error"] == failed.error.label


def test_a_converter_that_stops_releases_its_job(site: Site) -> None:
    job = site.leased()
    site.set(job, status="saving")
    assert site.end(job, "released").status == "queued"
    assert site.end(job, "released").status == "queued"
    (again,) = site.lease("w2")
    assert (again.job.id, again.job.attempts, again.image["status"]) == (job.id, 2, "queued")
    for call in (lambda: site.end(job, "released"), lambda: site.report(job)):
        with pytest.raises(LeaseLost):
            call()


def test_success_without_a_result_is_none(plain: Site) -> None:
    job = plain.leased()
    with pytest.raises(exception.Invalid, match="queued, so its conversion has not succeeded"):
        plain.end(job, "succeeded", result=RESULT)
    assert plain.get(job).status == "running"


def test_an_earlier_phase_is_refused(plain: Site) -> None:
    job = plain.leased()
    plain.report(job, phase=Phase.UPLOADING)
    with pytest.raises(exception.Invalid, match="no phase comes back"):
        plain.report(job, phase=Phase.FETCHING)
    assert plain.get(job).phase is Phase.UPLOADING


def test_the_source_is_looked_after_when_the_work_begins(site: Site) -> None:
    jobs = [site.create(source=site.image()).job for _ in range(3)]
    api.image_delete(site.db, OWNER, int(jobs[0].source_image_id))
    api.image_update(site.db, ADMIN, int(jobs[1].source_image_id), {"owner": "other"})
    assert [leased.job.id for leased in site.lease(count=9)] == [jobs[2].id]
    for job in jobs[:2]:
        assert (site.get(job).status, site.get(job).error) == ("failed", Code.SOURCE_GONE)
        assert site.result(job)["properties"]["conversion_error"] == "source_gone"


# -- cancelling ----------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_and_then_forgotten(site: Site) -> None:
    job = site.create().job
    assert conversion_jobs.cancel(site.db, OWNER, job.id).status == "cancelled"
    image = site.result(job)
    assert (image["status"], image["properties"]["conversion_error"]) == ("killed", "cancelled")
    # Whoever has lost the response asks again.
    assert conversion_jobs.cancel(site.db, OWNER, job.id).status == "cancelled"
    with pytest.raises(exception.NotFound):
        conversion_jobs.forget(site.db, OTHER, job.id)
    conversion_jobs.forget(site.db, OWNER, job.id)
    for call in (conversion_jobs.cancel, conversion_jobs.forget):
        with pytest.raises(exception.NotFound):
            call(site.db, OWNER, job.id)
    assert site.result(job)["status"] == "killed"


def test_a_running_job_is_cancelled_by_its_converter(site: Site) -> None:
    job = site.leased()
    with pytest.raises(exception.Conflict, match="has not ended yet"):
        conversion_jobs.forget(site.db, OWNER, job.id)
    assert conversion_jobs.cancel(site.db, OWNER, job.id).status == "cancelling"
    assert conversion_jobs.cancel(site.db, OWNER, job.id).status == "cancelling"
    assert site.report(job, phase=Phase.CONVERTING).status == "cancelling"
    assert site.end(job, "stopped").status == "cancelled"
    assert site.result(job)["status"] == "killed"


def test_a_job_of_a_lost_converter_is_cancelled_at_once(plain: Site) -> None:
    job = plain.leased()
    plain.clock.later(60)
    assert conversion_jobs.cancel(plain.db, OWNER, job.id).status == "cancelled"


@pytest.mark.parametrize("begun", [False, True])
def test_to_delete_the_result_cancels_the_job(site: Site, begun: bool) -> None:
    job = site.leased() if begun else site.create().job
    api.image_delete(site.db, OWNER, int(job.image_id))
    assert site.get(job).status == ("cancelling" if begun else "cancelled")
    if begun:
        assert site.report(job).status == "cancelling"
        assert site.end(job, "failed", code=Code.HOST_FAILED).status == "cancelled"
    assert site.lease() == []
    image = site.result(job)
    assert image["deleted"] and "conversion_error" not in image["properties"]


def test_a_deletion_by_an_older_registry_cancels_it_too(plain: Site) -> None:
    running, waiting = plain.leased(), plain.create(disk_format="vdi").job
    with plain.db.write() as conn:
        conn.execute(models.images.update().where(models.images.c.disk_format != "raw")
                     .values(deleted=True, status="deleted"))  # fmt: skip
    assert plain.report(running).status == "cancelling"
    assert plain.end(running, "released").status == "cancelled"
    assert plain.lease() == []
    assert plain.get(waiting).status == "cancelled"


def test_purged_images_do_not_keep_a_job_from_its_end(plain: Site) -> None:
    running, waiting = plain.leased(), plain.create(disk_format="vdi").job
    api.image_delete(plain.db, OWNER, int(running.image_id), "deleted")
    api.image_delete(plain.db, OWNER, plain.source, "deleted")
    with plain.db.write() as conn:
        # The record with the highest id is never purged.
        conn.execute(models.images.update().values(updated_at=plain.clock()))
    plain.image()
    assert maintenance.purge(plain.db, datetime.datetime.max) == 2
    assert plain.end(running, "stopped").status == "cancelled"
    assert plain.lease() == []
    assert plain.get(waiting).error is Code.SOURCE_GONE
    assert [job.id for job in conversion_jobs.find(plain.db, OWNER)] == [waiting.id, running.id]


# -- leases --------------------------------------------------------------------------------------


def test_a_lost_converter_loses_its_job(site: Site) -> None:
    job = site.leased()
    site.set(job, status="saving")
    site.clock.later(59)
    assert site.lease("w2") == []
    site.clock.later(2)
    (again,) = site.lease("w2")
    assert (again.job.id, again.job.losses, again.image["status"]) == (job.id, 1, "queued")
    with pytest.raises(LeaseLost):
        site.end(job, "failed", code=Code.TIMEOUT)
    for worker in ("w3", "w4"):
        site.clock.later(61)
        site.lease(worker)
    lost = site.get(job)
    assert (lost.status, lost.error) == ("failed", Code.WORKER_LOST)
    image = site.result(job)
    assert (image["status"], image["properties"]["conversion_error"]) == ("killed", "worker_lost")


def test_a_converter_that_was_lost_after_its_success_has_succeeded(site: Site) -> None:
    job = site.leased()
    site.activate(job)
    site.clock.later(61)
    assert site.lease("w2") == []
    done = site.get(job)
    assert (done.status, done.bytes_out, done.error) == ("succeeded", 20, None)
    # Also if it was the last of three.
    third = site.leased(disk_format="vhd")
    for worker in ("w2", "w1"):
        site.clock.later(61)
        assert len(site.lease(worker)) == 1
    site.activate(third)
    site.clock.later(61)
    assert site.lease("w2") == []
    assert (site.get(third).status, site.get(third).losses) == ("succeeded", 2)
    # Whatever it says of it.
    other = site.leased(disk_format="vdi")
    site.activate(other)
    assert site.end(other, "failed", code=Code.HOST_FAILED).status == "succeeded"
    assert site.result(other)["status"] == "active"


def test_a_result_that_comes_late_counts(plain: Site) -> None:
    job = plain.leased()
    plain.clock.later(61)
    plain.lease("w2", 0)
    plain.activate(job)
    assert plain.lease("w2") == []
    assert plain.get(job).status == "succeeded"


def test_a_lease_whose_response_was_lost_is_given_again(site: Site) -> None:
    first, second = site.leased(), site.leased(disk_format="vdi")
    site.report(first, phase=Phase.CONVERTING)
    site.clock.later(30)
    (again,) = site.lease(count=0, held=[second.id])
    assert (again.job.id, again.job.phase, again.job.attempts) == (first.id, Phase.FETCHING, 2)
    assert site.lease("w2", 5, held=[]) == []
    conversion_jobs.cancel(site.db, OWNER, first.id)
    api.image_delete(site.db, OWNER, site.source)
    assert site.lease(held=[]) == []
    assert site.get(first).status == "cancelled"
    assert site.get(second).error is Code.SOURCE_GONE


def test_a_job_that_its_converter_cannot_bear_comes_to_an_end(plain: Site) -> None:
    job = plain.leased()
    plain.set(job, status="saving")
    (again,) = plain.lease(held=[])
    assert (again.job.losses, again.image["status"]) == (1, "queued")
    assert len(plain.lease(held=[])) == 1
    assert plain.lease(held=[]) == []
    assert plain.get(job).error is Code.WORKER_LOST
    assert plain.result(job)["properties"]["conversion_error"] == "worker_lost"


def test_old_jobs_are_forgotten(site: Site) -> None:
    old = site.leased()
    site.end(old, "failed", code=Code.TIMEOUT)
    waiting = site.create(disk_format="vdi").job
    site.clock.later(100)
    site.lease("w1", 0, retention=101)
    assert site.get(old).status == "failed"
    site.lease("w1", 0, retention=99)
    with pytest.raises(exception.NotFound):
        site.get(old)
    assert site.get(waiting).status == "queued"
    site.lease("w1", 0, retention=2**31 - 1)


def test_converters_that_are_silent_are_forgotten(plain: Site) -> None:
    for number in range(3):
        plain.lease(f"w{number}", 0)
    plain.clock.later(3601)
    plain.lease("new", 0)
    with plain.db.read() as conn:
        assert conn.execute(sa.select(models.conversion_workers.c.name)).scalars().all() == ["new"]


def in_threads(count: int, work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []
    gate = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            gate.wait(30)
            work(number)
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_many_converters_never_share_a_job(site: Site) -> None:
    made = {site.create(source=site.image()).job.id for _ in range(12)}
    given: list[str] = []

    def work(number: int) -> None:
        while found := site.lease(f"w{number}", 2):
            given.extend(leased.job.id for leased in found)

    in_threads(6, work)
    assert sorted(given) == sorted(made)


def test_many_requests_at_once_keep_the_limits(site: Site) -> None:
    sources = [site.image() for _ in range(6)]
    made: list[str] = []

    def work(number: int) -> None:
        try:
            limits = {"max_jobs_per_owner": 2}
            made.append(site.create(source=sources[number], limits=limits).job.id)
        except exception.TooManyRequests:
            pass

    in_threads(6, work)
    assert len(made) == len(conversion_jobs.find(site.db, OWNER)) == 2


def test_the_same_request_many_times_at_once_makes_one_job(site: Site) -> None:
    made: list[Any] = []
    in_threads(5, lambda number: made.append(site.create()))
    assert len({created.job.id for created in made}) == 1
    assert sum(created.is_new for created in made) == 1


def test_deletions_and_converters_end_in_one_state(site: Site) -> None:
    jobs = [site.create(source=site.image()).job for _ in range(4)]

    def work(number: int) -> None:
        if number % 2:
            for leased in site.lease(f"w{number}", 2):
                try:
                    site.end(leased.job, "failed", f"w{number}", code=Code.TIMEOUT)
                except LeaseLost:
                    pass
        else:
            for job in jobs[number // 2 :: 2]:
                api.image_delete(site.db, OWNER, int(job.image_id))

    in_threads(4, work)
    for job in jobs:
        assert site.result(job)["deleted"]
        assert site.get(job).status in ("failed", "cancelled", "cancelling")


# -- others and the image of a job ---------------------------------------------------------------


def test_nobody_else_fills_the_image_of_a_job(plain: Site) -> None:
    job = plain.create().job
    number = int(job.image_id)
    for values in (
        {"status": "saving"},
        {"status": "active", "location": "file:///srv/mine"},
        {"disk_format": "raw"},
    ):
        with pytest.raises(exception.Conflict, match="cancel that first"):
            api.image_update(plain.db, OWNER, number, values)
    assert plain.result(job)["status"] == "queued"
    api.image_update(plain.db, OWNER, number, {"name": "mine", "properties": {"a": "b"}})
    conversion_jobs.cancel(plain.db, OWNER, job.id)
    api.image_update(plain.db, OWNER, number, {"disk_format": "raw"})


# -- whatever happens ----------------------------------------------------------------------------


class Chaos:
    """Users, converters that die, and converters that do not know that they have lost a job."""

    def __init__(self, site: Site, seed: int):
        self.site, self.chance = site, random.Random(seed)
        self.known: dict[str, set[str]] = {f"w{number}": set() for number in range(3)}
        self.jobs: list[Any] = []

    def step(self) -> None:
        names = ("start", "cancel", "delete", "lease", "lease", "lose", "report", "fill", "fill")
        more = ("activate", "activate", "give_up", "end", "end", "wait", "wait", "unsource")
        getattr(self, self.chance.choice((*names, *more)))()

    def job(self) -> Any:
        return self.chance.choice(self.jobs) if self.jobs else None

    def held(self) -> tuple[str, str] | None:
        pairs = sorted((who, job) for who, jobs in self.known.items() for job in jobs)
        return self.chance.choice(pairs) if pairs else None

    # What users do.

    def start(self) -> None:
        made = self.site.create(source=self.site.image())
        self.jobs.append(made.job)

    def cancel(self) -> None:
        job = self.job()
        if job is not None and not self.site.get(job).status.is_final:
            conversion_jobs.cancel(self.site.db, OWNER, job.id)

    def delete(self) -> None:
        job = self.job()
        if job is not None and not self.site.result(job)["deleted"]:
            api.image_delete(self.site.db, OWNER, int(job.image_id))

    def unsource(self) -> None:
        job = self.job()
        if job is not None and self.chance.random() < 0.2:
            with contextlib.suppress(exception.NotFound):
                api.image_delete(self.site.db, OWNER, int(job.source_image_id))

    # What converters do.

    def lease(self) -> None:
        who = self.chance.choice(sorted(self.known))
        held = self.known[who] if self.chance.random() < 0.5 else None
        for leased in self.site.lease(who, 2, held=held):
            assert leased.job.worker == who
            self.known[who].add(leased.job.id)

    def lose(self) -> None:
        """Die, and come back."""
        self.known[self.chance.choice(sorted(self.known))].clear()

    def report(self) -> None:
        if (pair := self.held()) is not None:
            with contextlib.suppress(LeaseLost):
                conversion_leases.report(self.site.db, *pair)

    def _set(self, job_id: str, before: str, **values: Any) -> None:
        image_id = int(conversion_jobs.get(self.site.db, ADMIN, job_id).image_id)
        with contextlib.suppress(exception.NotFound, exception.Conflict):
            api.image_update(self.site.db, ADMIN, image_id, values, from_state=before)

    def fill(self) -> None:
        if (pair := self.held()) is not None:
            self._set(pair[1], "queued", status="saving")

    def activate(self) -> None:
        if (pair := self.held()) is not None:
            self._set(pair[1], "saving", status="active", location="file:///srv/2", size=20)

    def give_up(self) -> None:
        if (pair := self.held()) is not None:
            status = self.chance.choice(["queued", "queued", "killed"])
            self._set(pair[1], "saving", status=status)

    def end(self) -> None:
        if (pair := self.held()) is None:
            return
        who, job_id = pair
        self.known[who].discard(job_id)
        outcome = self.chance.choice(list(Outcome))
        code = self.chance.choice([Code.TIMEOUT, Code.NO_SPACE, Code.STORE_FULL])
        more: dict[str, Any] = {"code": code} if outcome is Outcome.FAILED else {}
        if outcome is Outcome.SUCCEEDED:
            more = {"result": RESULT}
        with contextlib.suppress(LeaseLost, exception.Invalid):
            conversion_leases.end(self.site.db, who, job_id, outcome, **more)

    def wait(self) -> None:
        self.site.clock.later(self.chance.choice([1, 30, 61, 3600]))
        self.site.lease("alive", 0)

    # What is always true.

    def check(self) -> None:
        now = self.site.clock.now
        for made in self.jobs:
            job, image = self.site.get(made), self.site.result(made)
            where = (job.status.value, image["status"], image["deleted"])
            is_at_work = job.leased_until is not None
            assert is_at_work == (job.status in ("running", "cancelling")), where
            assert job.losses <= 3
            if image["deleted"]:
                assert job.status.is_final or job.status == "cancelling", where
            elif job.status in ("failed", "cancelled"):
                assert image["status"] == "killed", where
                assert image["properties"]["conversion_error"], where
            elif job.status == "succeeded":
                assert image["status"] == "active", where
            else:
                assert "conversion_error" not in image["properties"], where
            assert is_at_work or job.status.is_final or job.not_before is None or job.error, now


@pytest.mark.parametrize("seed", range(6))
def test_jobs_and_images_agree_whatever_happens(plain: Site, seed: int) -> None:
    chaos = Chaos(plain, seed)
    for _ in range(80):
        chaos.step()
        chaos.check()
    # Once nobody interferes, every job comes to an end.
    for _ in range(40):
        plain.clock.later(3700)
        plain.lease("alive", 0)
        for leased in plain.lease("last", 100):
            chaos._set(leased.job.id, "queued", status="saving")
            values = {"status": "active", "location": "file:///srv/3", "size": 20}
            chaos._set(leased.job.id, "saving", **values)
            conversion_leases.end(plain.db, "last", leased.job.id, Outcome.SUCCEEDED,
                                  result=RESULT)  # fmt: skip
        chaos.check()
        if all(plain.get(job).status.is_final for job in chaos.jobs):
            return
    raise AssertionError([plain.get(job).status for job in chaos.jobs])
