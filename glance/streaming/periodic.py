"""Work that comes round: a turn at once, then one after every pause, until told to stop."""

from __future__ import annotations

import logging
import threading
from typing import ClassVar

from glance.common import exception
from glance.streaming import tasks

LOG = logging.getLogger(__name__)


class PeriodicTask:
    """Does `turn` over and over; a subclass says what a turn is, and what it is called.

    `run` is for a program that does nothing else, `start` for a task beside others. A turn that
    fails is logged and the next one tries again. `stopped` is set by `stop`: a long turn looks at
    it to end early.
    """

    #: What the log calls a turn.
    turn_name: ClassVar[str] = "turn"

    def __init__(self, interval: float):
        """Make a task that pauses `interval` seconds between two turns."""
        self.interval = interval
        self.stopped = threading.Event()

    def turn(self) -> object:
        """Do what there is to do now."""
        raise NotImplementedError

    def run(self) -> None:
        """Do a turn now and after every pause; returns when the task is told to stop."""
        while not self.stopped.is_set():
            try:
                self.turn()
            except exception.Error as err:
                LOG.error("The %s was aborted: %s", self.turn_name, err)
            except Exception:
                # A slip in one turn must not end all that would follow.
                LOG.exception("The %s was aborted", self.turn_name)
            self.stopped.wait(self.interval)

    def start(self) -> tasks.Task:
        """Run in the background; returns at once."""
        return tasks.spawn(self.run)

    def stop(self) -> None:
        """End a pause at once, and the task with it; from any thread, or a signal handler."""
        self.stopped.set()
