"""Read from S3: responses are checked, and continued after a broken connection.

The object's ETag ties the parts of a download together: the data after a break comes from the same
version of the object, or the download fails.
"""

from __future__ import annotations

import logging
import types
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from glance.common import exception
from glance.http import etags, ranges
from glance.http.client import response as http_response
from glance.store.s3.errors import S3Error, S3Refused, Unreachable
from glance.streaming import body, retry

if TYPE_CHECKING:
    from glance.store.s3.client import S3Client

LOG = logging.getLogger(__name__)

READ = 256 * 1024


def open_object(
    client: S3Client,
    key: str,
    offset: int,
    length: int | None,
    extra: Mapping[str, str] = types.MappingProxyType({}),
) -> body.Body:
    """Return the bytes of an object from `offset` on: `length` of them, or all.

    `extra` headers are sent with the first request. The caller closes the body. Raises `S3Error`,
    and RangeNotSatisfiable if `offset` is past the end.
    """
    if length == 0:
        return _nothing(client, key, offset)
    try:
        response = client.get(key, offset, length, extra=extra)
    except S3Refused as err:
        if err.status != 416:
            raise
        return _nothing(client, key, offset)
    try:
        return _checked(client, key, response, offset, length)
    except BaseException:
        response.close()
        raise


def _nothing(client: S3Client, key: str, offset: int) -> body.Body:
    """Return the empty body at the end of an object, or of length 0."""
    size = client.head(key).size
    ranges.clip(size, offset)  # raises for an offset behind the end
    return body.IterBody((), 0, size=size)


def _checked(
    client: S3Client,
    key: str,
    response: http_response.ClientResponse,
    offset: int,
    length: int | None,
) -> body.Body:
    if response.status == 206:
        size = _check_range(response, offset, length)
    elif response.length is None:
        raise Unreachable("the response to GET has no length")
    else:
        size = response.length
    whole = _Object(client, key, response, size)
    part = ranges.clip(size, offset, length)
    if response.status == 206:
        return whole.part(part.offset, part.length)
    body_ = whole.part(0, size)
    # A service without support for ranges sends everything.
    return body_ if part.length == size else body_.slice(part.offset, part.end)


def _check_range(response: http_response.ClientResponse, offset: int, length: int | None) -> int:
    """Return the object's size from a 206 response. Raises Unreachable for another range."""
    content_range = ranges.parse_content_range(response.getheader("content-range"))
    if content_range is None or content_range[1] is None:
        raise Unreachable("the response has no usable Content-Range")
    part, size = content_range[0], content_range[1]
    fits = part.offset == offset and part == ranges.clip(size, offset, length)
    if not fits or response.length not in (None, part.length):
        raise Unreachable("the response has another range than requested")
    return size


class _Object:
    """An object that is being read; after a break another response replaces the current one."""

    def __init__(
        self, client: S3Client, key: str, response: http_response.ClientResponse, size: int
    ):
        self._client, self._key, self._size = client, key, size
        self._response = response
        tag = etags.parse_etag(response.getheader("etag"))
        # NOTE: If-Match never holds for a weak tag.
        self._etag = None if tag is None or tag.weak else tag

    def part(self, start: int, length: int) -> body.Body:
        """Return the body of the bytes of the response, which begin at `start`."""
        data = body.IterBody(
            self._chunks(start, start + length), length, self._close, size=self._size
        )
        data.etag = self._etag.value if self._etag else None
        return data

    def _chunks(self, position: int, end: int) -> Iterator[bytes]:
        # NOTE: without a pause, as the request that follows makes its own.
        retries = retry.Retries(
            retry.Backoff.steady(0, retries=self._client.settings.retries if self._etag else 0)
        )
        while position < end:
            try:
                chunk = self._response.read(min(READ, end - position))
            except (http_response.ConnectionBroken, OSError) as err:
                cause = type(err).__name__
                if retries.next_pause() is None:
                    detail = f"interrupted after {position} of {end} bytes: {cause}"
                    raise exception.BackendUnavailable().because(detail) from err
                LOG.warning(
                    "Reading the object %s of S3 was interrupted after %d of %d bytes (%s)",
                    self._key,
                    position,
                    end,
                    cause,
                )
                self._reopen(position, end)
                continue
            if not chunk:
                return
            position += len(chunk)
            yield chunk

    def _reopen(self, position: int, end: int) -> None:
        try:
            self._response.close()
            self._response = self._client.get(self._key, position, end - position, self._etag)
            if self._response.status != 206:
                raise Unreachable("the response to a range request has no range")
            if _check_range(self._response, position, end - position) != self._size:
                raise Unreachable("the size of the object has changed")
        except S3Error as err:
            raise exception.BackendUnavailable().because(str(err)) from err

    def _close(self) -> None:
        self._response.close()
