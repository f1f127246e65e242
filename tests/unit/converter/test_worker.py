"""A converter at work: what becomes of jobs and images, whatever happens."""

import threading
import types

import pytest

from glance.api import upload
from glance.common import exception, metrics
from glance.conversion import engine
from glance.conversion.errors import Code, ConversionError
from glance.converter import lease, worker
from glance.registry.link import RegistryLink
from glance.store import staging
from glance.streaming import retry
from tests.unit.converter.conftest import OWNER, until

DATA = b"data of a disk!!" * 4096


def other(number):
    """Return the data of another disk."""
    return bytes([number]) * 1024 + DATA


def refuse(code):
    def inspect(fd, disk_format):
        raise ConversionError(code, "a secret of the image")

    return inspect


# -- a good end ----------------------------------------------------------------------------------


def test_an_image_is_converted(shop, caplog):
    source = shop.put(DATA)
    job = shop.order(source, name="result")
    with shop.working():
        done = shop.final(job)
    assert (done["status"], done["error"], done["progress"]) == ("succeeded", None, 100)
    assert (done["bytes_in"], done["bytes_out"], done["virtual_size"]) == (len(DATA),) * 3
    image = shop.image(job)
    assert (image["status"], image["size"], image["checksum"]) == (
        *("active", len(DATA)),
        source["checksum"],
    )
    assert image["properties"]["conversion_virtual_size"] == str(len(DATA))
    assert image["owner"] == OWNER.tenant
    assert shop.data(job) == DATA
    assert shop.left(source, image) == []
    (line,) = [each.getMessage() for each in caplog.records if each.name == engine.LOG.name]
    assert f"Job {job['id']} (image {source['id']} to image {job['image_id']}): raw to raw" in line
    assert [(event, priority) for event, priority, _ in shop.events] == [
        ("image.upload", "INFO"),
        ("image.activate", "INFO"),
        ("image.convert", "INFO"),
    ]
    payload = shop.events[-1][2]
    assert payload.pop("seconds") > 0
    assert payload == {
        "job_id": job["id"],
        "source_image_id": str(source["id"]),
        "image_id": job["image_id"],
        "source_format": "raw",
        "disk_format": "raw",
    }
    assert "location" not in str(shop.events)


def test_each_end_is_counted_by_its_code(shop, monkeypatch):
    counted = []
    monkeypatch.setattr(metrics.CONVERSIONS, "inc", lambda *labels: counted.append(labels))
    for inspect in (None, refuse(Code.UNSAFE_IMAGE)):
        made = shop.worker()
        made.converter.inspect = inspect or made.converter.inspect
        job = shop.order(shop.put(other(len(counted))))
        with shop.working(made):
            shop.final(job)
    assert counted == [("succeeded",), ("unsafe_image",)]


def test_as_many_jobs_run_at_once_as_there_are_workers(make):
    shop = make(conversion_workers=2)
    shop.hold.touch()
    sources = [shop.put(other(number)) for number in range(3)]
    jobs = [shop.order(source) for source in sources]
    with shop.working():
        until(lambda: [shop.job(job)["phase"] for job in jobs].count("converting") == 2)
        assert [shop.job(job)["status"] for job in jobs].count("queued") == 1
        shop.hold.unlink()
        assert {shop.final(job)["status"] for job in jobs} == {"succeeded"}


def test_two_converters_never_share_a_job(shop):
    sources = [shop.put(other(number)) for number in range(4)]
    jobs = [shop.order(source, store=None) for source in sources]
    with shop.working(), shop.working():
        assert {shop.final(job)["status"] for job in jobs} == {"succeeded"}
    assert [shop.job(job)["attempts"] for job in jobs] == [1] * 4


# -- failures of the image -----------------------------------------------------------------------


def test_a_refused_image_is_told_by_its_code_alone(shop, caplog, monkeypatch):
    source = shop.put(DATA)
    job = shop.order(source)
    made = shop.worker()
    made.converter.inspect = refuse(Code.UNSAFE_IMAGE)
    with shop.working(made):
        done = shop.final(job)
    assert (done["status"], done["error"]["code"]) == ("failed", "unsafe_image")
    image = shop.image(job)
    assert image["status"] == "killed"
    assert image["properties"]["conversion_error"] == "unsafe_image"
    assert shop.left(source) == []
    assert "a secret of the image" in caplog.text
    assert "secret" not in str(done) and "secret" not in str(shop.events)
    ((event, priority, payload),) = shop.events
    assert (event, priority, payload["code"]) == ("image.convert", "ERROR", "unsafe_image")
    assert payload["message"] == Code.UNSAFE_IMAGE.text


