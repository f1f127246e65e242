"""The old name of `glance.client.base`, for programs that import it."""

from glance.client.base import (
    CHUNKSIZE,
    BaseClient,
    Body,
    ImageBodyIterator,
    Progress,
    image_reference,
    listing_params,
    read_json,
    segment,
    status_error,
)

__all__ = [
    "CHUNKSIZE",
    "BaseClient",
    "Body",
    "ImageBodyIterator",
    "Progress",
    "image_reference",
    "listing_params",
    "read_json",
    "segment",
    "status_error",
]
