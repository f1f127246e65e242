"""The lease of a job: kept by reports, and never relied on when it may be another's."""

import threading

import pytest

from glance.common import exception
from glance.conversion import engine
from glance.conversion.errors import Cancelled, Code, ConversionError
from glance.converter import lease
from glance.image import conversion_job
from glance.image.conversion_job import LeaseLost
from glance.streaming.retry import Backoff

PATIENCE = 20
JOB = "0f5b0f0e-3f3e-4c1e-9d53-6d2f3f1d2a11"
Phase = engine.Phase


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Registry:
    """Takes reports; `replies` come in turn, the last one for ever. An error is raised."""

    def __init__(self, *replies):
        self.replies = list(replies) or ["running"]
        self.reports = []
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()

    def __call__(self, phase, progress, **sizes):
        self.asked.set()
        assert self.open.wait(PATIENCE)
        self.reports.append((phase, progress, sizes))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return {"status": reply}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(lease, "PAUSE", 0.02)
    monkeypatch.setattr(lease, "NEWS_PAUSE", 0.01)
    monkeypatch.setattr(lease, "BACKOFF", Backoff.steady(0.01))


def ended(stop):
    """Wait until a conversion is told to end; return what it is told."""
    end = threading.Event()
    for _ in range(PATIENCE * 100):
        try:
            stop.check()
        except (Cancelled, ConversionError) as err:
            return err
        end.wait(0.01)
    raise AssertionError("nobody told it to end")


# -- how long it can be relied on ----------------------------------------------------------------


def test_a_lease_is_given_up_before_it_lapses():
    clock = Clock()
    stop = lease.LeasedStop(clock)
    clock.now += conversion_job.LEASE - lease.MARGIN - 0.1
    stop.check()
    clock.now += 0.2
    assert stop.is_lost
    with pytest.raises(ConversionError) as caught:
        stop.check()
    assert caught.value.code is Code.INTERRUPTED


def test_a_lease_counts_from_when_it_was_asked_for():
    clock = Clock()
    stop = lease.LeasedStop(clock)
    asked_at = clock.now + 20
    clock.now += 40
    stop.renewed(asked_at)
    clock.now = asked_at + conversion_job.LEASE - lease.MARGIN
    assert stop.is_lost
    stop.renewed(clock.now)
    assert not stop.is_lost


def test_the_margin_is_enough_to_kill_a_tool_that_does_not_end():
    from glance.conversion import process

    assert lease.MARGIN > process.GRACE
    assert lease.MARGIN + conversion_job.RENEWAL < conversion_job.LEASE


# -- reports -------------------------------------------------------------------------------------


def test_a_lease_is_renewed_without_news():
    registry = Registry()
    stop = lease.LeasedStop()
    with lease.Lease(JOB, registry, stop):
        while len(registry.reports) < 3:
            assert registry.asked.wait(PATIENCE)
    assert registry.reports[0] == (None, None, {})


def test_the_work_does_not_wait_for_a_registry_that_hangs():
    registry = Registry()
    registry.open.clear()
    with lease.Lease(JOB, registry, lease.LeasedStop()) as kept:
        kept.began(Phase.FETCHING)
        assert registry.asked.wait(PATIENCE)
        for percent in range(100):
            kept.progressed(percent, percent)
        kept.began(Phase.CONVERTING)
        kept.measured(7)
        assert registry.reports == []
        registry.open.set()


def test_nothing_is_stored_before_the_registry_knows_of_it():
    registry = Registry(
        exception.RegistryUnavailable(), exception.RegistryUnavailable(), "running"
    )
    with lease.Lease(JOB, registry, lease.LeasedStop()) as kept:
        kept.began(Phase.FETCHING)
        kept.progressed(100, 12)
        kept.measured(512)
        kept.began(Phase.UPLOADING)
        known = registry.reports[-1]
        assert known == ("uploading", None, {"bytes_in": 12, "virtual_size": 512})
        kept.progressed(1, 2)
        assert registry.reports[-1] == (
            *("uploading", 1),
            {"bytes_in": 12, "virtual_size": 512, "bytes_out": 2},
        )
        count = len(registry.reports)
        registry.open.clear()
        # From here on progress is news like any other.
        kept.progressed(50, 4)
        kept.progressed(100, 8)
        assert len(registry.reports) - count <= 1
        registry.open.set()


def test_who_waits_for_a_registry_that_stays_away_ends_with_the_lease():
    clock = Clock()
    stop = lease.LeasedStop(clock)
    registry = Registry(exception.RegistryUnavailable())
    with lease.Lease(JOB, registry, stop) as kept:
        threading.Timer(0.1, lambda: setattr(clock, "now", clock.now + 50)).start()
        with pytest.raises(ConversionError):
            kept.began(Phase.UPLOADING)
    assert stop.is_lost


def test_a_cancelled_job_ends():
    stop = lease.LeasedStop()
    with lease.Lease(JOB, Registry("running", "cancelling"), stop):
        assert isinstance(ended(stop), Cancelled)
    assert not stop.is_lost


@pytest.mark.parametrize("error", [LeaseLost(), exception.Invalid("no"), exception.NotFound("no")])
def test_a_lost_job_ends(error):
    stop = lease.LeasedStop()
    with lease.Lease(JOB, Registry("running", error), stop):
        assert ended(stop).code is Code.INTERRUPTED
    assert stop.is_lost


@pytest.mark.parametrize(
    "error",
    [exception.RegistryUnavailable(), exception.ClientConnectionError("x"), exception.Forbidden()],
)
def test_a_registry_that_is_away_for_a_moment_costs_nothing(error, caplog):
    stop = lease.LeasedStop()
    registry = Registry("running", error, error, error, "running")
    with lease.Lease(JOB, registry, stop):
        while len(registry.reports) < 6:
            assert registry.asked.wait(PATIENCE)
        stop.check()
    # However often it is tried, the operator is told once.
    assert len([each for each in caplog.records if each.levelname == "WARNING"]) == 1


def test_after_the_end_nothing_is_reported():
    registry = Registry()
    with lease.Lease(JOB, registry, lease.LeasedStop()):
        assert registry.asked.wait(PATIENCE)
    assert not [
        thread for thread in threading.enumerate() if JOB in thread.name and not _gone(thread)
    ]


def _gone(thread):
    thread.join(PATIENCE)
    return not thread.is_alive()
