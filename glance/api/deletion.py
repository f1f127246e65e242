"""Deleting an image: first its record, in one step, then its data.

The images resource calls `delete` after it has checked the caller's permission. From the moment
the record is deleted, its data is in the registry's scrub queue: whatever happens to this process,
`glance-scrubber` removes what is not removed here. Uploads pass what they could not remove to
`free_later`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from glance import api
from glance.common import config, exception
from glance.identity.context import RequestContext
from glance.image import types
from glance.registry.link import AWAY, OnceCall
from glance.store import removal
from glance.streaming import retry, tasks

LOG = logging.getLogger(__name__)

config.options(
    "images API",
    config.Option(
        "delete_timeout",
        config.real,
        30.0,
        unit="seconds",
        minimum=0.1,
        help="How long a DELETE request waits for the store to remove the data. After that, the "
        "removal continues in the background, and glance-scrubber finishes what remains.",
    ),
)

#: Seconds by which the API's lease of the data is longer than delete_timeout.
SLACK = 60
#: Between attempts to delete a record when a response is lost; somebody waits for it.
RECORD_BACKOFF = retry.Backoff(0.25, 4.0, retries=3, factor=4, jitter=0.2)
#: Between attempts to reach an unavailable registry for work in the background.
BACKOFF = retry.Backoff(0.5, 60, seconds=1800, factor=4)


def delete(service: api.ImageService, context: RequestContext, image: types.ImageRecord) -> None:
    """Delete an image that the caller may change.

    Its data is removed at once, or with `delayed_delete` when it is due for the scrubber; a
    failure to remove it is no error for the caller. Raises ImageProtected, and what the registry
    raises.
    """
    events = service.events
    # A caller without permission, or one that is too late, is no failure of the deletion.
    refusals = (exception.NotAuthorized, exception.NotFound)
    with events.reporting_failure("image.delete", context, image["id"], but=refusals):
        deleted = _delete_record(service, context, image)
    events.deleted(context, image, deleted)
    # NOTE: the registry's response counts, because an upload may have ended since `image` was
    # read. (The response of an old registry is empty.)
    location = deleted.get("location", image.get("location"))
    if not location or deleted.get("status") == "deleted":
        return
    if service.conf.delayed_delete and _is_ours(service, location, image["id"]):
        return
    attempt = tasks.spawn(_free, service, context, image["id"], location)
    if not attempt.join(service.conf.delete_timeout):
        LOG.warning(
            "Image %s: the store is slow to remove its data; the removal continues in the "
            "background",
            image["id"],
        )


def _delete_record(
    service: api.ImageService, context: RequestContext, image: types.ImageRecord
) -> Mapping[str, Any]:
    if image.get("protected"):
        raise exception.ImageProtected(
            f"Image {image['id']} is protected; set protected to false first"
        )
    conf = service.conf
    if conf.delayed_delete:
        waiting = {"due_in": conf.scrub_time}
    else:
        waiting = {"lease": int(conf.delete_timeout) + SLACK}
    call = OnceCall()

    def delete_once() -> Mapping[str, Any]:
        try:
            return service.registry.delete_image_metadata(
                context, image["id"], status="pending_delete", **waiting
            )
        except exception.NotFound as err:
            if call.undecided or err.is_repeated:
                # The call whose response was lost has deleted it.
                return {}
            raise

    return call.make(delete_once, RECORD_BACKOFF)


def _is_ours(service: api.ImageService, location: str, image_id: int) -> bool:
    """Return whether the scrubber will have something to remove."""
    if service.conf.delete_registered_images:
        return True
    try:
        return service.stores.owns(location, str(image_id))
    except exception.StoreError:
        # The store is not enabled now: the scrubber decides once it is.
        return True


def _free(
    service: api.ImageService, context: RequestContext, image_id: int, location: str
) -> None:
    """Remove the data and settle the record, or leave both to the scrubber."""
    freed = removal.free(service.stores, service.conf, image_id, location, ours=False)
    try:
        if freed.outcome.is_final:
            # NOTE: a scrubber may have settled it, if this took long.
            with contextlib.suppress(exception.NotFound):
                service.registry.delete_image_metadata(context, image_id, status="deleted")
        else:
            service.registry.postpone_scrub(
                context,
                image_id,
                freed.error,
                dead=freed.outcome is removal.RemovalOutcome.DEAD,
            )
    except exception.Error as err:
        # The lease expires, and the scrubber finds out what is left to do.
        LOG.error("Image %s stays pending_delete: %s", image_id, type(err).__name__)


def free_later(
    service: api.ImageService, context: RequestContext, image_id: int, locations: Iterable[str]
) -> None:
    """Pass what a failed upload left in a store to the scrubber; return at once.

    `locations` are storage URIs of whole objects or of parts. While the registry is unavailable,
    this retries in the background.
    """
    left = list(locations)
    if left:
        tasks.spawn(_hand_over, service, context, image_id, left)


def _hand_over(
    service: api.ImageService, context: RequestContext, image_id: int, locations: list[str]
) -> None:
    LOG.warning(
        "Image %s: %d objects of its failed upload are left to the scrubber",
        image_id,
        len(locations),
    )
    for location in locations:
        try:
            _postpone(service, context, image_id, location)
        except exception.Error as err:
            LOG.error(
                "Image %s: data of its failed upload remains in the store: %s (glance-manage "
                "orphans finds it)",
                image_id,
                type(err).__name__,
            )


def _postpone(
    service: api.ImageService, context: RequestContext, image_id: int, location: str
) -> None:
    retry.retry(
        lambda: service.registry.postpone_scrub(
            context, image_id, "FailedUpload", location=location
        ),
        BACKOFF,
        on=AWAY,
    )
