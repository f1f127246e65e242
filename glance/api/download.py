"""Open an image's data for a download: range, cache or store, and the exact length promised."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from glance import api, image_cache
from glance.common import exception
from glance.http import ranges
from glance.store import base
from glance.streaming import body, digest, offload

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Download:
    """An opened image. `total` is the size of the whole image, None if the store cannot tell.

    The body's owner closes it. `part` is set for a partial answer (206). `source` tells what part
    the image cache has in it: a word of `ImageCache.fetch`, None without a cache.
    """

    body: body.Body
    total: int | None
    part: ranges.Range | None = None
    source: str | None = None

    @property
    def content_range(self) -> str | None:
        """The value of Content-Range for a partial answer, None for the whole."""
        if self.part is None or self.total is None:
            return None
        return self.part.content_range(self.total)

    @property
    def length(self) -> int | None:
        """Bytes that the answer has, None if unknown."""
        return self.part.length if self.part else self.total


def open_image(
    service: api.ImageService,
    image: Mapping[str, Any],
    range_header: str | None = None,
    cache: image_cache.ImageCache | None = None,
) -> Download:
    """Open the data of an active image, which the caller was found to be allowed to read.

    With a `cache`, its copy is sent if it has one; a download of the whole fills it.

    Raises NotFound when the image has no data or the store has lost it, RangeNotSatisfiable,
    ServiceUnavailable when the store cannot be asked, and BackendCorrupt when the data has
    another size than its record, be it ours or that of a server it was registered at.
    """
    location = image.get("location")
    if image["status"] != "active" or not location:
        raise exception.NotFound(f"Image {image['id']} has no data to download")
    known: int | None = image.get("size") or None
    part = None
    if range_header and serves_ranges(service, image):
        known = known or service.stores.get_size(location)
        part = ranges.parse_range(range_header, known) if known else None
    if cache is None:
        return _from_store(service, image, part, known)
    opened = _by_cache(service, image, part, known, cache, fill=not range_header)
    LOG.debug("Image %s by way of the cache: %s", image["id"], opened.source)
    return opened


def serves_ranges(service: api.ImageService, image: Mapping[str, Any]) -> bool:
    """Return whether parts of an image can be had. The cache makes no difference to that."""
    if image["status"] != "active" or not image.get("location"):
        return False
    try:
        target = service.stores.for_uri(image["location"])
    except exception.StoreError:
        return False
    return base.Capability.RANDOM_READ in target.capabilities


def _by_cache(
    service: api.ImageService,
    image: Mapping[str, Any],
    part: ranges.Range | None,
    known: int | None,
    cache: image_cache.ImageCache,
    *,
    fill: bool,
) -> Download:
    def past(reason: str) -> Download:
        cache.usage.count("bypasses")
        return dataclasses.replace(_from_store(service, image, part, known), source=reason)

    if known is None:
        return past("size")
    size = known

    def opener(position: int) -> body.Body:
        if not position:
            return _from_store(service, image, None, size).body
        if serves_ranges(service, image):
            rest = ranges.Range(position, size - position)
            return _from_store(service, image, rest, size).body
        return _from_store(service, image, None, size).body.slice(position, size)

    wanted = image_cache.Image.of(image)
    offset, length = (part.offset, part.length) if part else (0, None)
    copy = cache.open(wanted, offset, length, opener)
    if copy is not None:
        return Download(copy, size, part, image_cache.HIT)
    if not fill:
        return past("range")
    data, source = cache.fetch(wanted, opener)
    return Download(data, known, None, source)


def _from_store(
    service: api.ImageService,
    image: Mapping[str, Any],
    part: ranges.Range | None,
    known: int | None,
) -> Download:
    location = image["location"]
    _require_store(service, location, image["id"])
    if part is not None:
        data = service.stores.get(location, part.offset, part.length)
    else:
        data = service.stores.get(location)
    try:
        found = _checked(data, part, known, image["id"])
        return found if part is not None else _verified(service, found, image)
    except BaseException:
        data.close()
        raise


def _verified(service: api.ImageService, found: Download, image: Mapping[str, Any]) -> Download:
    """Let the data of a whole image be compared with its checksum on the way.

    For data that came here through `glance.api.upload`. Not for files, which the server sends
    without looking at them and whose disk has checks of its own.
    """
    checksum = image.get("checksum")
    if not checksum or isinstance(found.body, body.FileBody):
        return found
    if not service.stores.owns(image["location"], str(image["id"])):
        return found
    return dataclasses.replace(found, body=_Verified(found.body, checksum, image["id"]))


class _Verified(body.Body):
    """A body whose end is held back until its MD5 has turned out to be the right one.

    Iteration raises BackendCorrupt otherwise, so that whoever reads it never has a whole image.
    """

    def __init__(self, data: body.Body, checksum: str, image_id: object):
        super().__init__(data.length, size=data.size)
        self._data, self._checksum, self._image_id = data, checksum, image_id

    def _chunks(self) -> Iterator[bytes]:
        digester = digest.Digester()
        with offload.Fanout([digester.update]) as fanout:
            held = b""
            for chunk in self._data:
                fanout.put(chunk)
                if held:
                    yield held
                held = chunk
            fanout.join()
        if digester.hexdigest() != self._checksum.lower():
            LOG.error("Image %s: the store returned other data than it received", self._image_id)
            raise exception.BackendCorrupt()
        if held:
            yield held

    def _release(self) -> None:
        self._data.close()


def _require_store(service: api.ImageService, location: str, image_id: object) -> None:
    try:
        service.stores.for_uri(location)
    except exception.UnknownScheme as err:
        LOG.error("Image %s is in a store that is not enabled", image_id)
        raise exception.ServiceUnavailable(
            "The store that holds the image is not enabled on this server"
        ) from err
    except exception.BadStoreUri as err:
        raise exception.ServerError("The image's record is damaged") from err


def _checked(
    data: body.Body, part: ranges.Range | None, known: int | None, image_id: object
) -> Download:
    """Return the opened data if it is what the range was reckoned with, or BackendCorrupt."""
    if data.size is not None and known is not None and data.size != known:
        LOG.error("Image %s: the store has %s bytes, not %s", image_id, data.size, known)
        raise exception.BackendCorrupt
    if part is not None and data.length != part.length:
        # SECURITY: other bytes than those asked for must never look like them.
        LOG.error("Image %s: the store returned another range than was requested", image_id)
        raise exception.BackendCorrupt
    return Download(data, data.size if known is None else known, part)
