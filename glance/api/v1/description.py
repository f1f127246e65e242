"""What version 1 of the Images API says of itself: its OpenAPI document, without its routes.

The routes are described where their handlers are. Those of the image cache are in the document
whether or not the pipeline has their filter.
"""

from __future__ import annotations

from typing import Final

from glance.api import describing
from glance.common import config
from glance.conversion import formats
from glance.http import openapi
from glance.identity import context as identity
from glance.image import described, fields, types

_ABOUT: Final = """\
Disk images over HTTP: the metadata of an image is in headers, its data is the body.

The headers `x-image-meta-*` are the fields of an image, `x-image-meta-property-*` its custom \
properties. Paths without `/v1` are served as well, unless the deployment has switched that off.
"""
_ID: Final[openapi.Schema] = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "format": "uuid"},
    ],
    "description": "The number of the image, or its id in version 2.",
}
_PUBLIC: Final = tuple(key for key in fields.DETAIL_KEYS if key != "location")


def api(conf: config.Conf) -> openapi.Api:
    """Return what all operations have in common."""
    return openapi.Api(
        title="Images API, version 1",
        version="1.1",
        about=_ABOUT,
        variables={
            "id": _ID,
            "member": described.MEMBER,
            "job": {
                "type": "string",
                "format": "uuid",
                "description": "The id of a conversion.",
            },
        },
        schemas=schemas(),
        tags={
            "images": "Images: their metadata and their data.",
            "members": "With whom an image is shared.",
            "conversions": "Images that are converted into other disk formats.",
            "cached_images": "The image cache, where the pipeline has the filter cachemanage.",
            "openapi": "This document.",
        },
        error_types=describing.TEXT_ERRORS,
        errors=describing.ERRORS,
        token=identity.needs_token(conf),
    )


def schemas() -> dict[str, openapi.Schema]:
    """Return the schemas of all bodies by name."""
    return {
        "BriefImage": described.record(fields.BRIEF_KEYS),
        "BriefImages": openapi.list_of("images", openapi.ref("BriefImage")),
        "DetailedImage": described.record(_PUBLIC),
        "DetailedImages": openapi.list_of("images", openapi.ref("DetailedImage")),
        "Image": described.record(fields.DETAIL_KEYS, ["location"]),
        "ImageResponse": openapi.object_of({"image": openapi.ref("Image")}),
        **described.memberships(strict=False),
        **described.conversions(),
        **_conversion_schemas(),
        **_cache_schemas(),
    }


def _conversion_schemas() -> dict[str, openapi.Schema]:
    switch: openapi.Schema = {"type": "boolean"}
    number: openapi.Schema = {"type": "integer", "minimum": 0}
    disk_format: openapi.Schema = {"type": "string", "enum": list(formats.FORMATS)}
    wanted: dict[str, openapi.Schema] = {
        "source_image_id": {
            "type": ["string", "integer"],
            "description": "The number or the UUID of the image to convert.",
        },
        "disk_format": {**disk_format, "description": "The format of the new image."},
        "name": {
            "type": ["string", "null"],
            "maxLength": fields.MAX_NAME,
            "description": "Default: the name of the source, with the format in parentheses.",
        },
        "is_public": {**switch, "description": "Whether the new image is public."},
        "compress": {**switch, "description": "Make a smaller image, which takes longer."},
        "force": {**switch, "description": "Write an image anew that has the format already."},
        "store": {"type": ["string", "null"], "description": "The store for the data."},
        "properties": {
            "type": ["object", "null"],
            "description": "Custom properties, besides those of the source.",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        },
    }
    request = {
        **openapi.object_of(wanted, "source_image_id", "disk_format"),
        "additionalProperties": False,
    }
    row = openapi.object_of(
        {"disk_format": openapi.TEXT, "input": switch, "output": switch, "compress": switch}
    )
    return {
        "ConversionRequest": openapi.object_of({"conversion": request}),
        "ConversionFormats": openapi.object_of(
            {
                "enabled": switch,
                "container_format": openapi.TEXT,
                "formats": {"type": "array", "items": row},
                "limits": {"type": "object", "additionalProperties": number},
            }
        ),
    }


def _cache_schemas() -> dict[str, openapi.Schema]:
    number: openapi.Schema = {"type": "integer", "minimum": 0}
    queued = openapi.ref("QueuedImage")
    one = {"anyOf": [queued, openapi.ref("CachedImage")]}
    return {
        "CachedImage": openapi.schema_of(types.CachedImage),
        "QueuedImage": openapi.schema_of(types.QueuedImage),
        "CachedImages": openapi.list_of("cached_images", one),
        "QueuedImages": openapi.list_of(
            "queued_images", {"anyOf": [{"type": ["integer", "string"]}, queued]}
        ),
        "Queued": openapi.object_of({"queued": {"type": "boolean"}}),
        "Deleted": openapi.object_of(
            {"num_deleted": number, "num_purged": number, "num_reaped": number}, "num_deleted"
        ),
        "CacheStatistics": {"type": "object", "additionalProperties": number},
    }
