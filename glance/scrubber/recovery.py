"""Restore a deleted image whose data has not been removed yet.

For operators: `glance-scrubber --restore` and `glance-manage restore`.
"""

from __future__ import annotations

from glance import store
from glance.common import exception
from glance.identity.context import RequestContext
from glance.image import types
from glance.registry.db import api, engine


def restore(db: engine.Database, stores: store.Stores, image_id: int) -> types.StoredImage:
    """Restore a deleted image whose data has not been removed; return the record.

    Raises ImageNotFound, Conflict with the reason if the image is in another state or its data is
    being removed now, and a StoreError if the data is missing or cannot be checked.
    """
    seeing = RequestContext(is_admin=True, show_deleted=True)
    image = api.image_get(db, seeing, image_id)
    if image["status"] == "pending_delete" and image["location"]:
        # NOTE: an attempt that failed may have removed a part.
        size = stores.get_size(image["location"])
        if size is not None and image["size"] is not None and size != image["size"]:
            raise exception.Conflict(
                f"Image {image_id} had {image['size']} bytes, {size} of them are left"
            )
    return api.image_restore(db, image_id)
