"""Reading from S3: answers that are checked, and go on after the connection broke.

The object's ETag ties the parts of a download together: what is read after a break comes from the
same version of the object, or the download fails.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from glance.common import exception
from glance.http import ranges
from glance.http.client import response as http_response
from glance.store.s3.errors import S3Error, S3Refused, Unreachable
from glance.streaming import body

if TYPE_CHECKING:
    from glance.store.s3.client import S3Client

LOG = logging.getLogger(__name__)

READ = 256 * 1024


def open_object(client: S3Client, key: str, offset: int, length: int | None) -> body.Body:
    """Return the bytes of an object from `offset`, `length` of them or all that follow.

    The caller closes the body. Raises `Failed`, and RangeNotSatisfiable if `offset` lies behind
    the end.
    """
    if length == 0:
        return _nothing(client, key, offset)
    try:
        response = client.get(key, offset, length)
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
    """Return the empty part behind the end of an object, or of length 0."""
    size = client.head(key).size
    if offset > size:
        raise exception.RangeNotSatisfiable(size)
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
        length = size - offset if length is None else min(length, size - offset)
    elif response.length is None:
        raise Unreachable("the response to GET has no length")
    else:
        size = response.length
    whole = _Object(client, key, response, size)
    if response.status == 206:
        assert length is not None
        return whole.part(offset, length)
    if offset > size:
        raise exception.RangeNotSatisfiable(size)
    stop = size if length is None else min(size, offset + length)
    body_ = whole.part(0, size)
    # A service that does not know ranges sends everything.
    return body_ if (offset, stop) == (0, size) else body_.slice(offset, stop)


def _check_range(response: http_response.ClientResponse, offset: int, length: int | None) -> int:
    """Return the object's size as a 206 answer tells it; Unreachable if it is another part."""
    told = ranges.parse_content_range(response.getheader("content-range"))
    if told is None or told[1] is None:
        raise Unreachable("the response has no usable Content-Range")
    part, size = told[0], told[1]
    end = size if length is None else min(size, offset + length)
    wanted = ranges.Range(offset, end - offset)
    if part != wanted or response.length not in (None, wanted.length):
        raise Unreachable("the response has another range than requested")
    return size


class _Object:
    """An object that is being read; its answer is replaced by another one after a break."""

    def __init__(
        self, client: S3Client, key: str, response: http_response.ClientResponse, size: int
    ):
        self._client, self._key, self._size = client, key, size
        self._response = response
        self._etag = (response.getheader("etag") or "").strip('"')

    def part(self, start: int, length: int) -> body.Body:
        """Return the body of the bytes that the answer holds, which begin at `start`."""
        return body.IterBody(
            self._chunks(start, start + length), length, self._close, size=self._size
        )

    def _chunks(self, position: int, end: int) -> Iterator[bytes]:
        tries = self._client.settings.retries if self._etag else 0
        while position < end:
            try:
                chunk = self._response.read(min(READ, end - position))
            except (http_response.ConnectionBroken, OSError) as err:
                LOG.warning(
                    "Reading the object %s of S3 was interrupted after %d of %d bytes (%s)",
                    self._key,
                    position,
                    end,
                    type(err).__name__,
                )
                if not tries:
                    raise exception.BackendUnavailable() from err
                tries -= 1
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
            raise exception.BackendUnavailable() from err

    def _close(self) -> None:
        self._response.close()
