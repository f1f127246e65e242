"""The life of a job: what follows what, who may change it, and when it is tried again."""

import dataclasses
import datetime
import json
import random

import pytest

from glance.common import exception
from glance.image import conversion_job as job
from glance.image.conversion_codes import Code
from glance.image.conversion_job import Job, LeaseLost, Phase, Status

BEGIN = datetime.datetime(2026, 11, 27, 12, 0)
RESULT = {"bytes_in": 10, "bytes_out": 20, "virtual_size": 30}
PASSING = [code for code in Code if code.may_pass and code is not Code.INTERRUPTED]
LASTING = [code for code in Code if not code.may_pass]


def at(seconds):
    return BEGIN + datetime.timedelta(seconds=seconds)


@pytest.fixture
def waiting():
    return Job("0b5c9c64-6a0e-4d0c-b2d5-2f4f6f6d3f10", "1", "2", "raw", "vdi", "me", BEGIN)


@pytest.fixture
def running(waiting):
    return waiting.begun("one", at(1))


def test_the_way_to_success(waiting, running):
    assert waiting.is_due(BEGIN)
    assert (running.status, running.phase, running.progress) == ("running", Phase.FETCHING, 0)
    assert (running.attempts, running.started_at) == (1, at(1))
    now = running
    for phase in Phase:
        now = now.renewed("one", at(30)).at("one", at(31), phase, 50, bytes_in=5)
        assert (now.phase, now.progress, now.bytes_in) == (phase, 50, 5)
    done = now.succeeded("one", at(60), RESULT)
    assert (done.status, done.phase, done.progress) == ("succeeded", None, 100)
    assert (done.bytes_in, done.bytes_out, done.virtual_size) == (10, 20, 30)
    assert (done.started_at, done.finished_at) == (at(1), at(60))
    assert done.worker is done.leased_until is None


def test_the_job_as_a_client_sees_it(waiting, running):
    assert waiting.to_json() == {
        "id": "0b5c9c64-6a0e-4d0c-b2d5-2f4f6f6d3f10",
        "status": "queued",
        "phase": None,
        "progress": None,
        "source_image_id": "1",
        "image_id": "2",
        "source_format": "raw",
        "disk_format": "vdi",
        "created_at": "2026-11-27T12:00:00Z",
        "started_at": None,
        "finished_at": None,
        "bytes_in": None,
        "bytes_out": None,
        "virtual_size": None,
        "attempts": 0,
        "error": None,
        "owner": "me",
    }
    failed = running.failed("one", at(2), Code.UNSAFE_IMAGE).to_json()
    assert failed["error"] == {"code": "unsafe_image", "message": Code.UNSAFE_IMAGE.text}
    assert failed["finished_at"] == "2026-11-27T12:00:02Z"
    shown = json.loads(json.dumps(running.to_json()))
    assert (shown["phase"], shown["progress"]) == ("fetching", 0)
    # Neither the worker nor its lease is anybody's business.
    assert "one" not in json.dumps(shown)


# -- leases --------------------------------------------------------------------------------------


def test_one_worker_only_begins_a_job(running):
    with pytest.raises(exception.Conflict):
        running.begun("two", at(2))


@pytest.mark.parametrize("name", ["", "a b", "\u00fc", "x\n", "x" * 256])
def test_a_worker_has_a_name(waiting, name):
    with pytest.raises(ValueError):
        waiting.begun(name, BEGIN)


def changes(one, worker, now):
    yield lambda: one.renewed(worker, now)
    yield lambda: one.at(worker, now, Phase.CONVERTING, 1)
    yield lambda: one.succeeded(worker, now, RESULT)
    yield lambda: one.failed(worker, now, Code.TIMEOUT)
    yield lambda: one.stopped(worker, now)


@pytest.mark.parametrize(("worker", "seconds"), [("two", 2), ("one", 61), ("one", 1000)])
def test_who_has_no_lease_changes_nothing(running, worker, seconds):
    for change in changes(running, worker, at(seconds)):
        with pytest.raises(LeaseLost):
            change()


