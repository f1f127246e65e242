"""The image cache as a resource: entries, prefetch queue, statistics, and deletion of them.

`glance.api.middleware.cache_manage` puts these routes in front of the application. All of them
need the policy rule manage_image_cache. No response holds a path. Cached images are served
elsewhere; here they are only managed.
"""

from __future__ import annotations

import datetime
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from glance import image_cache
from glance.api import caching, describing, lookup
from glance.common import config, exception, numbers
from glance.http import openapi, wsgi
from glance.identity import policy
from glance.identity.context import CallerRequest
from glance.image import fields, listing, types
from glance.image_cache import COMPLETE, INCOMPLETE, CacheEntry, QueueItem
from glance.registry.link import RegistryLink

Cached = TypeVar("Cached", bound=types.CachedImage)

#: Value of ?status= for the queue, besides the states of entries.
PREFETCHING = "prefetching"

#: Why an image is not queued -> the message for the caller.
_REASONS = {
    COMPLETE: "is already cached",
    INCOMPLETE: "is being written to the cache",
    image_cache.QUEUED: "is already queued",
    image_cache.IN_PROGRESS: "is being fetched",
}

_STATUS: Mapping[str, openapi.Schema] = {
    "status": {
        "type": "string",
        "enum": [*image_cache.STATES, PREFETCHING],
        "description": "Which entries, or the queue.",
    }
}
_GRACE: Mapping[str, openapi.Schema] = {
    "grace": {
        "type": "number",
        "minimum": 0,
        "description": "Spare those that have changed within so many seconds.",
    }
}
_DETAIL: Mapping[str, openapi.Schema] = {
    "detail": {
        **listing.words_schema([*config.TRUE_WORDS, *config.FALSE_WORDS]),
        "description": "Whether to show objects instead of ids.",
    }
}
#: A cache of Essex may hold an image that no registry knows, by any name.
_NAME = (
    openapi.Parameter(
        "id", "path", {**openapi.TEXT, "description": "The number, uuid or name of the image."}
    ),
)
#: Where the filter is not in the pipeline, or the cache cannot be used.
_OFF = (exception.NotFound,)


