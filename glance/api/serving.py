"""An image's data as a response, and the image cache's part in it.

Whatever version of the API a request speaks, its conditions, its range and its data are treated
here; each version adds the headers of its own. How the data is opened is `glance.api.download`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

from glance import api, image_cache
from glance.api import caching, download, purging
from glance.api.sources import OCTETS
from glance.common import exception, hooks, metrics
from glance.http import conditions, trail, wsgi
from glance.identity.context import CallerRequest, RequestContext
from glance.image import types

#: Fields whose change invalidates a copy in the image cache.
CACHED_BY: Final = ("status", "size", "checksum", "is_public", "owner")


def data_response(
    service: api.ImageService,
    request: CallerRequest,
    image: types.ImageRecord,
    headers: list[tuple[str, str]],
) -> wsgi.Response:
    """Return the response with the data of an image that has some: all, one range, or a 304.

    `headers` are those of the API's version, which a 304 has as well: caches take the metadata
    from it (RFC 9111 §4.3.4). The sender closes the body. Raises what `check_download`,
    `conditions.evaluate` and `download.open_image` raise; nothing is opened before the conditions
    hold.
    """
    check_download(service, request.context, image)
    validators = caching.validators(image)
    if conditions.evaluate(request.environ, validators):
        return _unchanged(service, image, headers)
    range_header = conditions.range_of(request.environ, validators)
    if download.is_foreign(service, image):
        # Whether If-Range holds for it, only its origin knows.
        range_header = request.environ.get("HTTP_RANGE")
    # What is deactivated is neither read from the cache nor put there.
    cache = image_cache.of(request.environ) if image["status"] == "active" else None
    opened = download.open_image(
        service,
        image,
        range_header,
        cache,
        trail.of(request.environ),
        functools.partial(_range_counts, request.environ),
    )
    is_hit = opened.source == image_cache.HIT
    request.environ[image_cache.SERVED] = is_hit
    if isinstance(opened.body, image_cache.CachedBody):
        hooks.after_response(request.environ, opened.body.count_hit)
    if metrics.is_on() and hooks.AFTER_RESPONSE in request.environ:
        metrics.DOWNLOADS_IN_PROGRESS.inc()
        source = "cache" if is_hit else "store"
        hooks.after_response(request.environ, functools.partial(_sent, source))
    hooks.on_failure(request.environ, functools.partial(_lost, service, image))
    headers.append(("Content-Type", OCTETS))
    if cache is not None and cache.debug_header:
        headers.append(("Cache-Status", _cache_status(opened.source)))
    if opened.length is not None:
        headers.append(("Content-Length", str(opened.length)))
    headers.extend(service.cache_rules.image_headers(image, validators, opened.etag))
    headers.append(_accept_ranges(opened.takes_ranges))
    headers.extend(caching.file_headers(image))
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


def head_response(
    service: api.ImageService,
    request: CallerRequest,
    image: types.ImageRecord,
    headers: list[tuple[str, str]],
) -> wsgi.Response:
    """Return the response to HEAD of an image in any status: what `data_response` has, or a 304.

    No store is contacted; so of foreign data (`download.is_foreign`) it says nothing that only the
    origin knows. To a caller who may not read the data, it has no validators, and nobody may keep
    it. Raises what `conditions.evaluate` raises.
    """
    has_data = image["status"] in download.WITH_DATA
    validators = caching.validators(image)
    if has_data and not _may_download(service, request.context, image):
        # SECURITY: proxies take what HEAD says of the data for a permission to send it.
        validators = conditions.Validators(None)
    if has_data and conditions.evaluate(request.environ, validators):
        return _unchanged(service, image, headers)
    headers.append(("Content-Type", OCTETS))
    size = download.known_size(image) if has_data else 0
    if size is not None:
        headers.append(("Content-Length", str(size)))
    headers.extend(service.cache_rules.image_headers(image, validators))
    if not (has_data and download.is_foreign(service, image)):
        headers.append(_accept_ranges(download.serves_ranges(service, image)))
    if has_data:
        headers.extend(caching.file_headers(image))
    return wsgi.Response(200, headers)


def _unchanged(
    service: api.ImageService, image: types.ImageRecord, headers: list[tuple[str, str]]
) -> wsgi.Response:
    headers.extend(service.cache_rules.image_headers(image, caching.validators(image)))
    headers.append(_accept_ranges(download.serves_ranges(service, image)))
    # A new name of the image is a new name of the file, too.
    headers.extend(caching.file_headers(image))
    return wsgi.Response(304, headers)


def _accept_ranges(can: bool) -> tuple[str, str]:
    return "Accept-Ranges", "bytes" if can else "none"


def _range_counts(environ: Mapping[str, Any], tag: str) -> bool:
    return conditions.range_of(environ, conditions.Validators(tag)) is not None


def check_download(
    service: api.ImageService, context: RequestContext, image: types.ImageRecord
) -> None:
    """Raise Forbidden for a visible image whose data the caller may not read.

    The data of a deactivated image is for administrators only.
    """
    service.policy.require("download_image", context)
    if image["status"] == "deactivated" and not context.is_admin:
        raise exception.Forbidden("The image is deactivated: its data cannot be downloaded")


def _may_download(
    service: api.ImageService, context: RequestContext, image: types.ImageRecord
) -> bool:
    try:
        check_download(service, context, image)
    except exception.Forbidden:
        return False
    return True


def _sent(source: str, sent: int, whole: bool) -> None:
    metrics.DOWNLOADS_IN_PROGRESS.inc(by=-1)
    metrics.DOWNLOADS.inc(source, "whole" if whole else "cut")
    metrics.DOWNLOAD_BYTES.inc(source, by=sent)


def _lost(
    service: api.ImageService, image: types.ImageRecord, err: BaseException, sent: int
) -> None:
    service.data_log.lost(image["id"], image["location"] or "", err, sent)


def forget_copy(
    request: CallerRequest, before: types.ImageRecord, after: types.ImageRecord | None = None
) -> None:
    """Forget copies of an image that was deleted, or changed: HTTP caches, and our own.

    Our own keeps it if the fields have not changed that its entry depends on.
    """
    purger = purging.of(request.environ)
    if purger is not None:
        purger.changed(before, after)
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
