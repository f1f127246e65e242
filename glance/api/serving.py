"""An image's data as a response, and the image cache's part in it.

Whatever version of the API a request speaks, its conditions, its range and its data are treated
here; each version adds the headers of its own. How the data is opened is `glance.api.download`.
"""

from __future__ import annotations

import functools
from typing import Final

from glance import api, image_cache
from glance.api import download
from glance.api.sources import OCTETS
from glance.common import hooks
from glance.http import conditions, trail, wsgi
from glance.identity.context import CallerRequest
from glance.image import types

#: Fields whose change invalidates a copy in the image cache.
CACHED_BY: Final = ("status", "size", "checksum", "is_public", "owner")


def data_response(
    service: api.ImageService,
    request: CallerRequest,
    image: types.ImageRecord,
    headers: list[tuple[str, str]],
) -> wsgi.Response:
    """Return the response with the data of an active image, whole or one range, or a 304.

    `headers` are those of the API's version. The sender closes the body. Raises what
    `conditions.evaluate` and `download.open_image` raise.
    """
    validators = data_validators(image)
    if conditions.evaluate(request.environ, validators):
        return wsgi.Response(304, etag(image))
    range_header = conditions.range_of(request.environ, validators)
    cache = image_cache.of(request.environ)
    came_by = trail.of(request.environ)
    opened = download.open_image(service, image, range_header, cache, came_by)
    is_hit = opened.source == image_cache.HIT
    request.environ[image_cache.SERVED] = is_hit
    if isinstance(opened.body, image_cache.CachedBody):
        hooks.after_response(request.environ, opened.body.count_hit)
    hooks.on_failure(request.environ, functools.partial(_lost, service, image))
    headers.append(("Content-Type", OCTETS))
    if cache is not None and cache.debug_header:
        headers.append(("Cache-Status", _cache_status(opened.source)))
    if opened.length is not None:
        headers.append(("Content-Length", str(opened.length)))
    if download.serves_ranges(service, image):
        headers.append(("Accept-Ranges", "bytes"))
    service.events.sending(
        request.environ,
        request.context,
        image,
        opened.length,
        opened.content_range,
        from_cache=is_hit,
    )
    if opened.content_range is not None:
        headers.append(("Content-Range", opened.content_range))
        return wsgi.Response(206, headers, opened.body)
    return wsgi.Response(200, headers, opened.body)


def _lost(
    service: api.ImageService, image: types.ImageRecord, err: BaseException, sent: int
) -> None:
    service.data_log.lost(image["id"], image["location"] or "", err, sent)


def forget_copy(
    request: CallerRequest, before: types.ImageRecord, after: types.ImageRecord | None = None
) -> None:
    """Delete the cached copy of an image that was deleted, or whose fields changed."""
    cache = image_cache.of(request.environ)
    if cache is None or before["status"] != "active":
        return
    if after is None or any(before[name] != after[name] for name in CACHED_BY):
        cache.invalidate(before["id"])


def _cache_status(source: str | None) -> str:
    """Return where an image came from, in the terms of RFC 9211."""
    if source == image_cache.HIT:
        return "glance; hit"
    if source == image_cache.MISS:
        return "glance; fwd=miss; stored"
    if source == image_cache.FOLLOW:
        return "glance; fwd=miss; collapsed"
    return f'glance; fwd=bypass; detail="{source}"'


def etag(image: types.ImageRecord) -> list[tuple[str, str]]:
    """Return the header with the entity tag of an image's data; no header without a checksum."""
    # WIRE: the checksum without quotes, because clients compare it raw; never an empty ETag.
    checksum = image.get("checksum")
    # NOTE: an old database may hold any text there.
    if checksum and checksum.isascii() and checksum.isprintable():
        return [("ETag", checksum)]
    return []


def data_validators(image: types.ImageRecord) -> conditions.Validators:
    """Return the validators of an image's data, as GET and HEAD compare them.

    Without a checksum nothing is known of the data, so there are none.
    """
    checksum = image.get("checksum")
    return conditions.Validators(checksum, image.get("updated_at") if checksum else None)


def record_validators(image: types.ImageRecord) -> conditions.Validators:
    """Return the validators of an image for methods that change its record."""
    return conditions.Validators(image.get("checksum"), image.get("updated_at"))