def test_a_lease_lasts_a_minute_and_is_renewed(running):
    assert not running.has_lapsed(at(60.9))
    assert running.has_lapsed(at(61))
    assert not running.renewed("one", at(60)).has_lapsed(at(119))
    with pytest.raises(exception.Conflict):
        running.taken_back(at(60))


def test_a_worker_that_was_lost_is_so_for_good(running):
    again = running.taken_back(at(61)).begun("two", at(62))
    assert (again.status, again.attempts, again.started_at) == ("running", 2, at(1))
    for change in changes(again, "one", at(63)):
        with pytest.raises(LeaseLost):
            change()
    # Not even under its own name, in a lease that came later.
    assert again.renewed("two", at(63)).leased_until == at(123)
    assert (again.last_worker, again.taken_back(at(122)).last_worker) == ("two", "two")


def test_a_job_that_its_worker_does_not_know_of_begins_again(running):
    again = running.at("one", at(2), Phase.UPLOADING, 7).begun_again("one", at(3))
    assert (again.phase, again.progress, again.leased_until) == (Phase.FETCHING, 0, at(63))
    assert (again.attempts, again.losses, again.started_at) == (2, 1, at(1))
    for worker, seconds in (("two", 3), ("one", 61)):
        with pytest.raises(LeaseLost):
            running.begun_again(worker, at(seconds))
    assert running.cancelled(at(2)).begun_again("one", at(3)).status == "cancelled"
    lost = again.begun_again("one", at(4)).begun_again("one", at(5))
    assert (lost.status, lost.error) == ("failed", Code.WORKER_LOST)


def test_a_result_that_is_there_is_a_success_whoever_has_the_job(waiting, running):
    for one in (waiting, running, running.cancelled(at(2))):
        done = one.found_done(at(3), 20)
        assert (done.status, done.progress, done.bytes_out) == ("succeeded", 100, 20)
        assert done.worker is done.leased_until is done.error is None
        with pytest.raises(exception.Conflict):
            done.found_done(at(4), 20)


def test_three_lost_workers_are_enough(waiting):
    one, now = waiting, 0
    for losses in (1, 2, 3):
        one = one.begun("w", at(now))
        now += 60
        one = one.taken_back(at(now))
        assert one.losses == losses
    assert (one.status, one.error, one.finished_at) == ("failed", Code.WORKER_LOST, at(180))


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", LASTING, ids=lambda code: code.label)
def test_what_does_not_pass_is_the_end(running, code):
    failed = running.failed("one", at(2), code)
    assert (failed.status, failed.error, failed.finished_at) == ("failed", code, at(2))


@pytest.mark.parametrize("code", PASSING, ids=lambda code: code.label)
def test_what_may_pass_is_tried_again_later_each_time(waiting, code):
    one, now, pauses = waiting, BEGIN, []
    for _ in range(12):
        one = one.begun("one", now).failed("one", now, code)
        assert (one.status, one.error) == ("queued", code)
        pause = (one.not_before - now).total_seconds()
        assert not one.is_due(now + datetime.timedelta(seconds=pause - 0.1))
        now = one.not_before
        assert one.is_due(now)
        pauses.append(pause)
    assert pauses[:5] == [30, 60, 120, 240, 480]
    assert pauses[-1] == 3600
    assert (one.attempts, one.losses) == (12, 0)
    assert one.begun("one", now).error is None


def test_a_worker_that_stops_gives_its_job_back_at_once(running):
    back = running.failed("one", at(2), Code.INTERRUPTED)
    assert (back.status, back.error, back.failures, back.losses) == ("queued", None, 0, 0)
    assert back.is_due(at(2))


def test_a_waiting_job_whose_source_is_gone_is_given_up(waiting, running):
    gone = waiting.given_up(at(2), Code.SOURCE_GONE)
    assert (gone.status, gone.error) == ("failed", Code.SOURCE_GONE)
    for one, code in ((running, Code.SOURCE_GONE), (waiting, Code.NO_SPACE)):
        with pytest.raises(exception.Conflict):
            one.given_up(at(2), code)


# -- cancelling ----------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once(waiting):
    assert waiting.cancelled(at(1)).status == "cancelled"
    assert not waiting.cancelled(at(1)).is_due(at(2))