def test_a_source_that_changed_under_its_record(shop):
    source = shop.put(DATA)
    (shop.api.datadir / str(source["id"])).write_bytes(DATA[:-1] + b"?")
    job = shop.order(source)
    with shop.working():
        assert shop.final(job)["error"]["code"] == "source_corrupt"
    assert shop.left(source) == []


def test_a_slip_of_ours_ends_the_job_and_not_the_converter(shop, monkeypatch, caplog):
    jobs = [shop.order(shop.put(DATA)), shop.order(shop.put(other(2)))]
    convert = engine.Converter.convert
    calls = []

    def slip(self, order, *args, **kwargs):
        calls.append(order)
        if len(calls) == 1:
            raise ZeroDivisionError("of a disk")
        return convert(self, order, *args, **kwargs)

    monkeypatch.setattr(engine.Converter, "convert", slip)
    with shop.working():
        done = [shop.final(job) for job in jobs]
    assert sorted(job["status"] for job in done) == ["failed", "succeeded"]
    (failed,) = [job for job in done if job["status"] == "failed"]
    assert failed["error"]["code"] == "conversion_failed"
    assert "of a disk" not in str(failed)
    assert "ZeroDivisionError" in caplog.text


# -- failures that may pass ----------------------------------------------------------------------


@pytest.mark.parametrize("step", ["stage", "write", "commit"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exception.StorageFull(), "store_full"),
        (exception.BackendUnavailable(), "store_unavailable"),
        (exception.StorageWriteDenied(), "store_unavailable"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_a_store_that_fails_is_tried_again_later(shop, monkeypatch, step, error, code):
    source = shop.put(DATA)
    job = shop.order(source)

    def fail(*args):
        raise error

    cls = staging.StagedFile
    monkeypatch.setattr(
        cls, {"stage": "open", "write": "_write", "commit": "_publish"}[step], fail
    )
    with shop.working():
        until(lambda: (now := shop.job(job))["error"] and now["status"] == "queued")
        now = shop.job(job)
    assert now["error"]["code"] == code
    assert shop.image(job)["status"] == "queued"
    assert shop.left(source) == []


def test_no_room_in_the_work_directory(make):
    shop = make(conversion_disk_reserve=1 << 60)
    source = shop.put(DATA)
    job = shop.order(source)
    with shop.working():
        until(lambda: (now := shop.job(job))["error"] and now["status"] == "queued")
    assert shop.job(job)["error"]["code"] == "no_space"
    assert shop.image(job)["status"] == "queued"


def test_a_quota_of_the_owner_does_not_pass_by_itself(shop, monkeypatch):
    source = shop.put(DATA)
    job = shop.order(source)

    def full(self, *args, **kwargs):
        raise exception.QuotaExceeded("the owner may store 3 more bytes")

    monkeypatch.setattr(RegistryLink, "report_upload", full)
    with shop.working():
        assert shop.final(job)["error"]["code"] == "quota_exceeded"
    assert shop.left(source) == []


def test_data_that_is_in_the_store_already_is_not_touched(shop):
    source = shop.put(DATA)
    job = shop.order(source)
    other = shop.api.datadir / job["image_id"]
    other.write_bytes(b"somebody's")
    with shop.working():
        assert shop.final(job)["error"]["code"] == "conversion_failed"
    assert other.read_bytes() == b"somebody's"
    assert shop.image(job)["status"] == "killed"


def test_an_unknown_store_waits_for_a_converter_that_has_it(shop, monkeypatch):
    source = shop.put(DATA)
    job = shop.order(source, store="elsewhere")
    with shop.working():
        until(lambda: (now := shop.job(job))["error"] and now["status"] == "queued")
    assert shop.job(job)["error"]["code"] == "store_unavailable"


# -- cancelling ----------------------------------------------------------------------------------


def held_at(shop, made, phase):
    """Have a converter stop at a phase until the event that is returned is set."""
    reached, go = threading.Event(), threading.Event()
    began = lease.Lease.began

    def hold(self, now):
        began(self, now)
        if now is phase:
            reached.set()
            go.wait(60)

    return reached, go, hold


@pytest.mark.parametrize("phase", list(engine.Phase), ids=lambda phase: phase.value)
def test_a_job_is_cancelled_at_each_phase(shop, monkeypatch, phase):
    source = shop.put(DATA)
    job = shop.order(source)
    made = shop.worker()
    reached, go, hold = held_at(shop, made, phase)
    monkeypatch.setattr(lease.Lease, "began", hold)
    with shop.working(made):
        assert reached.wait(30)
        assert shop.link.cancel_conversion(OWNER, job["id"])["status"] == "cancelling"
        (run,) = made._runs()
        until(lambda: run._stop._is_cancelled)
        go.set()
        done = shop.final(job)
    assert (done["status"], done["error"]) == ("cancelled", None)
    assert shop.image(job)["status"] == "killed"
    assert shop.left(source) == []
    assert shop.events == []


@pytest.mark.parametrize("phase", [engine.Phase.CONVERTING, engine.Phase.UPLOADING])
def test_deleting_the_result_cancels_its_job(shop, monkeypatch, phase):
    source = shop.put(DATA)
    job = shop.order(source)
    made = shop.worker()
    reached, go, hold = held_at(shop, made, phase)
    monkeypatch.setattr(lease.Lease, "began", hold)
    with shop.working(made):
        assert reached.wait(30)
        shop.link.delete_image_metadata(OWNER, job["image_id"])
        go.set()
        assert shop.final(job)["status"] == "cancelled"
    assert shop.left(source) == []


def test_deleting_the_source_midway_ends_as_gone_or_not_at_all(shop, monkeypatch):
    source = shop.put(DATA)
    job = shop.order(source)
    made = shop.worker()
    reached, go, hold = held_at(shop, made, engine.Phase.FETCHING)
    monkeypatch.setattr(lease.Lease, "began", hold)
    with shop.working(made):
        assert reached.wait(30)
        shop.api("DELETE", f"/v1/images/{source['id']}", user_id="ann", tenant_id="acme")
        go.set()
        assert shop.final(job)["error"]["code"] == "source_gone"
    assert shop.left() == []


# -- stopping, and being lost --------------------------------------------------------------------


@pytest.mark.parametrize("phase", list(engine.Phase), ids=lambda phase: phase.value)
def test_who_is_stopped_gives_back_what_is_not_done(shop, monkeypatch, phase):
    source = shop.put(DATA)
    job = shop.order(source)
    made = shop.worker()
    reached, go, hold = held_at(shop, made, phase)
    with monkeypatch.context() as patch:
        patch.setattr(lease.Lease, "began", hold)
        with shop.working(made):
            assert reached.wait(30)
            made.stop(0)
            (run,) = made._runs()
            until(lambda: run._stop._is_interrupted)
            go.set()
        assert shop.job(job)["status"] == "queued"
    assert shop.image(job)["status"] == "queued"
    assert shop.left(source) == []
    # Another one has it at once.
    with shop.working():
        assert shop.final(job)["status"] == "succeeded"
    assert shop.data(job) == DATA


def test_who_is_stopped_finishes_what_is_quick_enough_and_begins_nothing(shop):
    shop.hold.touch()
    source = shop.put(DATA)
    job = shop.order(source)
    made = shop.worker()
    thread = threading.Thread(target=made.run)
    thread.start()
    shop.at(job, "converting")
    made.stop(60)
    late = shop.order(shop.put(other(2)))
    shop.hold.unlink()
    thread.join(30)
    assert not thread.is_alive()
    assert shop.job(job)["status"] == "succeeded"
    assert shop.job(late)["status"] == "queued"


def test_the_earliest_deadline_counts(shop):
    shop.hold.touch()
    job = shop.order(shop.put(DATA))
    made = shop.worker()
    thread = threading.Thread(target=made.run)
    thread.start()
    shop.at(job, "converting")
    made.stop(float("inf"))
    made.stop(60)
    made.stop(0)
    made.stop(60)
    thread.join(30)
    assert not thread.is_alive()
    assert shop.job(job)["status"] == "queued"


def test_a_job_for_which_there_is_no_thread_is_given_back(shop, monkeypatch):
    job = shop.order(shop.put(DATA))
    made = shop.worker()

    class Refused:
        def __init__(self, **kwargs):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(worker, "threading", types.SimpleNamespace(Thread=Refused))
    made._turn()
    assert made._runs() == []
    assert shop.job(job)["status"] == "queued"


def test_a_lost_job_is_left_alone(shop, monkeypatch, caplog):
    source = shop.put(DATA)
    job = shop.order(source)
    made = shop.worker()
    reached, go, hold = held_at(shop, made, engine.Phase.CONVERTING)
    monkeypatch.setattr(lease.Lease, "began", hold)
    ends = []
    end = RegistryLink.end_conversion
    monkeypatch.setattr(
        RegistryLink, "end_conversion", lambda *a, **k: ends.append(a) or end(*a, **k)
    )
    with shop.working(made):
        assert reached.wait(30)
        (run,) = made._runs()
        run._stop.lose()
        made.stop(0)
        go.set()
    assert ends == []
    assert shop.job(job)["status"] == "running"
    assert shop.left(source) == []


def test_what_a_lost_converter_has_stored_is_removed_first(shop, monkeypatch):
    """It had come to the commit when its host was lost; another host takes the job over."""
    source = shop.put(DATA)
    job = shop.order(source)
    made = shop.worker()

    def lost(self, *args, **kwargs):
        self.undecided = True
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(upload.Upload, "_activate", lost)
        patch.setattr(staging.AbandonedFile, "leave", lambda self: self.keep())
        patch.setattr(worker.JobWorker, "_turn", _once(worker.JobWorker._turn))
        with shop.working(made):
            until(lambda: (shop.api.datadir / job["image_id"]).exists())
            until(lambda: not made._runs())
    assert shop.image(job)["status"] == "saving"
    lapse(shop, job)
    with shop.working():
        done = shop.final(job)
    assert (done["status"], done["attempts"]) == ("succeeded", 2)
    assert shop.left(source, shop.image(job)) == []


def _once(turn):
    """Let a converter lease jobs at its first turn only."""
    taken = []

    def limited(self):
        if taken:
            return 0.05
        pause = turn(self)
        taken.extend(self._runs())
        return pause

    return limited


def lapse(shop, job):
    """Let the lease of a job have lapsed."""
    import sqlite3

    with sqlite3.connect(shop.registry.path) as database:
        database.execute(
            "UPDATE conversion_jobs SET leased_until = '2020-01-01 00:00:00' WHERE uuid = ?",
            (job["id"],),
        )


# -- the registry --------------------------------------------------------------------------------


class Away:
    """Has the registry out of reach for calls of one name, so many times."""

    def __init__(self, monkeypatch, name, times=3, error=None):
        self.left = times
        self.error = error or exception.RegistryUnavailable("away")
        real = getattr(RegistryLink, name)

        def call(link, *args, **kwargs):
            if self.left:
                self.left -= 1
                raise self.error
            return real(link, *args, **kwargs)

        monkeypatch.setattr(RegistryLink, name, call)


@pytest.mark.parametrize(
    "name", ["lease_conversions", "report_conversion", "end_conversion", "report_upload"]
)
def test_a_registry_that_is_away_for_a_while_costs_nothing(shop, monkeypatch, name, caplog):
    source = shop.put(DATA)
    job = shop.order(source)
    # Of those of an upload, the transaction itself repeats some; what is left is tried again.
    monkeypatch.setattr(upload, "ACTIVATION_BACKOFF", retry.Backoff.steady(0, retries=5))
    away = Away(monkeypatch, name)
    if name == "report_upload":
        away.error.__cause__ = None
    with shop.working():
        if name == "report_upload":
            until(lambda: away.left < 3)
            return
        done = shop.final(job)
    assert away.left == 0
    assert (done["status"], done["attempts"]) == ("succeeded", 1)


def test_a_registry_that_refuses_is_told_once(shop, monkeypatch, caplog):
    away = Away(monkeypatch, "lease_conversions", 5, exception.Forbidden("who are you?"))
    with shop.working():
        until(lambda: not away.left)
        until(lambda: "gives out conversions again" in caplog.text)
    told = [each for each in caplog.records if each.levelname == "ERROR"]
    assert len(told) == 1 and "registry_shared_secret" in told[0].getMessage()


def test_a_slip_in_a_turn_does_not_end_the_converter(shop, monkeypatch, caplog):
    job = shop.order(shop.put(DATA))
    Away(monkeypatch, "lease_conversions", 1, ZeroDivisionError("slip"))
    with shop.working():
        assert shop.final(job)["status"] == "succeeded"
    assert "Looking for conversions failed" in caplog.text


def test_a_result_that_became_active_without_anybody_hearing_of_it(shop, monkeypatch):
    """The end was lost with the lease; whoever takes the job over finds the image active."""
    job = shop.order(shop.put(DATA))
    made = shop.worker()
    away = Away(monkeypatch, "end_conversion", 1, lease.LeaseLost())
    with shop.working(made):
        until(lambda: not away.left)
        done = shop.final(job)
    assert done["status"] == "succeeded"
    assert shop.data(job) == DATA


# -- the start -----------------------------------------------------------------------------------


def test_leftovers_of_the_dead_are_removed_at_start(shop):
    lost = shop.directory / "work" / "0f5b0f0e-3f3e-4c1e-9d53-6d2f3f1d2a11"
    lost.mkdir(parents=True, mode=0o700)
    (lost / "source").write_bytes(b"x")
    (shop.directory / "work").chmod(0o700)
    shop.worker()
    assert not lost.exists()


def test_all_that_a_host_lacks_is_told_at_once(make, tmp_path):
    shop = make(
        conversion_qemu_img="/nowhere/qemu-img",
        conversion_work_dir="/usr/lib/glance",
        default_store="s3",
    )
    with pytest.raises(exception.ConfigError) as caught:
        shop.worker(checked=True)
    assert len(caught.value.problems) == 3
    assert not any("\n" in problem for problem in caught.value.problems)


def test_a_converter_that_is_switched_off_says_so(make):
    with pytest.raises(exception.ConfigError, match=r"conversion_enabled.* is False.*glance-api"):
        make(conversion_enabled=False).worker()
