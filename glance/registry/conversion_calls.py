"""The registry's conversions: a part of `RegistryLink`.

Every call takes the caller's request context first. Those for users show and change what belongs
to the caller, for an administrator everything; to others a conversion does not exist. Those for
converters are refused to everybody but the service itself (`glance.registry.service_account`
calls them with its own context).

A job is a `glance.image.types.Conversion`, whose life `glance.image.conversion_job` describes.
Ids of images are those of version 1 of the Images API, as text.

Errors, besides those that `glance.registry.link` describes: NotFound for what the caller cannot
see, Invalid for values that break the rules, Forbidden for a caller that may not do this.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from glance.common import exception
from glance.identity.context import RequestContext
from glance.image import types
from glance.image.conversion_job import LeaseLost, Status
from glance.registry import client
from glance.registry.measured_calls import measured
from glance.registry.translation import CONFLICTS, TRANSLATED


class Accepted(NamedTuple):
    """What a request for a conversion has led to.

    `image` is the record of the result. `is_new` is false if the job was there already: the same
    work is waiting or running, or the request is one that has been sent before.
    """

    job: types.Conversion
    image: types.ImageRecord
    is_new: bool


class Work(NamedTuple):
    """A job that a converter has leased.

    `source` is the full record of the image to convert, with the location of its data, and
    `image` that of the result, which is queued. `store` is where the result goes, None for the
    default store; `compress` is whether it is compressed.
    """

    job: types.Conversion
    source: types.ImageRecord
    image: types.ImageRecord
    store: str | None
    compress: bool


class _LostLeases:
    """Turns Duplicate, which clients raise for 409, into the LeaseLost that the registry means."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if isinstance(err, exception.Duplicate):
            raise LeaseLost(str(err)) from err


_LOST = _LostLeases()


