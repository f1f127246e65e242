"""The life of a conversion as data: states, what follows what, leases, and when to try again.

Every change is a function of the job, the time and what has happened, and returns a new job: who
keeps jobs in a database makes it in a transaction, and two workers cannot both make it. Times are
naive and in UTC. What does not belong here: the work itself (`glance.conversion`), HTTP, a
database (`glance.registry.db.conversion_jobs`).

A job waits (queued), is worked on under a lease (running), and ends. A worker renews its lease;
when it does not, the job is taken from it. A job that fails for a reason that may pass waits
again, longer each time, with the reason as its error.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import re
from collections.abc import Mapping
from typing import Any

from glance.common import exception
from glance.image import types
from glance.image.conversion_codes import Code
from glance.streaming import retry

#: How long a lease lasts, and how often its owner renews it, in seconds.
LEASE = 60
RENEWAL = 20
#: How many workers may lose a job until it fails.
MAX_LOSSES = 3
#: Pauses before further tries of what may pass, in seconds: 30 * 2^n, an hour at most.
BACKOFF = retry.Backoff(30, 3600, jitter=0)
#: How long the name of a worker may be.
MAX_WORKER = 255

#: The form of the name of a worker, for a search.
WORKER_PATTERN = rf"^[!-~]{{1,{MAX_WORKER}}}$"

_WORKER = re.compile(rf"[!-~]{{1,{MAX_WORKER}}}\Z")


class Phase(enum.Enum):
    """What a running job is at."""

    FETCHING = "fetching"
    INSPECTING = "inspecting"
    CONVERTING = "converting"
    VERIFYING = "verifying"
    UPLOADING = "uploading"


class Outcome(enum.StrEnum):
    """How a worker's work on a job has ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    RELEASED = "released"


