"""The work on one leased job, from the lease to its end in the registry."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any

from glance import api
from glance.api import download
from glance.common import exception, log, metrics
from glance.conversion import engine
from glance.conversion.errors import Cancelled, Code, ConversionError
from glance.converter import lease
from glance.converter.delivery import ResultDelivery, image_id_of
from glance.image import types
from glance.image.conversion_job import LeaseLost, Outcome, Status
from glance.registry.conversion_calls import Work
from glance.registry.link import AWAY
from glance.streaming import retry

LOG = logging.getLogger(__name__)

#: Between tries to report the end of a job while the registry is away.
BACKOFF = retry.Backoff(0.5, 5.0)


@dataclasses.dataclass(frozen=True, slots=True)
class _Ending:
    """How the work has ended, as `RegistryLink.end_conversion` is told."""

    outcome: Outcome
    code: Code | None = None
    result: types.ConversionResult | None = None


class JobRun:
    """Works on one job; `run` does all of it, and the other methods may be called meanwhile."""

    def __init__(
        self, service: api.ImageService, converter: engine.Converter, worker: str, work: Work
    ):
        self.service, self.converter = service, converter
        self.job = work.job
        self._worker, self._work = worker, work
        self._stop = lease.LeasedStop()
        self._begun = time.monotonic()

    @property
    def job_id(self) -> str:
        return self.job["id"]

    def interrupt(self) -> None:
        """End the work soon; the job is for another converter then."""
        self._stop.interrupt()

    def give_back(self) -> None:
        """Give a job that was not begun to another converter. Never raises."""
        try:
            self._send_end(_Ending(Outcome.RELEASED))
        except exception.Error as err:
            # It is leased again when its lease lapses, which counts as a loss.
            LOG.warning("Job %s is not given back: %s", self.job_id, exception.described(err))

    def run(self) -> None:
        """Convert, store, and report how it has ended. Never raises."""
        log.REQUEST_ID.set(self.job_id)
        try:
            with lease.Lease(self.job_id, self._report, self._stop) as kept:
                ending = self._convert(kept)
                if ending is not None:
                    self._end(ending)
        except Exception:
            # The thread has nobody to tell; the lease lapses, and the job is tried again.
            LOG.exception("Job %s was left", self.job_id)

    # -- the work --------------------------------------------------------------------------------

    def _convert(self, observer: engine.Observer) -> _Ending | None:
        """Return how the work has ended; None if the job is not this converter's any more."""
        try:
            result = self._made(observer)
        except Cancelled:
            return _Ending(Outcome.STOPPED)
        except ConversionError as err:
            if self._stop.is_lost:
                return None
            if err.code is Code.INTERRUPTED:
                return _Ending(Outcome.RELEASED)
            return _Ending(Outcome.FAILED, err.code)
        except Exception:
            # A slip of ours: whatever else it did, it would do again with the same image.
            LOG.exception("Job %s failed", self.job_id)
            return _Ending(Outcome.FAILED, Code.CONVERSION_FAILED)
        return _Ending(Outcome.SUCCEEDED, result=result)

    def _made(self, observer: engine.Observer) -> types.ConversionResult:
        job, source = self.job, self._work.source
        if self._work.image["status"] == "active":
            # The one that was lost had come to the end, but could not say so any more.
            sizes = (job["bytes_in"] or source["size"], self._work.image["size"])
            return _result(sizes[0] or 0, sizes[1] or 0, job["virtual_size"] or 0)
        delivery = self._delivery()
        try:
            order = engine.Order(
                self.job_id,
                source["location"] or "",
                source["size"] or None,
                source["checksum"],
                job["source_format"],
                job["disk_format"],
                compress=self._work.compress,
                trail=download.trail_of(self.service, source),
                disk_size=job["virtual_size"],
                images=(job["source_image_id"], job["image_id"]),
            )
        except exception.NotFound as err:
            raise ConversionError(Code.SOURCE_GONE, exception.described(err)) from err
        done = self.converter.convert(order, delivery, stop=self._stop, observer=observer)
        return _result(done.bytes_in, done.bytes_out, done.virtual_size)

    def _delivery(self) -> ResultDelivery:
        """Return where the result goes, without what lost converters have left there."""
        job = self.job
        try:
            target = self.service.stores.writable(self._work.store)
            delivery = ResultDelivery(self.service, image_id_of(job), target, self.job_id)
            if job["attempts"] > 1 and job["bytes_out"] is not None:
                delivery.remove_lost()
        except exception.StoreError as err:
            LOG.error(
                "Job %s: the store for its result cannot be used: %s",
                self.job_id,
                exception.described(err),
            )
            raise ConversionError(Code.STORE_UNAVAILABLE) from err
        return delivery

    # -- what the registry is told ---------------------------------------------------------------

    def _report(self, phase: str | None, progress: int | None, **sizes: int) -> types.Conversion:
        link = self.service.registry
        return self.service.account.call(
            link.report_conversion, self._worker, self.job_id, phase, progress, **sizes
        )

    def _end(self, ending: _Ending) -> None:
        """Report the end; as long as the registry is away, until the lease cannot be kept."""
        code = ending.code if ending.outcome is Outcome.FAILED else None
        metrics.CONVERSIONS.inc(ending.outcome.value if code is None else code.label)
        try:
            job = retry.retry(
                lambda: self._send_end(ending),
                BACKOFF,
                on=(*AWAY, exception.NotAuthorized),
                retryable=lambda err: not self._stop.is_lost,
            )
        except exception.Error as err:
            if not isinstance(err, LeaseLost):
                LOG.error("Job %s: its end is not reported: %s", self.job_id, type(err).__name__)
            LOG.warning(
                "Job %s has ended here (%s), but is given to a converter again",
                self.job_id,
                ending.outcome.value,
            )
            return
        self._emit(job)

    def _send_end(self, ending: _Ending) -> types.Conversion:
        return self.service.account.call(
            self.service.registry.end_conversion,
            self._worker,
            self.job_id,
            ending.outcome.value,
            code=None if ending.code is None else ending.code.label,
            result=ending.result,
        )

    def _emit(self, job: types.Conversion) -> None:
        facts: dict[str, Any] = {
            "job_id": job["id"],
            "source_image_id": job["source_image_id"],
            "image_id": job["image_id"],
            "source_format": job["source_format"],
            "disk_format": job["disk_format"],
            "seconds": round(time.monotonic() - self._begun, 3),
        }
        if job["status"] == Status.SUCCEEDED.value:
            self.service.events.converted(facts)
        elif job["status"] == Status.FAILED.value:
            error = job["error"]
            text = error["message"] if error is not None else ""
            code = error["code"] if error is not None else None
            self.service.events.conversion_failed({**facts, "code": code}, text)


def _result(bytes_in: int, bytes_out: int, virtual_size: int) -> types.ConversionResult:
    return {"bytes_in": bytes_in, "bytes_out": bytes_out, "virtual_size": virtual_size}