class CachedImagesController:
    """Handlers of `/cached_images…`, `/queued_images…` and `/cache_stats`."""

    def __init__(self, conf: config.Conf):
        self.registry = RegistryLink(conf)
        self.policy = policy.from_conf(conf)
        self._own = image_cache.ImageCache(conf)
        self._rules = caching.CacheRules(conf)
        self._ready = False

    def router(self) -> wsgi.Router[CallerRequest]:
        """Return the routes, relative to the version prefix."""
        router = caching.ApiRouter(self._rules, mount="/v1")
        for path, handlers in routes():
            bound = {
                method: self._for(handler.__get__(self)) for method, handler in handlers.items()
            }
            router.add(path, **bound)
        return router

    def _for(self, handler: Callable[..., wsgi.Response]) -> wsgi.Handler[CallerRequest]:
        """Return a handler that first checks the policy, and then passes the cache on."""

        @functools.wraps(handler)
        def checked(request: CallerRequest, **path: str) -> wsgi.Response:
            self.policy.require("manage_image_cache", request.context)
            return handler(self._cache(request), request, **path)

        return checked

    def _cache(self, request: CallerRequest) -> image_cache.ImageCache:
        """Return the cache that the process serves from, or a separate one if caching is off."""
        used = image_cache.of(request.environ)
        if used is not None:
            return used
        if not self._ready:
            # NOTE: not at the start, because an unusable cache must not prevent the start.
            self._own.configure()
            self._ready = True
        return self._own

    def _key(self, request: CallerRequest, variable: str) -> str:
        """Return the id, in the cache, of the image in a path: its number.

        An image that the registry does not know keeps its name, because a cache of Essex may hold
        it. Raises NotFound for a slash in it, which no image's id has.
        """
        text = wsgi.segment(variable)
        if "/" in text:
            raise exception.NotFound("No image has this ID")
        return self._number(request, text)

    def _number(self, request: CallerRequest, text: str) -> str:
        if fields.parse_uuid(text) is None:
            return text
        try:
            return str(lookup.number(self.registry, request.context, text))
        except exception.NotFound:
            return text

    def _numbered(self, request: CallerRequest, query: Mapping[str, str]) -> Mapping[str, str]:
        """Return a query with the number of the marker in place of its uuid."""
        if "marker" not in query:
            return query
        return {**query, "marker": self._number(request, query["marker"])}

    # -- entries ---------------------------------------------------------------------------------

    @openapi.operation(
        "list_cached_images",
        parameters=openapi.query({**_STATUS, **describing.page()}),
        responses={200: openapi.json_of("CachedImages", "The entries.")},
        errors=_OFF,
    )
    def index(self, cache: image_cache.ImageCache, request: CallerRequest) -> wsgi.Response:
        """GET /cached_images: entries, least recently used first; or the queue, oldest first."""
        query = request.query()
        status = query.get("status", COMPLETE)
        shown: Sequence[types.CachedImage]
        if status == PREFETCHING:
            shown = [queue_json(item) for item in cache.queue_list()]
        else:
            shown = [entry_json(entry) for entry in cache.entries(_state(status))]
        return wsgi.json_response({"cached_images": _page(shown, self._numbered(request, query))})

    @openapi.operation(
        "show_cached_image",
        parameters=_NAME,
        responses={200: openapi.json_of("CachedImage", "The entry.")},
        errors=_OFF,
    )
    def show(
        self, cache: image_cache.ImageCache, request: CallerRequest, id: str
    ) -> wsgi.Response:
        """GET /cached_images/{id}: the complete entry of an image."""
        image_id = self._key(request, id)
        entry = cache.entry(image_id)
        if entry is None:
            raise exception.NotFound(f"Image {image_id} is not cached")
        return wsgi.json_response(entry_json(entry))

    @openapi.operation(
        "delete_cached_image",
        parameters=_NAME,
        responses={200: openapi.json_of("Deleted", "How many there were.")},
        errors=_OFF,
    )
    def delete(
        self, cache: image_cache.ImageCache, request: CallerRequest, id: str
    ) -> wsgi.Response:
        """DELETE /cached_images/{id}: remove the complete entry of an image, if any."""
        return wsgi.json_response({"num_deleted": int(cache.delete(self._key(request, id)))})

    @openapi.operation(
        "delete_cached_images",
        parameters=openapi.query({**_STATUS, **_GRACE}),
        responses={200: openapi.json_of("Deleted", "How many there were.")},
        errors=_OFF,
    )
    def clear(self, cache: image_cache.ImageCache, request: CallerRequest) -> wsgi.Response:
        """DELETE /cached_images: remove complete entries; or invalid, or incomplete ones."""
        query = request.query()
        state = _state(query.get("status", COMPLETE))
        grace = query.get("grace")
        count = cache.delete_all(state, None if grace is None else _seconds(grace))
        # WIRE: Diablo's names for the number, and Essex's.
        name = "num_purged" if state == COMPLETE else "num_reaped"
        return wsgi.json_response({"num_deleted": count, name: count})

    # -- the prefetch queue ----------------------------------------------------------------------

    @openapi.operation(
        "queue_image",
        parameters=_NAME,
        responses={200: openapi.json_of("Queued", "The image is queued.")},
        errors=_OFF,
    )
    def queue(
        self, cache: image_cache.ImageCache, request: CallerRequest, id: str
    ) -> wsgi.Response:
        """PUT /cached_images/{id} or /queued_images/{id}: queue an image for the prefetcher."""
        record = lookup.image(self.registry, request.context, id)
        if record["status"] != "active":
            raise exception.NotFound(f"Image {id} has no data to cache")
        try:
            cache.queue_add(image_cache.Image.of(record))
        except image_cache.CacheRefused as err:
            reason = _REASONS.get(err.reason, f"cannot be cached: {err.reason}")
            raise exception.Invalid(f"Image {id} {reason}") from err
        return wsgi.json_response({"queued": True})

    @openapi.operation(
        "list_queued_images",
        parameters=openapi.query({**_DETAIL, **describing.page()}),
        responses={200: openapi.json_of("QueuedImages", "The queue.")},
        errors=_OFF,
    )
    def queued(self, cache: image_cache.ImageCache, request: CallerRequest) -> wsgi.Response:
        """GET /queued_images: the queue in its order, as ids or as objects."""
        query = request.query()
        try:
            detailed = config.boolean(query.get("detail", "false"))
        except ValueError:
            raise exception.Invalid("detail must be true or false") from None
        rows = _page(
            [queue_json(item) for item in cache.queue_list()], self._numbered(request, query)
        )
        return wsgi.json_response({"queued_images": rows if detailed else [r["id"] for r in rows]})

    @openapi.operation(
        "remove_queued_image",
        parameters=_NAME,
        responses={200: openapi.json_of("Deleted", "How many there were.")},
        errors=_OFF,
    )
    def unqueue(
        self, cache: image_cache.ImageCache, request: CallerRequest, id: str
    ) -> wsgi.Response:
        """DELETE /queued_images/{id}: take an image from the queue, unless it is fetched now."""
        return wsgi.json_response({"num_deleted": int(cache.queue_delete(self._key(request, id)))})

    @openapi.operation(
        "remove_queued_images",
        responses={200: openapi.json_of("Deleted", "How many there were.")},
        errors=_OFF,
    )
    def unqueue_all(self, cache: image_cache.ImageCache, request: CallerRequest) -> wsgi.Response:
        """DELETE /queued_images: empty the queue but for images that are being fetched."""
        return wsgi.json_response({"num_deleted": cache.queue_delete_all()})

    # -- statistics ------------------------------------------------------------------------------

    @openapi.operation(
        "show_cache_statistics",
        responses={200: openapi.json_of("CacheStatistics", "Sizes in bytes, and numbers.")},
        errors=_OFF,
    )
    def stats(self, cache: image_cache.ImageCache, request: CallerRequest) -> wsgi.Response:
        """GET /cache_stats: sizes in bytes, numbers of entries, and counters."""
        return wsgi.json_response(cache.stats())


