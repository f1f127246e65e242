"""Trying again, on a clock of its own: no test here waits."""

import itertools
import subprocess
import sys

import pytest

from glance.streaming import retry
from glance.streaming.retry import Backoff, Retries


class Clock:
    """Time that passes only in `sleep`, and the pauses that were made."""

    def __init__(self):
        self.now = 1000.0
        self.pauses = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


class Passing(Exception):
    pass


class Special(Passing):
    pass


def failing(times, error=Passing):
    """Return a function that raises so many errors, numbered, and then returns "done"."""
    counter = itertools.count(1)

    def attempt():
        number = next(counter)
        if number <= times:
            raise error(number)
        return "done"

    return attempt


PLAIN = Backoff(1, 8, jitter=0)


def run(clock, attempt, backoff=PLAIN, on=Passing, **kw):
    return retry.retry(attempt, backoff, on=on, sleep=clock.sleep, clock=clock, **kw)


# -- pauses --


def test_pauses_double_up_to_the_longest():
    assert [PLAIN.pause(failures) for failures in range(1, 7)] == [1, 2, 4, 8, 8, 8]


def test_pauses_grow_by_another_factor():
    backoff = Backoff(0.5, 60, factor=4, jitter=0)
    assert [backoff.pause(failures) for failures in range(1, 6)] == [0.5, 2, 8, 32, 60]


@pytest.mark.parametrize("factor", [1.0, 2.0, 4.0])
def test_a_pause_after_very_many_failures_is_a_number(factor):
    assert Backoff(1, 60, factor=factor, jitter=0).pause(10**9) in (1, 60)


@pytest.mark.parametrize(("drawn", "expected"), [(0.0, 8.0), (0.5, 6.0), (1.0, 4.0)])
def test_jitter_shortens_a_pause_by_its_share(monkeypatch, drawn, expected):
    monkeypatch.setattr(retry.random, "random", lambda: drawn)
    assert Backoff(8, 8, jitter=0.5).pause(1) == expected


def test_steady_pauses_are_all_alike():
    backoff = Backoff.steady(3, retries=2, seconds=5)
    assert {backoff.pause(failures) for failures in range(1, 100)} == {3}
    assert (backoff.retries, backoff.seconds) == (2, 5)


# -- retry --


def test_a_success_is_returned_without_a_pause(clock):
    assert run(clock, failing(0)) == "done"
    assert clock.pauses == []


def test_a_call_is_repeated_after_growing_pauses(clock):
    assert run(clock, failing(3)) == "done"
    assert clock.pauses == [1, 2, 4]


def test_the_last_error_is_raised_when_the_retries_are_used_up(clock):
    with pytest.raises(Passing) as caught:
        run(clock, failing(9), Backoff(1, 8, retries=2, jitter=0))
    assert caught.value.args == (3,)
    assert clock.pauses == [1, 2]


def test_no_retries_is_one_try(clock):
    with pytest.raises(Passing) as caught:
        run(clock, failing(9), Backoff(1, 8, retries=0))
    assert caught.value.args == (1,)
    assert clock.pauses == []


def test_the_last_try_begins_when_the_time_is_over(clock):
    with pytest.raises(Passing) as caught:
        run(clock, failing(99), Backoff.steady(4, seconds=10))
    assert caught.value.args == (4,)
    # The last pause is cut short.
    assert clock.pauses == [4, 4, 2]


def test_time_spent_in_the_attempt_counts(clock):
    def slow():
        clock.now += 11
        raise Passing

    with pytest.raises(Passing):
        run(clock, slow, Backoff.steady(4, seconds=10))
    assert clock.pauses == []


def test_other_errors_are_raised_at_once(clock):
    with pytest.raises(ValueError):
        run(clock, failing(1, ValueError))
    with pytest.raises(Passing):
        run(clock, failing(1), on=Special)
    assert clock.pauses == []


def test_several_classes_of_errors_are_tried_again(clock):
    assert run(clock, failing(1, ValueError), on=(KeyError, ValueError)) == "done"


def test_an_error_that_does_not_pass_is_raised_at_once(clock):
    with pytest.raises(Passing) as caught:
        run(clock, failing(9), retryable=lambda err: err.args[0] < 3)
    assert caught.value.args == (3,)
    assert clock.pauses == [1, 2]


def test_each_error_that_another_try_follows_is_reported_before_the_pause(clock):
    seen = []

    def report(err):
        seen.append((err.args[0], list(clock.pauses)))

    with pytest.raises(Passing):
        run(clock, failing(9), Backoff(1, 8, retries=2, jitter=0), report=report)
    assert seen == [(1, []), (2, [1])]


# -- Retries --


def test_progress_makes_the_next_failure_a_first_one(clock):
    retries = Retries(Backoff(1, 8, retries=2, jitter=0), sleep=clock.sleep, clock=clock)
    assert retries.again() and retries.again()
    retries.reset()
    assert retries.again() and retries.again() and not retries.again()
    assert clock.pauses == [1, 2, 1, 2]


# -- wait_until --


def test_a_condition_that_holds_is_not_waited_for(clock):
    assert retry.wait_until(lambda: True, PLAIN, sleep=clock.sleep, clock=clock)
    assert clock.pauses == []


def test_a_condition_is_asked_until_it_holds(clock):
    found = iter([False, False, True])
    assert retry.wait_until(lambda: next(found), PLAIN, sleep=clock.sleep, clock=clock)
    assert clock.pauses == [1, 2]


def test_a_condition_is_asked_once_more_at_the_end_of_the_time(clock):
    asked = []

    def condition():
        asked.append(clock.now)
        return False

    backoff = Backoff.steady(4, seconds=10)
    assert not retry.wait_until(condition, backoff, sleep=clock.sleep, clock=clock)
    assert asked == [1000, 1004, 1008, 1010]


def test_the_pauses_are_those_of_the_hub():
    code = """
import sys
from glance.streaming import hub, retry
assert retry.wait_until(iter([False, True]).__next__, retry.Backoff.steady(0))
assert "eventlet" not in sys.modules
import eventlet
eventlet.monkey_patch()
ran = []
eventlet.spawn(ran.append, 1)
assert retry.wait_until(lambda: bool(ran), retry.Backoff.steady(0, retries=50))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
