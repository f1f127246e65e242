"""Deleting an image: first its record, in one step, then its data.

Called by the images resource once the caller is known to be allowed. A record whose data could not
be removed stays `pending_delete`: `glance-scrubber` tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from glance import api, registry
from glance.common import exception
from glance.common.context import RequestContext

LOG = logging.getLogger(__name__)


def delete(service: api.Service, context: RequestContext, image: Mapping[str, Any]) -> None:
    """Delete an image that the caller may change.

    Its data goes at once, or with `delayed_delete` when the scrubber finds it due; whether it goes
    makes no difference to the caller. Raises ImageProtected, and what the registry raises.
    """
    if image.get("protected"):
        raise exception.ImageProtected(
            f"Image {image['id']} is protected; set protected to false first"
        )
    location = image.get("location")
    if location and _is_ours(service, location, image["id"]):
        registry.delete_image_metadata(service.conf, context, image["id"], status="pending_delete")
        if not service.conf.delayed_delete:
            _free(service, context, image["id"], location)
    else:
        registry.delete_image_metadata(service.conf, context, image["id"], status="deleted")


def _is_ours(service: api.Service, location: str, image_id: int) -> bool:
    """Tell whether this service wrote the data, so that it may remove it."""
    try:
        return service.stores.wrote(location, str(image_id))
    except exception.StoreError:
        # The store is not enabled now: the scrubber decides when it is.
        return True


def _free(service: api.Service, context: RequestContext, image_id: int, location: str) -> None:
    """Remove the data and settle the record; what cannot be removed stays pending_delete."""
    try:
        service.stores.delete(location)
    except (
        exception.StoreObjectNotFound,
        exception.StoreDeleteNotSupported,
    ) as err:
        LOG.warning("Image %s: nothing to remove: %s", image_id, type(err).__name__)
    except Exception as err:
        LOG.error("Image %s stays pending_delete: %s", image_id, type(err).__name__)
        return
    try:
        registry.delete_image_metadata(service.conf, context, image_id, status="deleted")
    except exception.Error as err:
        LOG.error("Image %s stays pending_delete: %s", image_id, type(err).__name__)