def routes() -> openapi.Routes:
    """Return the paths with the methods of the controller, relative to the version prefix."""
    own = CachedImagesController
    return (
        ("/cached_images", {"GET": own.index, "DELETE": own.clear}),
        ("/cached_images/{id}", {"GET": own.show, "PUT": own.queue, "DELETE": own.delete}),
        ("/queued_images", {"GET": own.queued, "DELETE": own.unqueue_all}),
        ("/queued_images/{id}", {"PUT": own.queue, "DELETE": own.unqueue}),
        ("/cache_stats", {"GET": own.stats}),
    )


def entry_json(entry: CacheEntry) -> types.CachedImage:
    """Return an entry as clients see it."""
    shown = _shown_id(entry.image_id)
    return {
        "id": shown,
        "image_id": shown,
        "name": entry.name,
        "size": entry.size,
        "expected_size": entry.expected_size,
        "hits": entry.hits,
        "last_accessed": _iso(entry.accessed_at),
        "last_modified": _iso(entry.modified_at),
        "checksum": entry.checksum,
        "status": entry.state,
        "error": entry.error,
    }


def queue_json(item: QueueItem) -> types.QueuedImage:
    """Return a queued image as clients see it; its times are when it was queued."""
    shown = _shown_id(item.image_id)
    return {
        "id": shown,
        "image_id": shown,
        "name": item.name,
        "size": 0,
        "expected_size": None,
        "hits": 0,
        "last_accessed": _iso(item.enqueued_at),
        "last_modified": _iso(item.enqueued_at),
        "checksum": None,
        "status": item.state,
        "error": item.last_error,
        "attempts": item.attempts,
    }


def _shown_id(image_id: str) -> int | str:
    # WIRE: Diablo called it id and had numbers only, Essex calls it image_id.
    return int(image_id) if fields.parse_id(image_id) is not None else image_id


def _iso(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _state(status: str) -> str:
    if status not in image_cache.STATES:
        known = ", ".join((*image_cache.STATES, PREFETCHING))
        raise exception.Invalid(f"status must be one of {known}")
    return status


def _seconds(text: str) -> float:
    seconds = numbers.real(text)
    if seconds is None or not 0 <= seconds < math.inf:
        raise exception.Invalid("grace must be a number of seconds")
    return seconds


def _page(rows: Sequence[Cached], query: Mapping[str, str]) -> list[Cached]:
    """Return the page of rows given by `marker` (an id) and `limit`."""
    chosen = list(rows)
    marker, limit = query.get("marker"), query.get("limit")
    if marker is not None:
        places = [place for place, row in enumerate(chosen) if str(row["id"]) == marker]
        if not places:
            raise exception.Invalid("marker must be the id of an image in the list")
        chosen = chosen[places[-1] + 1 :]
    if limit is not None:
        count = numbers.whole(limit, 30)
        if count is None:
            raise exception.Invalid("limit must be a whole number, 0 or greater")
        chosen = chosen[: min(count, len(chosen))]
    return chosen
