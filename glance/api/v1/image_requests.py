"""What a request to create or change an image says in its headers, and OpenAPI says of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from glance.api import conversions, mounting, sources
from glance.common import exception
from glance.conversion import formats
from glance.http import latin1, openapi
from glance.identity.context import CallerRequest, RequestContext
from glance.image import described, fields, percent
from glance.image import headers as image_headers

PURGE_HEADER = "x-glance-registry-purge-props"
COPY_FROM_HEADER = "x-glance-api-copy-from"
#: The source of an image that is to be converted.
CONVERT_FROM_HEADER = "x-glance-api-convert-from"

SET_HEADERS = (
    *openapi.headers(described.request_headers()),
    openapi.Parameter(
        f"{image_headers.PROPERTY_PREFIX}*",
        "header",
        {
            **openapi.TEXT,
            "description": "Custom properties: a header for each, with its name for the asterisk.",
        },
        described.PROPERTY_PATTERN,
    ),
    openapi.Parameter(
        COPY_FROM_HEADER,
        "header",
        {**openapi.TEXT, "description": "A URI to copy the data from, instead of a body."},
    ),
)
CONVERT_FROM = openapi.headers(
    {
        CONVERT_FROM_HEADER: {
            **openapi.TEXT,
            "description": "An image to convert into the new one, instead of a body.",
        }
    }
)
DATA = openapi.Content(
    {openapi.OCTETS: openapi.BINARY}, "The data of the image, if it is sent.", required=False
)


@dataclasses.dataclass(slots=True)
class ImageRequest:
    """What a POST or PUT requests, read from its headers.

    `meta` holds the attributes to store. At most one source of data is set: `has_data`,
    `location` or `copy_from`. `store` is the name of the requested store, if any.
    """

    meta: dict[str, Any]
    has_data: bool
    location: str | None
    copy_from: str | None
    store: str | None
    purge: bool

    @classmethod
    def of(cls, request: CallerRequest, encoding: str) -> ImageRequest:
        """Read and check the headers of `request`.

        `encoding` is the option `glanceclient_encoding`. Raises Invalid for an impossible request,
        and UnsupportedCoding for data with a content coding.
        """
        request.check_representation()
        raw_copy_from = request.single_header(COPY_FROM_HEADER) or ""
        headers = request.raw_headers
        decode = percent.decoder(
            encoding,
            request.environ.get("HTTP_USER_AGENT", ""),
            [*image_headers.image_headers_of(headers), (COPY_FROM_HEADER, raw_copy_from)],
        )
        meta = image_headers.parse_headers(headers, decode, percent.decode_location)
        copy_from = latin1.decode(raw_copy_from, "header value")
        purge = (request.single_header(PURGE_HEADER) or "true").lower()
        if "store" in meta and not meta["store"]:
            raise exception.Invalid(
                "The header x-image-meta-store is empty; name a store, or omit the header"
            )
        image_request = cls(
            meta=meta,
            has_data=request.has_body(),
            location=meta.pop("location", None),
            copy_from=(percent.decode_location(copy_from) if decode else copy_from).strip()
            or None,
            store=meta.pop("store", None),
            purge=purge not in fields.FALSE_WORDS,
        )
        image_request._check_sources(request)
        return image_request

    def _check_sources(self, request: CallerRequest) -> None:
        if [self.has_data, bool(self.location), bool(self.copy_from)].count(True) > 1:
            raise exception.Invalid(
                "Give image data, a location or a copy-from source, but only one of them"
            )
        if not self.has_data:
            return
        content_type = sources.media_type(request)
        if content_type != sources.OCTETS:
            # Clients of version 2 that were given a URL without a version end up here.
            is_lost = content_type == "application/json" and mounting.V2 in request.environ.get(
                mounting.MOUNTED, ()
            )
            raise exception.Invalid(
                f"Image data needs the header Content-Type: {sources.OCTETS}, "
                f"not {content_type or 'an empty one'!r}"
                + ("; for version 2 of the API, use a URL that ends in /v2" if is_lost else "")
            )

    def fills(self) -> bool:
        """Return whether this request provides data for the image."""
        return self.has_data or bool(self.location) or bool(self.copy_from)


def conversion_values(image_request: ImageRequest, context: RequestContext) -> dict[str, Any]:
    """Return what the headers of a request say about the result of a conversion.

    Clients send fields with their defaults. Raises Invalid for a value that the result will not
    have.
    """
    own = {"container_format": formats.CONTAINER, "owner": context.owner}
    values: dict[str, Any] = {"store": image_request.store}
    for name, value in image_request.meta.items():
        if name in conversions.KEYS:
            values[name] = value
        elif value and name != "status" and value != own.get(name):
            raise exception.Invalid(
                f"The {name} of an image that is converted cannot be chosen; leave out "
                f"{image_headers.HEADER_PREFIX}{name}"
            )
    return values
