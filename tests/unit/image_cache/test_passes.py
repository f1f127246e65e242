"""Programs that make passes over the cache: when they go on, and what they tell."""

import pytest

from glance.common import config, exception
from glance.image_cache import passes, prefetcher, pruner, reaper
from glance.image_cache.upkeep import cleaning


class Counting(passes.Passes):
    """Its passes do what `script` says, one after the other, and it stops after the last."""

    script = ()

    def make_pass(self):
        step, *self.script = self.script
        if not self.script:
            self.stop()
        if isinstance(step, Exception):
            raise step
        return step


@pytest.fixture
def program(tmp_path, monkeypatch):
    made = Counting(config.Conf({"image_cache_dir": str(tmp_path / "cache")}))
    waits = []
    monkeypatch.setattr(made.stopped, "wait", waits.append)
    made.waits = waits
    return made


def test_a_pass_that_fails_is_logged_and_followed_by_another(program, caplog):
    program.script = [exception.RegistryUnavailable("away"), "second"]
    program.run()
    assert "The pass was aborted: away" in caplog.text
    assert program.waits == [300, 300]
    assert program.script == []


def test_a_single_pass_raises_what_ended_it(program):
    program.script = [exception.CacheUnavailable("full")]
    with pytest.raises(exception.CacheUnavailable):
        program.run_once()


def test_the_index_is_closed_between_passes(program, monkeypatch):
    closed = []
    monkeypatch.setattr(program.cache, "close", lambda: closed.append(True))
    program.script = ["first", exception.CacheUnavailable("full"), "third"]
    program.run()
    assert closed == [True] * 3


def test_a_program_that_was_stopped_makes_no_pass(program):
    program.script = ["never"]
    program.stop()
    program.run()
    assert program.script == ["never"]


@pytest.mark.parametrize(
    ("outcome", "complete", "text"),
    [
        (pruner.PruneOutcome(2, 10, True), True, "2 files of 10 bytes removed"),
        (
            pruner.PruneOutcome(0, 0, False),
            False,
            "0 files of 0 bytes removed, which is not enough",
        ),
        (
            reaper.CleanOutcome(cleaning.Cleaned(strays=1)),
            True,
            "0 invalid, 0 incomplete, 1 strays, 0 vanished, 0 inactive, 0 requeued",
        ),
        (reaper.CleanOutcome(cleaning.Cleaned(busy=True)), True, "another process is cleaning"),
        (
            prefetcher.PrefetchOutcome(fetched=1, left=2),
            True,
            "1 fetched, 0 dropped from the queue",
        ),
        (prefetcher.PrefetchOutcome(failed=1), False, "1 failed"),
    ],
)
def test_an_outcome_says_what_was_done_and_whether_it_was_enough(outcome, complete, text):
    assert outcome.is_complete is complete
    assert text in str(outcome)


def test_a_cleaner_that_was_not_told_where_the_registry_is_asks_nobody(tmp_path):
    values = {"image_cache_dir": str(tmp_path)}
    assert reaper.Reaper(config.Conf(values)).account is None
    assert reaper.Reaper(config.Conf({**values, "registry_host": "h"})).account is not None
