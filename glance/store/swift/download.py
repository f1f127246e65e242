"""Read images from Swift: responses are checked, and continued after a broken connection."""

from __future__ import annotations

import logging
import types
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from glance.common import exception
from glance.http import etags, ranges
from glance.http.client import response as http_response
from glance.store.location import SwiftLocation
from glance.streaming import body

if TYPE_CHECKING:
    from glance.store.swift.client import SwiftClient, SwiftResponse

LOG = logging.getLogger(__name__)

#: Bytes that a broken connection must have delivered for another one to be opened.
PROGRESS = 1024 * 1024


def open_object(
    client: SwiftClient,
    where: SwiftLocation,
    offset: int,
    length: int | None,
    extra: Mapping[str, str] = types.MappingProxyType({}),
) -> body.Body:
    """Return `length` bytes (None: all) of an object from `offset` on; the body closes `client`.

    `extra` headers are sent with the first request. Raises StoreObjectNotFound, StoreForbidden,
    BackendUnavailable, BackendCorrupt, and RangeNotSatisfiable if `offset` is past the end; after
    an error the caller closes the client.
    """
    if length == 0:
        return _nothing(client, offset, length_of(client.head(where.container, where.obj)))
    range_header = ranges.format_range(offset, length)
    headers = {**extra, **({"Range": range_header} if range_header else {})}
    try:
        response = client.get(where.container, where.obj, headers)
    except exception.RangeNotSatisfiable as err:
        # NOTE: Swift responds with 416 for the byte right after the end, too.
        size = err.size or length_of(client.head(where.container, where.obj)) or 0
        return _nothing(client, offset, size)
    try:
        return _opened(client, where, response, offset, length)
    except BaseException:
        response.close()
        raise


def _nothing(client: SwiftClient, offset: int, size: int | None) -> body.Body:
    if size is not None:
        ranges.clip(size, offset)  # raises for an offset behind the end
    return body.IterBody((), 0, client.close, size=size)


def _opened(
    client: SwiftClient,
    where: SwiftLocation,
    response: SwiftResponse,
    offset: int,
    length: int | None,
) -> body.Body:
    if response.status == 206:
        part, size = _part(response.headers)
        if part.offset != offset or part != ranges.clip(size, offset, length):
            # SECURITY: other bytes must never be returned as those that were requested.
            raise exception.BackendCorrupt()
        return SwiftDownload(client, where, response, part.offset, part.length, size)
    whole = length_of(response.headers)
    found = SwiftDownload(client, where, response, 0, whole, whole)
    if not offset and length is None:
        return found
    # A server without support for ranges sent everything.
    if whole is None:
        raise exception.BackendCorrupt()
    part = ranges.clip(whole, offset, length)
    return found.slice(part.offset, part.end)


class SwiftDownload(body.Body):
    """The bytes of a response from `first` on; continued after a broken connection."""

    def __init__(
        self,
        client: SwiftClient,
        where: SwiftLocation,
        response: SwiftResponse,
        first: int,
        length: int | None,
        size: int | None,
    ):
        super().__init__(length, size=size)
        self._client, self._where, self._response = client, where, response
        self._first = first
        self._etag = response.headers.get("etag")
        # NOTE: Swift sends its tags without quotes.
        self.etag = etags.opaque(self._etag) or None

    def _chunks(self) -> Iterator[bytes]:
        done = failed_at = 0
        retries = self._client.retries()
        while self.length is None or done < self.length:
            try:
                chunk = self._response.read()
                if not chunk and self.length is not None:
                    raise exception.BackendUnavailable()
            except exception.BackendUnavailable:
                # NOTE: a download with little progress each time must not be retried for ever.
                if done - failed_at >= PROGRESS:
                    retries.reset()
                failed_at = done
                if self.length is None or not retries.again():
                    raise
                LOG.warning("Swift closed the connection in the middle of an image; resuming")
                self._resume(done)
                continue
            if not chunk:
                return
            done += len(chunk)
            yield chunk

    def _resume(self, done: int) -> None:
        assert self.length is not None
        self._response.close()
        rest = ranges.Range(self._first + done, self.length - done)
        headers = {"Range": rest.request}
        if self._etag:
            # SECURITY: never the rest of another object.
            headers["If-Match"] = self._etag
        self._response = self._client.get(self._where.container, self._where.obj, headers)
        if self._response.status != 206 or _part(self._response.headers) != (rest, self.size):
            raise exception.BackendCorrupt()

    def _release(self) -> None:
        self._response.close()
        self._client.close()


def length_of(headers: Mapping[str, str]) -> int | None:
    """Return the length of a response from its headers, None if they do not have it."""
    return http_response.parse_length(headers.get("content-length"))


def _part(headers: Mapping[str, str]) -> tuple[ranges.Range, int]:
    """Return the range of a partial response, and the size of the whole object."""
    content_range = ranges.parse_content_range(headers.get("content-range"))
    if content_range is None or content_range[1] is None:
        raise exception.BackendCorrupt()
    return content_range[0], content_range[1]
