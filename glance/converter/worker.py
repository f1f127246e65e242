"""The converter of one process: leases jobs, works on several at a time, and stops in order."""

from __future__ import annotations

import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable

from glance import api
from glance.common import exception, metrics
from glance.conversion import engine, process
from glance.converter.work import JobRun
from glance.registry.conversion_calls import Work
from glance.registry.link import AWAY
from glance.streaming import retry

LOG = logging.getLogger(__name__)

#: Seconds between two looks for jobs while there is room for more.
IDLE = 2.0
#: Seconds between two signs of life while there is none.
BUSY = 15.0
#: Between tries while the registry is away, or refuses this converter.
BACKOFF = retry.Backoff(1.0, 15.0)
#: Seconds for a conversion that is told to end: the tool's own, and to remove and report.
FAREWELL = process.GRACE + 10.0


class JobWorker:
    """Leases jobs and works on them, each in a thread, until `stop`; `run` is the whole life.

    `name` distinguishes this process from all others, before and after it.
    """

    def __init__(self, service: api.ImageService, converter: engine.Converter):
        self.service, self.converter, self.conf = service, converter, service.conf
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        # NOTE: its methods may be called by a handler of a signal.
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: dict[str, JobRun] = {}
        # When running conversions are interrupted; None: as long as there was no call of `stop`.
        self._deadline: float | None = None
        self._failures = 0
        metrics.sample(lambda: metrics.CONVERSIONS_RUNNING.set(len(self._running)))

    def stop(self, grace: float) -> None:
        """Lease no more jobs; interrupt those that still run after `grace` seconds.

        Returns at once; from any thread, or a signal handler. Of several calls the earliest
        deadline counts.
        """
        deadline = time.monotonic() + grace
        if self._deadline is None or deadline < self._deadline:
            self._deadline = deadline
        self._wakes.put(None)

    def run(self) -> None:
        """Work until `stop`, and until all conversions have ended or were given back."""
        while self._deadline is None:
            self._wait(self._turn())
        left = self._runs()
        LOG.info("No more conversions are begun; %d are running", len(left))
        self._await_end(lambda: self._deadline or 0.0)
        left = self._runs()
        for job in left:
            LOG.info("Job %s is interrupted and given back", job.job_id)
            job.interrupt()
        end = time.monotonic() + FAREWELL
        self._await_end(lambda: end)
        for job in self._runs():
            LOG.error("Job %s does not end; another converter gets it in a minute", job.job_id)

    # -- jobs ------------------------------------------------------------------------------------

    def _turn(self) -> float:
        """Lease what there is room for; return when to do that again, in seconds."""
        held = [job.job_id for job in self._runs()]
        free = self.conf.conversion_workers - len(held)
        try:
            leased: list[Work] = self.service.account.call(
                self.service.registry.lease_conversions,
                self.name,
                free,
                held,
                self.conf.conversion_job_retention,
            )
        except exception.Error as err:
            return self._failed(err)
        except Exception:
            # A slip in one turn must not end those that run, nor all that would follow.
            LOG.exception("Looking for conversions failed")
            return BACKOFF.longest
        if self._failures:
            LOG.info("The registry gives out conversions again")
        self._failures = 0
        for work in leased:
            self._begin(work)
        return IDLE if len(leased) < free else BUSY

    def _failed(self, err: exception.Error) -> float:
        """Tell the operator that no jobs can be had, once; return the pause."""
        self._failures += 1
        level = logging.ERROR if self._failures == 1 else logging.DEBUG
        if isinstance(err, AWAY):
            LOG.log(level, "The registry gives out no conversions: %s", exception.described(err))
        elif isinstance(err, exception.NotAuthorized):
            LOG.log(
                level,
                "The registry refuses this converter: set the registry_shared_secret of the "
                "registry, or admin_user and its password",
            )
        else:
            LOG.log(
                level,
                "The registry does not understand this converter (%s): it must be of the same "
                "release",
                exception.described(err),
            )
        return BACKOFF.pause(self._failures)

    def _begin(self, work: Work) -> None:
        job = JobRun(self.service, self.converter, self.name, work)
        with self._lock:
            if job.job_id in self._running:
                return
            self._running[job.job_id] = job
        LOG.info("Job %s begins, attempt %s", job.job_id, work.job["attempts"])
        try:
            threading.Thread(target=self._work, args=(job,), name=job.job_id, daemon=True).start()
        except RuntimeError:
            LOG.error("Job %s cannot be begun: no thread can be started", job.job_id)
            self._forget(job)
            job.give_back()

    def _work(self, job: JobRun) -> None:
        try:
            job.run()
        finally:
            self._forget(job)
            self._wakes.put(None)

    def _forget(self, job: JobRun) -> None:
        with self._lock:
            del self._running[job.job_id]

    def _runs(self) -> list[JobRun]:
        with self._lock:
            return list(self._running.values())

    # -- waiting ---------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        try:
            self._wakes.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            return

    def _await_end(self, deadline: Callable[[], float]) -> None:
        while self._runs() and (left := deadline() - time.monotonic()) > 0:
            # NOTE: without a deadline (infinite) the wait is still one that ends.
            self._wait(min(left, 60.0))
