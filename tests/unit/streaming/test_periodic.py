"""Turns of a periodic task; the pauses are recorded, not made."""

import logging
import subprocess
import sys

import pytest

from glance.common import exception
from glance.streaming.periodic import PeriodicTask


class Counting(PeriodicTask):
    """Stops itself after `turns`; raises `errors`, one in each turn."""

    turn_name = "look"

    def __init__(self, turns, errors=()):
        super().__init__(30)
        self.left, self.errors = turns, list(errors)
        self.pauses = []
        self.stopped.wait = self.pauses.append

    def turn(self):
        self.left -= 1
        if not self.left:
            self.stop()
        if self.errors:
            raise self.errors.pop()


def test_the_first_turn_comes_at_once_and_others_after_each_pause():
    task = Counting(3)
    task.run()
    assert task.left == 0
    # The last one returns at once, as the task has been told to stop.
    assert task.pauses == [30, 30, 30]


def test_a_stopped_task_does_no_turn():
    task = Counting(3)
    task.stop()
    task.run()
    assert (task.left, task.pauses) == (3, [])


def test_an_error_ends_its_turn_only_and_is_one_line(caplog):
    Counting(2, [exception.ServiceUnavailable("away")]).run()
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "The look was aborted: away")
    assert record.exc_info is None


def test_a_slip_ends_its_turn_only_and_is_logged_with_its_place(caplog):
    task = Counting(2, [ValueError("slip")])
    task.run()
    assert task.left == 0
    (record,) = caplog.records
    assert record.getMessage() == "The look was aborted"
    assert record.exc_info[0] is ValueError


def test_what_ends_the_program_ends_the_task():
    with pytest.raises(SystemExit):
        Counting(2, [SystemExit()]).run()


def test_a_background_task_stops_in_the_middle_of_a_pause():
    seen = []

    class Once(PeriodicTask):
        def turn(self):
            seen.append(1)

    task = Once(3600)
    running = task.start()
    task.stop()
    assert running.join(30)
    assert len(seen) <= 1


def test_it_runs_beside_others_on_the_hub():
    code = """
import eventlet
eventlet.monkey_patch()
from glance.streaming.periodic import PeriodicTask
class Once(PeriodicTask):
    def turn(self):
        print("turn")
task = Once(3600)
running = task.start()
eventlet.sleep(0)
print("beside")
task.stop()
print(running.join(30))
"""
    out = subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], text=True)
    assert out == "turn\nbeside\nTrue\n"
