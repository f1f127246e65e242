"""What both versions of the Images API say of themselves in the same words.

Data, its ranges and its conditions are the same in both (`glance.api.serving`); so are lists of
what is in their query strings, and the errors that a request may meet before its handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from glance.common import config, exception
from glance.http import openapi, wsgi
from glance.image import listing

#: Errors of any request to the API: one for the registry, and one for a resource without a route.
ERRORS: Final = (exception.Misdirected,)
#: What opening the data of an image may raise.
DATA_ERRORS: Final = (
    exception.Conflict,
    exception.PreconditionFailed,
    exception.RangeNotSatisfiable,
    exception.LocationLoop,
)
#: What an upload may raise.
UPLOAD_ERRORS: Final = (
    exception.Conflict,
    exception.LimitExceeded,
    exception.UnsupportedCoding,
    exception.LocationLoop,
)

TEXT_ERRORS: Final[Mapping[str, openapi.Schema]] = {
    "text/plain": openapi.TEXT,
    "text/html": openapi.TEXT,
}
#: The same for clients that want JSON, which version 2 has.
JSON_ERRORS: Final = {**TEXT_ERRORS, openapi.JSON: openapi.ref("Error")}

#: Headers of a request by which clients ask whether what they have still holds (RFC 9110 §13).
IF_NONE_MATCH: Final = openapi.headers(
    {"If-None-Match": {**openapi.TEXT, "description": "ETags of what the client has."}}
)
IF_CHANGED: Final = (
    *IF_NONE_MATCH,
    *openapi.headers(
        {"If-Match": {**openapi.TEXT, "description": "ETags of which one must be current."}}
    ),
)
RANGES: Final = openapi.headers(
    {"Range": {**openapi.TEXT, "description": "The part to send, such as bytes=0-1023."}}
)
#: Headers of a response about the data of an image.
DATA_HEADERS: Final[Mapping[str, openapi.Schema]] = {
    "ETag": {**openapi.TEXT, "description": "The checksum of the data, in quotes."},
    "Last-Modified": {**openapi.TEXT, "description": "When the data became complete."},
    "Cache-Control": {**openapi.TEXT, "description": "What caches may do with it."},
    "Accept-Ranges": {"type": "string", "enum": ["bytes", "none"]},
    "Content-Disposition": {**openapi.TEXT, "description": "A name for a file (RFC 6266)."},
    "Repr-Digest": {**openapi.TEXT, "description": "The digest of the data (RFC 9530)."},
    "X-Image-Id": {**openapi.TEXT, "description": "For HTTP caches: the number of the image."},
    "Surrogate-Key": {**openapi.TEXT, "description": "For HTTP caches: what to purge it by."},
}
PART_HEADERS: Final[Mapping[str, openapi.Schema]] = {
    "Content-Range": {**openapi.TEXT, "description": "Which part of how many bytes it is."}
}


def data(headers: Mapping[str, openapi.Schema]) -> dict[int, openapi.Content]:
    """Return the responses of GET of the data of an image; `headers` are those of a version."""
    shown = {**headers, **DATA_HEADERS}
    octets = {openapi.OCTETS: openapi.BINARY}
    return {
        200: openapi.Content(octets, "All of the data.", shown),
        206: openapi.Content(octets, "The part that was asked for.", {**shown, **PART_HEADERS}),
        304: openapi.Content({}, "The client has the data already.", shown),
    }


def head(headers: Mapping[str, openapi.Schema]) -> dict[int, openapi.Content]:
    """Return the responses of HEAD of the data of an image."""
    found = data(headers)
    return {200: found[200], 304: found[304]}


def location_header(about: str) -> Mapping[str, openapi.Schema]:
    """Return the header Location, which leads to what a request has made."""
    return {"Location": {**openapi.TEXT, "format": "uri", "description": about}}


def page(names: Iterable[str] = ("limit", "marker")) -> dict[str, openapi.Schema]:
    """Return the parameters of a page that has no order of its own."""
    return {name: listing.PARAMETERS[name] for name in names}


def description(
    conf: config.Conf,
    make: Callable[[], openapi.Api],
    routes: Callable[[], openapi.Routes],
    version: str,
) -> openapi.Description:
    """Return the description of a version of the API, whose paths begin with `/` and `version`."""

    def root(request: wsgi.Request) -> str:
        if conf.public_endpoint:
            return f"{conf.public_endpoint.rstrip('/')}/{version}"
        return openapi.path_of(request.application_root(f"/{version}"))

    return openapi.Description(make, routes, root)
