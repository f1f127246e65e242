"""The lease of one job: renewed as long as somebody works on it, and given up in time.

The work itself never waits for the registry: it says how far it has come, and a thread reports
that. Only what must not be done without a lease waits.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from glance.common import exception
from glance.conversion import engine
from glance.conversion.errors import Code, ConversionError
from glance.image import conversion_job, types
from glance.image.conversion_job import LeaseLost, Phase, Status
from glance.registry.link import AWAY
from glance.streaming import retry

LOG = logging.getLogger(__name__)

#: A job is given up so many seconds before its lease ends: in that time a tool that does not stop
#: is killed.
MARGIN = 15.0
#: Seconds between two reports without news; each also tells whether the job was cancelled.
PAUSE = 5.0
#: Seconds between two reports with news.
NEWS_PAUSE = engine.REPORT_INTERVAL
#: Between tries while the registry is away.
BACKOFF = retry.Backoff(0.5, 5.0)


class Report(Protocol):
    """Tells the registry what a job is at; `RegistryLink.report_conversion` for one job."""

    def __call__(self, phase: str | None, progress: int | None, **sizes: int) -> types.Conversion:
        """Return the job. Raises LeaseLost, and what a registry that is away raises."""
        ...


class LeasedStop(engine.Stop):
    """Also ends a conversion whose lease cannot be relied on: the job may be another's by now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._clock = clock
        self._end = 0.0
        self.renewed(clock())

    def renewed(self, asked_at: float) -> None:
        """Take note that the lease was given in reply to a call that was sent at this time."""
        self._end = asked_at + conversion_job.LEASE - MARGIN

    def lose(self) -> None:
        """The lease is another's."""
        self._end = float("-inf")

    @property
    def is_lost(self) -> bool:
        """Whether the lease is lost, or may be."""
        return self._clock() >= self._end

    def check(self) -> None:
        if self.is_lost:
            raise ConversionError(Code.INTERRUPTED, "the lease of the job is lost")
        super().check()


@dataclasses.dataclass(slots=True)
class _News:
    """What is to be reported next."""

    phase: Phase | None = None
    progress: int | None = None
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)


class Lease(engine.Observer):
    """Keeps one job leased, and reports its progress; a context manager for the work.

    Tells `stop` when the job was cancelled or is lost.
    """

    def __init__(self, job_id: str, report: Report, stop: LeasedStop):
        self._job_id, self._report, self._stop = job_id, report, stop
        self._news = _News()
        self._is_stored = False
        # How many changes there were, and how many the registry knows.
        self._made = self._known = 0
        self._is_over = self._is_urgent = False
        self._changed = threading.Condition()

    def __enter__(self) -> Lease:
        threading.Thread(target=self._keep, name=f"lease {self._job_id}", daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    # -- what the work says ----------------------------------------------------------------------

    def began(self, phase: Phase) -> None:
        """Take note of a phase; before the result is stored, wait until the registry knows."""
        self._note(phase=phase, progress=None, waits=phase is Phase.UPLOADING)

    def progressed(self, percent: int, count: int | None) -> None:
        phase, sizes = self._news.phase, {}
        if count is not None:
            sizes["bytes_in" if phase is Phase.FETCHING else "bytes_out"] = count
        # Whoever takes the job over has to know that there may be something in the store.
        first = phase is Phase.UPLOADING and not self._is_stored
        self._is_stored = self._is_stored or first
        self._note(progress=percent, waits=first, **sizes)

    def measured(self, size: int) -> None:
        self._note(virtual_size=size)

    def _note(self, *, waits: bool = False, **changes: Any) -> None:
        with self._changed:
            for name, value in changes.items():
                if name in ("phase", "progress"):
                    setattr(self._news, name, value)
                else:
                    self._news.sizes[name] = value
            self._made += 1
            mine = self._made
            self._is_urgent = self._is_urgent or waits
            self._changed.notify_all()
            while waits and self._known < mine:
                self._stop.check()
                self._changed.wait(0.1)

    # -- the thread ------------------------------------------------------------------------------

    def _keep(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._await(BACKOFF.pause(failures) if failures else 0.0)
                if self._is_over or self._stop.is_lost:
                    return
                made, self._is_urgent = self._made, False
                phase, progress = self._news.phase, self._news.progress
                sizes = dict(self._news.sizes)
            try:
                self._send(phase.value if phase is not None else None, progress, sizes)
            except LeaseLost:
                # After the end of the work this is no news.
                level = logging.DEBUG if self._is_over else logging.WARNING
                LOG.log(level, "Job %s: another converter has it now, or none", self._job_id)
                self._stop.lose()
                return
            except (*AWAY, exception.NotAuthorized) as err:
                failures += 1
                level = logging.WARNING if failures == 1 else logging.DEBUG
                what = type(err).__name__
                LOG.log(level, "Job %s: its lease is not renewed yet: %s", self._job_id, what)
            except exception.Error as err:
                LOG.error("Job %s is given up: %s", self._job_id, exception.described(err))
                self._stop.lose()
                return
            else:
                failures = 0
                with self._changed:
                    self._known = made
                    self._changed.notify_all()

    def _await(self, penalty: float) -> None:
        """Wait until the next report is due: after `penalty` seconds, if there is one."""
        begun = time.monotonic()
        while not self._is_over:
            due = penalty or (NEWS_PAUSE if self._made > self._known else PAUSE)
            left = begun + due - time.monotonic()
            if left <= 0 or (self._is_urgent and not penalty):
                return
            self._changed.wait(left)

    def _send(self, phase: str | None, progress: int | None, sizes: dict[str, int]) -> None:
        asked_at = time.monotonic()
        job = self._report(phase, progress, **sizes)
        self._stop.renewed(asked_at)
        if job["status"] == Status.CANCELLING.value:
            self._stop.cancel()