class Status(enum.StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return not FOLLOWERS[self]


#: Each state with those that may follow it, apart from itself.
FOLLOWERS: Mapping[Status, frozenset[Status]] = {
    # NOTE: a worker that has lost the job may yet have ended its work.
    Status.QUEUED: frozenset({Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}),
    Status.RUNNING: frozenset(
        {Status.QUEUED, Status.CANCELLING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}
    ),
    # NOTE: a result that is active by the time the worker hears of it stays.
    Status.CANCELLING: frozenset({Status.SUCCEEDED, Status.CANCELLED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


class LeaseLost(exception.Conflict):
    """The job is not, or no longer, this worker's: it ends its work and changes nothing."""

    def __init__(self, message: str = "The job belongs to another worker, or to none"):
        super().__init__(message)


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One conversion.

    `source_format`, `disk_format` (that of the result), `compress` and `store` (None: the default
    store) say what is to be done, for `owner` (None: nobody). `phase` and `progress` (per cent)
    are None unless it runs; sizes are in bytes. `attempts` counts how often work has begun,
    `losses` how often a worker was lost, and `failures` how often it has failed for a reason that
    may pass. `not_before` is when a waiting job may be begun, `worker` who has the lease until
    `leased_until`, `last_worker` who has it or had it last.
    """

    id: str
    source_image_id: str
    image_id: str
    source_format: str
    disk_format: str
    owner: str | None
    created_at: datetime.datetime
    compress: bool = False
    store: str | None = None
    status: Status = Status.QUEUED
    phase: Phase | None = None
    progress: int | None = None
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    virtual_size: int | None = None
    attempts: int = 0
    losses: int = 0
    failures: int = 0
    error: Code | None = None
    not_before: datetime.datetime | None = None
    worker: str | None = None
    leased_until: datetime.datetime | None = None
    last_worker: str | None = None

    # -- what is known ---------------------------------------------------------------------------

    def is_due(self, now: datetime.datetime) -> bool:
        """Return whether a worker may begin it."""
        waits = self.not_before is not None and now < self.not_before
        return self.status is Status.QUEUED and not waits

    def has_lapsed(self, now: datetime.datetime) -> bool:
        """Return whether its worker has not renewed the lease."""
        return self.leased_until is not None and self.leased_until <= now

    def is_kept(self, now: datetime.datetime, retention: float) -> bool:
        """Return whether it can still be looked up; `retention` is in seconds after its end."""
        if self.finished_at is None:
            return True
        return now < self.finished_at + datetime.timedelta(seconds=retention)

    def is_same_work(self, other: Job) -> bool:
        """Return whether another job has the same source, formats, options and owner."""
        return self._work() == other._work()

    def _work(self) -> tuple[object, ...]:
        return (
            self.source_image_id,
            self.source_format,
            self.disk_format,
            self.compress,
            self.store,
            self.owner,
        )

    def to_json(self) -> types.Conversion:
        """Return the job as a client sees it: times in ISO 8601 with Z, sizes in bytes."""
        error = self.error
        return {
            "id": self.id,
            "status": self.status.value,
            "phase": self.phase.value if self.phase is not None else None,
            "progress": self.progress,
            "source_image_id": self.source_image_id,
            "image_id": self.image_id,
            "source_format": self.source_format,
            "disk_format": self.disk_format,
            "created_at": _text(self.created_at),
            "started_at": None if self.started_at is None else _text(self.started_at),
            "finished_at": None if self.finished_at is None else _text(self.finished_at),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "virtual_size": self.virtual_size,
            "attempts": self.attempts,
            "error": None if error is None else {"code": error.label, "message": error.text},
            "owner": self.owner,
        }

    # -- what a worker does ----------------------------------------------------------------------

    def begun(self, worker: str, now: datetime.datetime) -> Job:
        """Return the job under a lease of `worker`, whose name is printable ASCII.

        Raises Conflict if it is not due, ValueError for a name that is none.
        """
        check_worker(worker)
        if not self.is_due(now):
            raise exception.Conflict("The conversion does not wait for a worker")
        return self._to(
            Status.RUNNING,
            phase=Phase.FETCHING,
            progress=0,
            started_at=self.started_at or now,
            attempts=self.attempts + 1,
            error=None,
            not_before=None,
            worker=worker,
            last_worker=worker,
            leased_until=_later(now, LEASE),
        )

    def begun_again(self, worker: str, now: datetime.datetime) -> Job:
        """Return the job for its own worker to begin anew, which does not know of it.

        The response with it was lost, or the work on it was: it counts as a loss, so that a job
        which its worker cannot bear comes to an end. One that is to be cancelled is so. Raises
        LeaseLost.
        """
        self._check(worker, now)
        back = self._lost(now)
        return back if back.status.is_final else back.begun(worker, now)

    def renewed(self, worker: str, now: datetime.datetime) -> Job:
        """Return the job with a longer lease. Raises LeaseLost.

        When its status is cancelling, the worker is to end and to report `stopped`.
        """
        self._check(worker, now)
        return dataclasses.replace(self, leased_until=_later(now, LEASE))

    def at(
        self,
        worker: str,
        now: datetime.datetime,
        phase: Phase,
        progress: int | None = None,
        *,
        bytes_in: int | None = None,
        bytes_out: int | None = None,
        virtual_size: int | None = None,
    ) -> Job:
        """Return the job in a phase, with its percentage. Raises LeaseLost.

        ValueError for a percentage that is none, and for a step back.
        """
        self._check(worker, now)
        if progress is not None and not 0 <= progress <= 100:
            raise ValueError("a percentage is a number from 0 to 100")
        order = list(Phase)
        if self.phase is not None and order.index(phase) < order.index(self.phase):
            raise ValueError("no phase comes back")
        return dataclasses.replace(
            self,
            phase=phase,
            progress=progress,
            bytes_in=self.bytes_in if bytes_in is None else bytes_in,
            bytes_out=self.bytes_out if bytes_out is None else bytes_out,
            virtual_size=self.virtual_size if virtual_size is None else virtual_size,
        )

    def succeeded(
        self, worker: str, now: datetime.datetime, result: types.ConversionResult
    ) -> Job:
        """Return the job at its good end; also if somebody has cancelled it too late.

        Raises LeaseLost.
        """
        self._check(worker, now)
        return self._end(
            Status.SUCCEEDED,
            now,
            progress=100,
            bytes_in=result["bytes_in"],
            bytes_out=result["bytes_out"],
            virtual_size=result["virtual_size"],
        )

    def failed(self, worker: str, now: datetime.datetime, code: Code) -> Job:
        """Return the job after a failure: at its end, or waiting if the reason may pass.

        A job that is cancelled is so whatever it failed of. A worker that was interrupted gives
        the job back at once. Raises LeaseLost.
        """
        self._check(worker, now)
        if self.status is Status.CANCELLING:
            return self._end(Status.CANCELLED, now)
        if not code.may_pass:
            return self._end(Status.FAILED, now, error=code)
        if code is Code.INTERRUPTED:
            return self._wait(error=None)
        failures = self.failures + 1
        pause = BACKOFF.pause(failures)
        return self._wait(error=code, failures=failures, not_before=_later(now, pause))

    def stopped(self, worker: str, now: datetime.datetime) -> Job:
        """Return the job after its worker has ended because it was cancelled. LeaseLost."""
        self._check(worker, now)
        return self._end(Status.CANCELLED, now)

    def released(self, worker: str, now: datetime.datetime) -> Job:
        """Return the job that its worker gives back because it stops. Raises LeaseLost."""
        return self.failed(worker, now, Code.INTERRUPTED)

    # -- what others do --------------------------------------------------------------------------

    def cancelled(self, now: datetime.datetime) -> Job:
        """Return the job that nobody wants any more: at its end if it waits, else cancelling.

        Raises Conflict if it has ended.
        """
        if self.status.is_final:
            raise exception.Conflict(f"The conversion has {self.status.value} already")
        if self.status is Status.QUEUED:
            return self._end(Status.CANCELLED, now)
        return self if self.status is Status.CANCELLING else self._to(Status.CANCELLING)

    def taken_back(self, now: datetime.datetime) -> Job:
        """Return the job whose worker has lost its lease: waiting again, or at its end.

        After MAX_LOSSES it has failed; if it was to be cancelled, it is. Raises Conflict while the
        lease holds. What the worker has left of the result is removed before the next one begins.
        """
        if not self.has_lapsed(now):
            raise exception.Conflict("The worker of the conversion still has its lease")
        return self._lost(now)

    def _lost(self, now: datetime.datetime) -> Job:
        if self.status is Status.CANCELLING:
            return self._end(Status.CANCELLED, now)
        losses = self.losses + 1
        if losses >= MAX_LOSSES:
            return self._end(Status.FAILED, now, losses=losses, error=Code.WORKER_LOST)
        return self._wait(losses=losses)

    def found_done(self, now: datetime.datetime, bytes_out: int | None) -> Job:
        """Return the job at its good end: the result is active, whatever became of its worker.

        `bytes_out` is the size of the result. Raises Conflict if the job has ended.
        """
        if self.status.is_final:
            raise exception.Conflict(f"The conversion has {self.status.value} already")
        return self._end(Status.SUCCEEDED, now, progress=100, error=None, bytes_out=bytes_out)

    def given_up(self, now: datetime.datetime, code: Code) -> Job:
        """Return a waiting job that can never be done, as when its source is gone. Conflict."""
        if self.status is not Status.QUEUED or code.may_pass:
            raise exception.Conflict("The conversion does not wait, or the reason may pass")
        return self._end(Status.FAILED, now, error=code)

    # -- steps -----------------------------------------------------------------------------------

    def _check(self, worker: str, now: datetime.datetime) -> None:
        """Raise LeaseLost unless the lease is this worker's and holds.

        NOTE: a lease that has lapsed is lost even if nobody has taken the job yet: the worker must
        have stopped by then, because any moment another one may begin.
        """
        if self.worker != worker or self.leased_until is None or self.has_lapsed(now):
            raise LeaseLost()

    def _to(self, status: Status, **changes: Any) -> Job:
        assert status in FOLLOWERS[self.status], f"{self.status} to {status}"
        return dataclasses.replace(self, status=status, **changes)

    def _wait(self, **changes: Any) -> Job:
        return self._to(
            Status.QUEUED, phase=None, progress=None, worker=None, leased_until=None, **changes
        )

    def _end(self, status: Status, now: datetime.datetime, **changes: Any) -> Job:
        given = {"progress": None, **changes}
        return self._to(
            status,
            phase=None,
            finished_at=now,
            not_before=None,
            worker=None,
            leased_until=None,
            **given,
        )


def check_worker(name: str) -> str:
    """Return the name of a worker. Raises ValueError for a name that is none."""
    if not _WORKER.match(name):
        raise ValueError(f"a worker has a name of 1 to {MAX_WORKER} printable characters of ASCII")
    return name


def _later(now: datetime.datetime, seconds: float) -> datetime.datetime:
    return now + datetime.timedelta(seconds=seconds)


def _text(moment: datetime.datetime) -> str:
    return f"{moment.isoformat()[:19]}Z"