def test_a_running_job_is_cancelled_by_its_worker(running):
    asked = running.cancelled(at(2))
    assert (asked.status, asked.worker, asked.phase) == ("cancelling", "one", Phase.FETCHING)
    assert asked.cancelled(at(3)) == asked
    assert asked.renewed("one", at(3)).status == "cancelling"
    assert asked.stopped("one", at(4)).status == "cancelled"
    # Whatever it fails of meanwhile.
    for code in Code:
        assert asked.failed("one", at(4), code).status == "cancelled"
    # A result that is there already stays.
    assert asked.succeeded("one", at(4), RESULT).status == "succeeded"
    # Its worker is lost.
    assert asked.taken_back(at(61)).status == "cancelled"


@pytest.mark.parametrize("status", [status for status in Status if status.is_final])
def test_what_has_ended_stays_so(running, status):
    ends = {
        Status.SUCCEEDED: lambda: running.succeeded("one", at(2), RESULT),
        Status.FAILED: lambda: running.failed("one", at(2), Code.TIMEOUT),
        Status.CANCELLED: lambda: running.stopped("one", at(2)),
    }
    one = ends[status]()
    assert one.status is status
    with pytest.raises(exception.Conflict, match=f"has {status} already"):
        one.cancelled(at(3))
    with pytest.raises(exception.Conflict):
        one.begun("two", at(3))
    with pytest.raises(exception.Conflict):
        one.taken_back(at(1000))
    for change in changes(one, "one", at(3)):
        with pytest.raises(LeaseLost):
            change()
    assert one.is_kept(at(11), 10)
    assert not one.is_kept(at(12), 10)


def test_a_job_that_has_not_ended_is_kept(waiting):
    assert waiting.is_kept(at(10**9), 0)


# -- progress, and the same work -----------------------------------------------------------------


@pytest.mark.parametrize("percent", [-1, 101])
def test_a_percentage_is_one(running, percent):
    with pytest.raises(ValueError):
        running.at("one", at(2), Phase.FETCHING, percent)


def test_no_phase_comes_back(running):
    later = running.at("one", at(2), Phase.VERIFYING)
    assert later.progress is None
    with pytest.raises(ValueError):
        later.at("one", at(3), Phase.CONVERTING, 1)


def test_the_same_work(waiting, running):
    assert waiting.is_same_work(running)
    for change in (
        {"source_image_id": "9"},
        {"disk_format": "vhd"},
        {"source_format": "vhd"},
        {"compress": True},
        {"store": "swift"},
        {"owner": "you"},
        {"owner": None},
    ):
        assert not waiting.is_same_work(dataclasses.replace(waiting, **change))


# -- all of it -----------------------------------------------------------------------------------


def anything(one, worker, now, chance):
    """Yield what may happen to a job next; its end is rare."""
    yield lambda: one.begun(worker, now)
    yield lambda: one.taken_back(now)
    yield lambda: one.failed(worker, now, chance.choice(PASSING))
    yield lambda: one.failed(worker, now, Code.INTERRUPTED)
    if chance.random() < 0.05:
        yield lambda: one.cancelled(now)
        yield from changes(one, worker, now)


@pytest.mark.parametrize("seed", range(20))
def test_a_job_lives_by_the_table_whatever_happens(waiting, seed):
    chance = random.Random(seed)
    one, now = waiting, BEGIN
    for _ in range(100):
        now += datetime.timedelta(seconds=chance.choice([1, 20, 59, 61, 4000]))
        change = chance.choice([*anything(one, chance.choice(["one", "two"]), now, chance)])
        try:
            changed = change()
        except (exception.Conflict, LeaseLost):
            continue
        assert changed.status is one.status or changed.status in job.FOLLOWERS[one.status]
        is_at_work = changed.status in (Status.RUNNING, Status.CANCELLING)
        assert is_at_work == (changed.worker is not None) == (changed.leased_until is not None)
        assert is_at_work == (changed.phase is not None)
        assert changed.status.is_final == (changed.finished_at is not None)
        assert changed.attempts >= one.attempts and changed.losses <= job.MAX_LOSSES
        one = changed
        json.dumps(one.to_json())