@measured
class ConversionCalls:
    """Calls about conversions; `client_for` is that of the link."""

    def client_for(self, context: RequestContext) -> client.RegistryClient:
        """Return a client that speaks for the caller of `context`."""
        raise NotImplementedError

    # -- for users -------------------------------------------------------------------------------

    def create_conversion(
        self,
        context: RequestContext,
        request: types.ConversionRequest,
        attempt: str | None = None,
        is_repeated: bool = False,
    ) -> Accepted:
        """Start a conversion: make the queued record of its result, and its job, or neither.

        The result gets the properties of the source but for `dropped_properties` and those of the
        service, then those of the request. `attempt` and `is_repeated` as `add_image_metadata`.

        Raises NotFound for a source that the caller cannot see, Conflict for one that is not
        active or not in `source_format`, and for an idempotency key that was sent with another
        request, Forbidden for a caller without an owner and for properties that only the service
        sets, LimitExceeded for a source that is too large and for too many properties,
        TooManyRequests if too many conversions are waiting or running, NoConverter (503) if no
        converter has been heard of for two minutes.
        """
        with TRANSLATED, CONFLICTS:
            made = self.client_for(context).create_conversion(request, attempt, is_repeated)
        return Accepted(made["conversion"], made["image"], made.get("is_new") is True)

    def find_conversions(
        self,
        context: RequestContext,
        *,
        status: str | None = None,
        source_image_id: str | None = None,
        image_id: str | None = None,
        either_image_id: str | None = None,
        limit: int = 25,
        marker: str | None = None,
    ) -> list[types.Conversion]:
        """Return the jobs that have all of these attributes, newest first.

        `either_image_id` is the id of the source or of the result. `limit` is 1 to 1000; the list
        begins after the job `marker`. Invalid for an impossible value, and a marker that the
        caller cannot see. An image that nobody has, or that the caller cannot see, has no jobs.
        """
        with TRANSLATED:
            return self.client_for(context).find_conversions(
                status=status,
                source_image_id=source_image_id,
                image_id=image_id,
                either_image_id=either_image_id,
                limit=limit,
                marker=marker,
            )

    def get_conversion(self, context: RequestContext, job_id: str) -> types.Conversion:
        """Return one job."""
        with TRANSLATED:
            return self.client_for(context).get_conversion(job_id)

    def cancel_conversion(self, context: RequestContext, job_id: str) -> types.Conversion | None:
        """Cancel a job, or forget one that has ended.

        Returns the job, which is cancelled, or still cancelling if a converter works on it; None
        if it had ended and has been forgotten. Its images stay.
        """
        with TRANSLATED, CONFLICTS:
            registry = self.client_for(context)
            if not Status(registry.get_conversion(job_id)["status"]).is_final:
                return registry.cancel_conversion(job_id)
            try:
                registry.forget_conversion(job_id)
            except exception.NotFound as err:
                # The pool of connections repeats a call whose response was lost.
                if not err.is_repeated:
                    raise
            return None

    # -- for converters --------------------------------------------------------------------------

    def lease_conversions(
        self,
        context: RequestContext,
        worker: str,
        count: int,
        held: Iterable[str] | None = None,
        retention: int = 7 * 86400,
    ) -> list[Work]:
        """Give at most `count` jobs that are due to a converter, for 60 seconds.

        `worker` names one converter process and no other before or after it: 1 to 255 printable
        characters of ASCII. No job is ever given to two converters at the same time. The call is
        a sign of life too, so a converter makes it every 20 seconds at least, with a `count` of 0
        if it has enough to do. Jobs whose lease has lapsed are taken back, and those that ended
        more than `retention` seconds ago are removed.

        `held` are the ids of the jobs that the converter works on. A job that it has a lease of,
        but does not hold, is given to it again, as another attempt: the response with it was
        lost, or the work on it. Like a lapsed lease that counts as a loss. So the call may be
        repeated. A job is held until `end_conversion` has returned. None: not known.

        A source that is gone is found out here: such a job has failed, and is not given away.
        """
        lease = {
            "worker": worker,
            "count": count,
            "held": None if held is None else list(held),
            "retention": retention,
        }
        with TRANSLATED:
            found = self.client_for(context).lease_conversions(lease)
        return [
            Work(
                each["conversion"],
                each["source"],
                each["image"],
                each.get("store"),
                each.get("compress") is True,
            )
            for each in found
        ]

    def report_conversion(
        self,
        context: RequestContext,
        worker: str,
        job_id: str,
        phase: str | None = None,
        progress: int | None = None,
        *,
        bytes_in: int | None = None,
        bytes_out: int | None = None,
        virtual_size: int | None = None,
    ) -> types.Conversion:
        """Report what a job is at, which renews its lease to 60 seconds, and return the job.

        `phase` is one of `glance.image.conversion_job.Phase` and never an earlier one than before
        (Invalid); None changes nothing but the lease. `progress` is in per cent of the phase.
        Sizes are in bytes; `virtual_size`, known after the inspection, becomes the property
        conversion_virtual_size of the result.

        When the status of the returned job is `cancelling`, the converter stops its work and ends
        it as stopped. Raises LeaseLost (`glance.image.conversion_job`) when the job is not this
        converter's any more, or is forgotten: it stops, and changes nothing.
        """
        progress_made = {
            "worker": worker,
            "phase": phase,
            "progress": progress,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "virtual_size": virtual_size,
        }
        with TRANSLATED, _LOST:
            return self.client_for(context).report_conversion(job_id, progress_made)

    def end_conversion(
        self,
        context: RequestContext,
        worker: str,
        job_id: str,
        outcome: str,
        *,
        code: str | None = None,
        result: types.ConversionResult | None = None,
    ) -> types.Conversion:
        """End the work on a job and its lease; return the job. May be repeated.

        `outcome` is one of `glance.image.conversion_job.Outcome`:

        * `succeeded`, with a `result`: the image is active;
        * `failed`, with the label of a `glance.image.conversion_codes.Code`: if the reason may
          pass, the job waits to be tried again, and the image is queued again;
        * `stopped`: the work was cancelled;
        * `released`: the converter stops, and the job is for another one, at once.

        Where the job has ended without success, the image is killed, with the property
        conversion_error. But if the image is active, the job has succeeded whatever is said.
        Before the call the converter has removed what it has stored of a failed result. Raises
        LeaseLost as `report_conversion` does.
        """
        end = {"worker": worker, "outcome": outcome, "code": code, "result": result}
        with TRANSLATED, _LOST:
            return self.client_for(context).end_conversion(job_id, end)
