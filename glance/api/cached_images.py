"""The image cache as a resource: entries, prefetch queue, statistics, and deletion of them.

`glance.api.middleware.cache_manage` puts these routes in front of the application. All of them
need the policy rule manage_image_cache. No response holds a path. Cached images are served
elsewhere; here they are only managed.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from glance import image_cache
from glance.api import caching, lookup
from glance.common import config, exception, numbers
from glance.http import wsgi
from glance.identity import policy
from glance.identity.context import CallerRequest
from glance.image import fields, types
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
        router.add("/cached_images", GET=self._for(self.index), DELETE=self._for(self.clear))
        router.add(
            "/cached_images/{id}",
            GET=self._for(self.show),
            PUT=self._for(self.queue),
            DELETE=self._for(self.delete),
        )
        router.add(
            "/queued_images", GET=self._for(self.queued), DELETE=self._for(self.unqueue_all)
        )
        router.add(
            "/queued_images/{id}", PUT=self._for(self.queue), DELETE=self._for(self.unqueue)
        )
        router.add("/cache_stats", GET=self._for(self.stats))
        return router

    def _for(self, handler: Callable[..., wsgi.Response]) -> wsgi.Handler[CallerRequest]:
        """Return a handler that first checks the policy, and then passes the cache on."""

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

    def show(
        self, cache: image_cache.ImageCache, request: CallerRequest, id: str
    ) -> wsgi.Response:
        """GET /cached_images/{id}: the complete entry of an image."""
        image_id = self._key(request, id)
        entry = cache.entry(image_id)
        if entry is None:
            raise exception.NotFound(f"Image {image_id} is not cached")
        return wsgi.json_response(entry_json(entry))

    def delete(
        self, cache: image_cache.ImageCache, request: CallerRequest, id: str
    ) -> wsgi.Response:
        """DELETE /cached_images/{id}: succeeds also if there is no entry."""
        return wsgi.json_response({"num_deleted": int(cache.delete(self._key(request, id)))})

    def clear(self, cache: image_cache.ImageCache, request: CallerRequest) -> wsgi.Response:
        """DELETE /cached_images: complete entries; or invalid, or incomplete ones."""
        query = request.query()
        state = _state(query.get("status", COMPLETE))
        grace = query.get("grace")
        count = cache.delete_all(state, None if grace is None else _seconds(grace))
        # WIRE: Diablo's names for the number, and Essex's.
        name = "num_purged" if state == COMPLETE else "num_reaped"
        return wsgi.json_response({"num_deleted": count, name: count})

    # -- the prefetch queue ----------------------------------------------------------------------

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

    def queued(self, cache: image_cache.ImageCache, request: CallerRequest) -> wsgi.Response:
        """GET /queued_images: ids in order; with ?detail=true, an object for each."""
        query = request.query()
        try:
            detailed = config.boolean(query.get("detail", "false"))
        except ValueError:
            raise exception.Invalid("detail must be true or false") from None
        rows = _page(
            [queue_json(item) for item in cache.queue_list()], self._numbered(request, query)
        )
        return wsgi.json_response({"queued_images": rows if detailed else [r["id"] for r in rows]})

    def unqueue(
        self, cache: image_cache.ImageCache, request: CallerRequest, id: str
    ) -> wsgi.Response:
        """DELETE /queued_images/{id}, unless the image is being fetched."""
        return wsgi.json_response({"num_deleted": int(cache.queue_delete(self._key(request, id)))})

    def unqueue_all(self, cache: image_cache.ImageCache, request: CallerRequest) -> wsgi.Response:
        """DELETE /queued_images: all except those that are being fetched."""
        return wsgi.json_response({"num_deleted": cache.queue_delete_all()})

    # -- statistics ------------------------------------------------------------------------------

    def stats(self, cache: image_cache.ImageCache, request: CallerRequest) -> wsgi.Response:
        """GET /cache_stats: sizes in bytes, numbers of entries, and counters."""
        return wsgi.json_response(cache.stats())


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
