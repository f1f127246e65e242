"""Deleting an image: first its record, in one step, then its data.

Called by the images resource once the caller is known to be allowed. From the moment the record is
deleted, its data stands in the registry's scrub queue: whatever becomes of this process,
`glance-scrubber` will remove what is not removed here. Uploads hand over here what they could not
remove.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from glance import api, registry
from glance.common import config, exception
from glance.identity.context import RequestContext
from glance.store import removal
from glance.streaming import offload

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

#: Seconds by which the API's claim on the data outlasts delete_timeout.
SLACK = 60
#: Seconds between tries to reach a registry that is away, for what nobody waits for.
PAUSES = (0.5, 2, 8, 30, *[60] * 30)


def delete(service: api.ImageService, context: RequestContext, image: Mapping[str, Any]) -> None:
    """Delete an image that the caller may change.

    Its data goes at once, or with `delayed_delete` when the scrubber finds it due; whether it goes
    makes no difference to the caller. Raises ImageProtected, and what the registry raises.
    """
    events = service.events
    # Who may not, or comes too late, has not made anything fail.
    refusals = (exception.NotAuthorized, exception.NotFound)
    with events.reporting_failure("image.delete", context, image["id"], but=refusals):
        deleted = _delete_record(service, context, image)
    events.deleted(context, image, deleted)
    # NOTE: what the registry answers counts, because an upload may have ended since `image` was
    # read. (An old one answers nothing.)
    location = deleted.get("location", image.get("location"))
    if not location or deleted.get("status") == "deleted":
        return
    if service.conf.delayed_delete and _is_ours(service, location, image["id"]):
        return
    attempt = offload.spawn(_free, service, context, image["id"], location)
    if not attempt.join(service.conf.delete_timeout):
        LOG.warning(
            "Image %s: the store is slow to remove its data; the removal continues in the "
            "background",
            image["id"],
        )


def _delete_record(
    service: api.ImageService, context: RequestContext, image: Mapping[str, Any]
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
    return registry.delete_image_metadata(
        conf, context, image["id"], status="pending_delete", **waiting
    )


def _is_ours(service: api.ImageService, location: str, image_id: int) -> bool:
    """Return whether the scrubber will have something to remove."""
    if service.conf.delete_registered_images:
        return True
    try:
        return service.stores.owns(location, str(image_id))
    except exception.StoreError:
        # The store is not enabled now: the scrubber decides when it is.
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
                registry.delete_image_metadata(service.conf, context, image_id, status="deleted")
        else:
            registry.postpone_scrub(
                service.conf,
                context,
                image_id,
                freed.error,
                dead=freed.outcome is removal.RemovalOutcome.DEAD,
            )
    except exception.Error as err:
        # Its lease runs out, and the scrubber finds out what is left to do.
        LOG.error("Image %s stays pending_delete: %s", image_id, type(err).__name__)


def free_later(
    service: api.ImageService, context: RequestContext, image_id: int, locations: Iterable[str]
) -> None:
    """Hand what a failed upload left in a store to the scrubber; returns at once.

    `locations` are storage URIs of whole objects or of parts. While the registry is away, it is
    tried again in the background.
    """
    left = list(locations)
    if left:
        offload.spawn(_hand_over, service, context, image_id, left)


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
            _patiently(service, context, image_id, location)
        except exception.Error as err:
            LOG.error(
                "Image %s: data of its failed upload remains in the store: %s (glance-manage "
                "orphans finds it)",
                image_id,
                type(err).__name__,
            )


def _patiently(
    service: api.ImageService, context: RequestContext, image_id: int, location: str
) -> None:
    for pause in (*PAUSES, None):
        try:
            registry.postpone_scrub(
                service.conf, context, image_id, "FailedUpload", location=location
            )
            return
        except (exception.ServiceUnavailable, exception.ClientConnectionError):
            if pause is None:
                raise
            offload.sleep(pause)
