"""Images on their way out of Swift: checked answers, which go on after a broken connection."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from glance.common import exception
from glance.http import ranges
from glance.store.location import SwiftLocation
from glance.streaming import body

if TYPE_CHECKING:
    from glance.store.swift.client import SwiftClient, SwiftResponse

LOG = logging.getLogger(__name__)

#: Bytes that a connection must bring to be worth another one after it broke.
PROGRESS = 1024 * 1024


def open_object(
    client: SwiftClient, where: SwiftLocation, offset: int, length: int | None, retries: int
) -> body.Body:
    """Return `length` bytes (None: all) of an object from `offset`; the body closes the client.

    Raises StoreObjectNotFound, StoreForbidden, BackendUnavailable, BackendCorrupt, and
    RangeNotSatisfiable if `offset` lies behind the end; the client is the caller's then.
    """
    if length == 0:
        return _nothing(client, where, offset, length_of(client.head(where.container, where.obj)))
    wanted = ranges.format_range(offset, length)
    headers = {"Range": wanted} if wanted else {}
    try:
        answer = client.get(where.container, where.obj, headers)
    except exception.RangeNotSatisfiable as err:
        # NOTE: Swift says so of the byte right behind the end, too.
        size = err.size or length_of(client.head(where.container, where.obj)) or 0
        return _nothing(client, where, offset, size)
    try:
        return _opened(client, where, answer, offset, length, retries)
    except BaseException:
        answer.close()
        raise


def _nothing(
    client: SwiftClient, where: SwiftLocation, offset: int, size: int | None
) -> body.Body:
    if size is not None and offset > size:
        raise exception.RangeNotSatisfiable(size)
    return body.IterBody((), 0, client.close, size=size)


def _opened(
    client: SwiftClient,
    where: SwiftLocation,
    answer: SwiftResponse,
    offset: int,
    length: int | None,
    retries: int,
) -> body.Body:
    if answer.status == 206:
        part, size = _part(answer.headers)
        end = size if length is None else min(size, offset + length)
        if part != ranges.Range(offset, end - offset):
            # SECURITY: other bytes than those asked for must never look like them.
            raise exception.BackendCorrupt()
        return SwiftDownload(client, where, answer, retries, part.offset, part.length, size)
    whole = length_of(answer.headers)
    found = SwiftDownload(client, where, answer, retries, 0, whole, whole)
    if not offset and length is None:
        return found
    # A server that knows no ranges sent everything.
    if whole is None:
        raise exception.BackendCorrupt()
    if offset > whole:
        raise exception.RangeNotSatisfiable(whole)
    return found.slice(offset, whole if length is None else min(offset + length, whole))


class SwiftDownload(body.Body):
    """The bytes of an answer that begins at `first`; a broken connection is taken up again."""

    def __init__(
        self,
        client: SwiftClient,
        where: SwiftLocation,
        answer: SwiftResponse,
        retries: int,
        first: int,
        length: int | None,
        size: int | None,
    ):
        super().__init__(length, size=size)
        self._client, self._where, self._answer = client, where, answer
        self._retries, self._first = retries, first
        self._etag = answer.headers.get("etag")

    def _chunks(self) -> Iterator[bytes]:
        done = failures = failed_at = 0
        while self.length is None or done < self.length:
            try:
                chunk = self._answer.read()
                if not chunk and self.length is not None:
                    raise exception.BackendUnavailable()
            except exception.BackendUnavailable:
                # NOTE: who gets a little further each time is not given another chance for ever.
                failures = failures + 1 if done - failed_at < PROGRESS else 1
                failed_at = done
                if self.length is None or failures > self._retries:
                    raise
                LOG.warning("Swift closed the connection in the middle of an image; resuming")
                self._client.pause(failures)
                self._resume(done)
                continue
            if not chunk:
                return
            done += len(chunk)
            yield chunk

    def _resume(self, done: int) -> None:
        assert self.length is not None
        self._answer.close()
        rest = ranges.Range(self._first + done, self.length - done)
        headers = {"Range": rest.request}
        if self._etag:
            # SECURITY: never the rest of another object.
            headers["If-Match"] = self._etag
        self._answer = self._client.get(self._where.container, self._where.obj, headers)
        if self._answer.status != 206 or _part(self._answer.headers) != (rest, self.size):
            raise exception.BackendCorrupt()

    def _release(self) -> None:
        self._answer.close()
        self._client.close()


def length_of(headers: Mapping[str, str]) -> int | None:
    """Return the bytes that an answer says it has, None if it does not."""
    text = headers.get("content-length")
    return int(text) if text is not None and text.isdigit() else None


def _part(headers: Mapping[str, str]) -> tuple[ranges.Range, int]:
    """Return the part that a partial answer has, and the size of the whole object."""
    told = ranges.parse_content_range(headers.get("content-range"))
    if told is None or told[1] is None:
        raise exception.BackendCorrupt()
    return told[0], told[1]
