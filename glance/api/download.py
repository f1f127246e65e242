"""Open an image's data for a download: range, cache or store, and the exact length."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator

from glance import api, image_cache
from glance.common import exception
from glance.http import ranges
from glance.http import trail as trails
from glance.http.trail import Trail
from glance.image import fields, types
from glance.store import base
from glance.streaming import body, digest
from glance.streaming.fanout import Fanout

LOG = logging.getLogger(__name__)

#: The statuses of an image that has data to read.
WITH_DATA = fields.WITH_DATA
#: The MD5 of no bytes.
_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"

TOO_LARGE = "The data of the image has grown beyond what this server permits."


@dataclasses.dataclass(frozen=True, slots=True)
class Download:
    """An opened image. `total` is the size of the whole image, None if unknown.

    The owner of `body` closes it. `part` is set for a partial response (206). `source` is how the
    image cache takes part in it: a word of `ImageCache.fetch`, None without a cache. `etag` is the
    text of the strong tag that the data of others has where it lies, if that is not known from a
    checksum; `takes_ranges` is whether a part of the image can be had.
    """

    body: body.Body
    total: int | None
    part: ranges.Range | None = None
    source: str | None = None
    etag: str | None = None
    takes_ranges: bool = False

    @property
    def content_range(self) -> str | None:
        """The value of Content-Range for a partial response, None for the whole."""
        if self.part is None or self.total is None:
            return None
        return self.part.content_range(self.total)

    @property
    def length(self) -> int | None:
        """Length of the response in bytes, None if unknown."""
        return self.part.length if self.part else self.total


def open_image(
    service: api.ImageService,
    image: types.ImageRecord,
    range_header: str | None = None,
    cache: image_cache.ImageCache | None = None,
    came_by: Trail = (),
    is_current: Callable[[str], bool] = lambda tag: True,
) -> Download:
    """Open the data of an image with data that the caller is allowed to read.

    With a `cache`, its copy is sent if it has one; a download of the whole image fills it.
    `came_by` is the trail of the request. A range of foreign data (see `is_foreign`) is served
    only if it has a strong tag, and if this tag `is_current` for the caller.

    Raises NotFound when the image has no data or the store has lost it, RangeNotSatisfiable,
    ServiceUnavailable when the store cannot be reached, LocationLoop when the request has come
    from this image, and BackendCorrupt when the size of the data differs from the record, in
    glance's own store or on a server where it was registered.
    """
    location = _location(image)
    try:
        return _open(service, image, location, range_header, cache, came_by, is_current)
    except exception.LocationLoop:
        # It is a mistake of whoever registered the location.
        raise
    except (exception.StoreError, exception.ServiceUnavailable, exception.ServerError) as err:
        service.data_log.lost(image["id"], location, err)
        raise


def _open(
    service: api.ImageService,
    image: types.ImageRecord,
    location: str,
    range_header: str | None,
    cache: image_cache.ImageCache | None,
    came_by: Trail,
    is_current: Callable[[str], bool],
) -> Download:
    trail = trail_of(service, image, came_by)
    known = known_size(image)
    part = None
    takes_ranges = serves_ranges(service, image)
    foreign = is_foreign(service, image)
    if range_header and takes_ranges:
        if known is None:
            size = service.stores.get_size(location, trail=trail)
            known = _below_cap(service, size, image["id"]) or None
        if known is not None:
            most = service.conf.http_ranges_max
            part = ranges.parse_range(range_header, known, most)
    if foreign and (part is not None or cache is None):
        return _from_others(service, image, part, known, trail, is_current)
    if cache is None:
        opened = _from_store(service, image, part, known, trail)
    else:
        opened = _by_cache(service, image, part, known, cache, trail, fill=not range_header)
        LOG.debug("Image %s by way of the cache: %s", image["id"], opened.source)
    return dataclasses.replace(opened, takes_ranges=takes_ranges and not foreign)


def _from_others(
    service: api.ImageService,
    image: types.ImageRecord,
    part: ranges.Range | None,
    known: int | None,
    trail: Trail,
    is_current: Callable[[str], bool],
) -> Download:
    """Open data of which nothing but its own tag says that it is still the same."""
    opened = _from_store(service, image, part, known, trail)
    if part is not None and not (opened.etag and is_current(opened.etag)):
        opened.body.close()
        opened = _from_store(service, image, None, known, trail)
    ranged = opened.etag is not None and serves_ranges(service, image)
    return dataclasses.replace(opened, takes_ranges=ranged)


def known_size(image: types.ImageRecord) -> int | None:
    """Return the size in bytes of the data of an active image, None if it is not known.

    A size of 0 in the record is none, unless the checksum says so, too: it stands for the unknown
    size of a location as well.
    """
    size = image.get("size")
    return 0 if not size and image.get("checksum") == _OF_NOTHING else size or None


def is_foreign(service: api.ImageService, image: types.ImageRecord) -> bool:
    """Return whether an image is data of others without a checksum, which may change any time."""
    location = image.get("location")
    if image.get("checksum") or not location:
        return False
    try:
        return not service.stores.owns(location, str(image["id"]))
    except (exception.UnknownScheme, exception.BadStoreUri):
        return True


def _location(image: types.ImageRecord) -> str:
    """Return where the data of an image lies; NotFound if it has none."""
    location = image.get("location")
    if image["status"] not in WITH_DATA or not location:
        raise exception.NotFound(f"Image {image['id']} has no data to download")
    return location


def trail_of(service: api.ImageService, image: types.ImageRecord, came_by: Trail = ()) -> Trail:
    """Return the trail of the requests for an image's data; () for a store of this service.

    Raises LocationLoop if the request that came by `came_by` must not lead to others.
    """
    location = _location(image)
    try:
        target = service.stores.for_uri(location)
        # PERF: no location has to be parsed for a file.
        if base.Capability.REGISTERABLE not in target.capabilities:
            return ()
        if service.stores.owns(location, str(image["id"])):
            return ()
    except (exception.UnknownScheme, exception.BadStoreUri):
        # What is wrong with it is reported when it is opened.
        return ()
    return trails.extended(came_by, trails.mark(image["id"], image.get("created_at")))


def serves_ranges(service: api.ImageService, image: types.ImageRecord) -> bool:
    """Return whether ranges of an image can be served. The cache makes no difference.

    Of foreign data, it depends on its tag as well (see `Download`).
    """
    location = image.get("location")
    if image["status"] not in WITH_DATA or not location or not service.cache_rules.ranges:
        return False
    try:
        target = service.stores.for_uri(location)
    except exception.StoreError:
        return False
    return base.Capability.RANDOM_READ in target.capabilities


def _by_cache(
    service: api.ImageService,
    image: types.ImageRecord,
    part: ranges.Range | None,
    known: int | None,
    cache: image_cache.ImageCache,
    trail: Trail,
    *,
    fill: bool,
) -> Download:
    def bypass(reason: str) -> Download:
        cache.usage.count("bypasses")
        found = _from_store(service, image, part, known, trail)
        return dataclasses.replace(found, source=reason)

    if not known:
        return bypass("size")
    size = known

    def opener(position: int) -> body.Body:
        if not position:
            return _from_store(service, image, None, size, trail).body
        if serves_ranges(service, image):
            rest = ranges.Range(position, size - position)
            return _from_store(service, image, rest, size, trail).body
        return _from_store(service, image, None, size, trail).body.slice(position, size)

    target = image_cache.Image.of(image)
    offset, length = (part.offset, part.length) if part else (0, None)
    copy = cache.open(target, offset, length, opener)
    if copy is not None:
        return Download(copy, size, part, image_cache.HIT)
    if not fill:
        return bypass("range")
    if len(trail) > 1:
        # NOTE: two fills that wait for each other's data would wait for ever.
        return bypass("trail")
    data, source = cache.fetch(target, opener)
    return Download(data, known, None, source)


def _from_store(
    service: api.ImageService,
    image: types.ImageRecord,
    part: ranges.Range | None,
    known: int | None,
    trail: Trail,
) -> Download:
    location = _location(image)
    _require_store(service, location)
    if part is not None:
        try:
            data = service.stores.get(location, part.offset, part.length, trail=trail)
        except exception.RangeNotSatisfiable as err:
            # The caller's range is inside the image: the store has less.
            detail = f"image {image['id']} has {err.size} bytes there, not {known}"
            raise exception.BackendCorrupt().because(detail) from err
    else:
        data = service.stores.get(location, trail=trail)
    try:
        found = _checked(data, part, known, image["id"])
        if part is not None:
            return found
        if known is None:
            _below_cap(service, found.total, image["id"])
        return _verified(service, _bounded(service, found, image["id"]), image)
    except BaseException:
        data.close()
        raise


def _below_cap(service: api.ImageService, size: int | None, image_id: object) -> int | None:
    """Return the size of data whose size is not in the record; BackendCorrupt above the cap."""
    cap = service.conf.image_size_cap
    if cap and size is not None and size > cap:
        detail = f"the location of image {image_id} has {size} bytes; {cap} are permitted"
        raise exception.BackendCorrupt(TOO_LARGE).because(detail)
    return size


def _bounded(service: api.ImageService, found: Download, image_id: object) -> Download:
    """Watch the size of data whose length the store does not know."""
    limit = found.total or service.conf.image_size_cap
    if found.body.length is not None or not limit:
        return found
    exact = found.total is not None
    return dataclasses.replace(found, body=_Bounded(found.body, limit, exact, image_id))


class _Bounded(body.Body):
    """A body of at most `limit` bytes, or `exact`ly so many.

    Iteration raises BackendCorrupt as soon as there are more. An exact one holds its end back, so
    that the reader never takes a part of what has grown for a whole image.
    """

    def __init__(self, data: body.Body, limit: int, exact: bool, image_id: object):
        super().__init__(limit if exact else None, size=data.size)
        self._data, self._limit, self._exact, self._image_id = data, limit, exact, image_id
        self.store_name = data.store_name

    def _chunks(self) -> Iterator[bytes]:
        count, held = 0, b""
        for chunk in self._data:
            count += len(chunk)
            if count > self._limit:
                detail = (
                    f"the location of image {self._image_id} has more than {self._limit} bytes"
                )
                raise exception.BackendCorrupt(TOO_LARGE).because(detail)
            if not self._exact:
                yield chunk
                continue
            if held:
                yield held
            held = chunk
        if held:
            yield held

    def _release(self) -> None:
        self._data.close()


def _verified(service: api.ImageService, found: Download, image: types.ImageRecord) -> Download:
    """Compare the data of a whole image with its checksum while it is sent.

    This is for data that came through `glance.api.upload`. It is not for files, which the server
    sends without reading them and whose disk has its own checks.
    """
    checksum = image.get("checksum")
    if not checksum or isinstance(found.body, body.FileBody):
        return found
    if not service.stores.owns(_location(image), str(image["id"])):
        return found
    return dataclasses.replace(found, body=_Verified(found.body, checksum, image["id"]))


class _Verified(body.Body):
    """A body whose end is held back until its MD5 has been verified.

    Iteration raises BackendCorrupt if it is wrong, so that the reader never has a whole image.
    """

    def __init__(self, data: body.Body, checksum: str, image_id: object):
        super().__init__(data.length, size=data.size)
        self._data, self._checksum, self._image_id = data, checksum, image_id
        self.store_name = data.store_name

    def _chunks(self) -> Iterator[bytes]:
        digester = digest.Digester()
        with Fanout([digester.update]) as fanout:
            held = b""
            for chunk in self._data:
                fanout.put(chunk)
                if held:
                    yield held
                held = chunk
            fanout.join()
        if digester.hexdigest() != self._checksum.lower():
            detail = f"image {self._image_id} is not the data that the store received"
            raise exception.BackendCorrupt().because(detail)
        if held:
            yield held

    def _release(self) -> None:
        self._data.close()


def _require_store(service: api.ImageService, location: str) -> None:
    try:
        service.stores.for_uri(location)
    except exception.UnknownScheme as err:
        raise exception.ServiceUnavailable(
            "The store that holds the image is not enabled on this server"
        ) from err
    except exception.BadStoreUri as err:
        raise exception.ServerError("The image's record is damaged") from err


def _checked(
    data: body.Body, part: ranges.Range | None, known: int | None, image_id: object
) -> Download:
    """Return the opened data if it has the expected size. Raises BackendCorrupt otherwise."""
    if data.size is not None and known is not None and data.size != known:
        detail = f"image {image_id} has {data.size} bytes there, not {known}"
        raise exception.BackendCorrupt().because(detail).of(data.store_name)
    if part is not None and data.length != part.length:
        # SECURITY: other bytes must never be sent as those that were requested.
        detail = f"another range of image {image_id} than was requested"
        raise exception.BackendCorrupt().because(detail).of(data.store_name)
    return Download(data, data.size if known is None else known, part, etag=data.etag)
