"""Streaming bodies: objects that yield the bytes of an image, and readers for uploads.

Stores and the cache return a `Body`; the WSGI server sends it and closes it. The server sends a
`FileBody` without copying through Python, by its `fileno`, `offset` and `length`. `UploadReader`
checks what a client sends. What does not belong here: HTTP headers, digests, locations.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from glance.common import exception
from glance.streaming import hub, threads

CHUNK = 1024 * 1024
_FIRST_READ = 64 * 1024


class Readable(Protocol):
    """The source of an upload: `read(n)` returns at most n bytes, and b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


class Body:
    """Bytes to be sent: iterate once, then close.

    `length` is the number of bytes that iteration yields, None if unknown. `size` is the number of
    bytes of the whole object that this may be a part of, None if unknown. Iteration yields exactly
    `length` bytes or raises BackendCorrupt, so that the sender cuts the connection instead of
    sending a wrong body. `close` may be called at any time and twice; the receiver of the body
    closes it. `store_name` is the store that the bytes come from, which errors name; None if they
    come from none. `etag` is the text of the strong tag that the whole object has in the store, or
    where it was registered; None if that is not known.
    """

    store_name: str | None = None
    etag: str | None = None

    def __init__(self, length: int | None = None, *, size: int | None = None):
        self.length = length
        self.size = size
        self._closed = False

    def _chunks(self) -> Iterator[bytes]:
        """Yield the bytes, unchecked."""
        raise NotImplementedError

    def _release(self) -> None:
        """Free what the body owns; called once."""

    def __iter__(self) -> Iterator[bytes]:
        left = self.length
        try:
            for chunk in self._chunks():
                if left is not None:
                    left -= len(chunk)
                    if left < 0:
                        raise exception.BackendCorrupt()
                if chunk:
                    yield chunk
            if left:
                raise exception.BackendCorrupt()
        except exception.StoreError as err:
            err.of(self.store_name)
            raise

    def slice(self, start: int, stop: int) -> Body:
        """Return the body of the bytes from `start` up to, not including, `stop`.

        The slice owns this body from then on: iterate over and close only the slice. Raises
        ValueError if the limits are not inside a body of known length.
        """
        self._check_borders(start, stop)
        return _Slice(self, start, stop)

    def _check_borders(self, start: int, stop: int) -> None:
        end = stop if self.length is None else self.length
        if not 0 <= start <= stop <= end:
            raise ValueError("the slice lies outside the body")

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _nothing() -> None:
    pass


class IterBody(Body):
    """The chunks of any iterable. `close` is called once when the body is closed.

    Without `close`, the iterable's own `close` method is used if it has one.
    """

    def __init__(
        self,
        iterable: Iterable[bytes],
        length: int | None = None,
        close: Callable[[], Any] | None = None,
        *,
        size: int | None = None,
    ):
        super().__init__(length, size=size)
        self._iterable = iterable
        self._close = close or getattr(iterable, "close", None) or _nothing

    def _chunks(self) -> Iterator[bytes]:
        yield from self._iterable

    def _release(self) -> None:
        self._close()


class _Slice(Body):
    """A part of a body that can only be read from its beginning."""

    def __init__(self, whole: Body, start: int, stop: int):
        super().__init__(stop - start, size=whole.size)
        self._whole, self._start = whole, start
        self.store_name = whole.store_name

    def _chunks(self) -> Iterator[bytes]:
        skip, left = self._start, self.length or 0
        if not left:
            return
        for chunk in self._whole:
            if skip >= len(chunk):
                skip -= len(chunk)
                continue
            part = chunk[skip : skip + left] if skip or len(chunk) > left else chunk
            skip = 0
            left -= len(part)
            yield part
            if not left:
                return

    def _release(self) -> None:
        self._whole.close()


class FileBody(Body):
    """A part of a regular file, by default all of it. It owns its descriptor.

    A server may itself send `length` bytes from `offset` of `fileno()`; it still has to close the
    body. Reads never move the file's position.
    """

    length: int

    def __init__(self, fd: int, *, size: int, offset: int = 0, length: int | None = None):
        """Take ownership of `fd`, a file of `size` bytes. The part must be inside the file."""
        super().__init__(size - offset if length is None else length, size=size)
        self.offset = offset
        # NOTE: the descriptor is closed even if the object is dropped without `close`.
        self._file = io.FileIO(fd)

    def fileno(self) -> int:
        """Return the open descriptor. Raises ValueError after close."""
        return self._file.fileno()

    def _chunks(self) -> Iterator[bytes]:
        position, end = self.offset, self.offset + self.length
        while position < end:
            # PERF: a call in a native thread costs about 0.05 ms; a page that is not in memory
            # would block the hub for up to 20 ms.
            error = None
            try:
                chunk = threads.run(os.pread, self.fileno(), min(CHUNK, end - position), position)
            except OSError as err:
                chunk, error = b"", err
            if not chunk:
                yield from self.read_on(position - self.offset, error)
                return
            position += len(chunk)
            yield chunk

    def read_on(self, count: int, error: OSError | None = None) -> Iterator[bytes]:
        """Yield what follows the first `count` bytes after the file could not be read further.

        `error` is the reason, None if the file was shorter than expected. By default this yields
        nothing, or raises the error. A server that sends the file itself calls it, too.
        """
        if error is not None:
            raise error
        return iter(())

    def slice(self, start: int, stop: int) -> FileBody:
        self._check_borders(start, stop)
        part = FileBody.__new__(FileBody)
        Body.__init__(part, stop - start, size=self.size)
        part.offset = self.offset + start
        part._file = self._file
        part.store_name = self.store_name
        return part

    def _release(self) -> None:
        self._file.close()


class BodyReader:
    """Reads a body like a file: the source of a copy from one store into another."""

    def __init__(self, body: Body):
        self._chunks = iter(body)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; b"" only at the end."""
        chunk = self._rest or next(self._chunks, b"")
        self._rest = chunk[size:]
        return chunk[:size] if self._rest else chunk


def check_cap(size: int, cap: int | None) -> None:
    """Raise ImageSizeLimitExceeded for an image of more than `cap` bytes; 0 and None: no cap."""
    if cap and size > cap:
        raise exception.ImageSizeLimitExceeded(f"An image may have at most {cap} bytes")


class UploadReader:
    """The checking reader of an upload, which does not trust what a client declares.

    `length` is the announced length of the request body (Content-Length), `expected` the declared
    size of the image (None: not declared; 0: only with `takes_zero`, otherwise not declared),
    `cap` the largest permitted size (None or 0: no limit), all in bytes; `idle_timeout` the
    seconds within which some data has to arrive (None or 0: no limit).

    `read` raises UploadTruncated if the body ends before `length`, breaks off or stalls,
    ImageSizeLimitExceeded as soon as there is more than `cap`, and ImageSizeMismatch as soon as
    there is more than `expected`, or at the end if there was less. `count` is the number of bytes
    returned so far. After an error every further `read` raises it again.
    """

    def __init__(
        self,
        stream: Readable,
        *,
        length: int | None = None,
        cap: int | None = None,
        expected: int | None = None,
        idle_timeout: float | None = None,
        takes_zero: bool = False,
    ):
        self.count = 0
        # NOTE: a reader that has it keeps no memory while the client stalls.
        self._receive: Callable[[int], bytes] = getattr(stream, "read_some", stream.read)
        self._length = length
        self._cap = cap or None
        self._expected = expected if takes_zero else expected or None
        self._idle_timeout = idle_timeout or None
        limit_waits = getattr(stream, "limit_waits", None)
        if idle_timeout and limit_waits is not None:
            # NOTE: better than a deadline for a whole read, parts of which may have arrived.
            limit_waits(idle_timeout)
            self._idle_timeout = None
        self._step = _FIRST_READ
        self._ended = False
        self._error: exception.Error | None = None

    def read(self, size: int = CHUNK) -> bytes:
        """Return at most `size` bytes, often fewer; b"" only at the end."""
        if self._error is not None:
            raise self._error
        if self._ended or size == 0:
            return b""
        try:
            data = self._read(size)
            self._check(at_end=not data)
        except exception.Error as err:
            self._error = err
            raise
        self._ended = not data
        return data

    def _read(self, size: int) -> bytes:
        if self._length is not None:
            size = min(size, self._length - self.count)
        for limit in (self._cap, self._expected):
            if limit is not None:
                # One byte too many is enough, and may be the last one for a long time.
                size = min(size, limit + 1 - self.count)
        # NOTE: reads grow from 64 KiB on, and only while they complete within a second, so that a
        # slow client shows its progress before the timeout.
        size = min(size, self._step)
        if not size:
            return b""
        started = time.monotonic()
        try:
            with hub.deadline(self._idle_timeout, "no data from the client"):
                data = self._receive(size)
        except (OSError, ValueError) as err:
            # ValueError is what eventlet's server raises for a malformed chunk.
            raise exception.UploadTruncated("The upload was interrupted; send it again") from err
        if time.monotonic() - started > 1 or len(data) < size:
            self._step = _FIRST_READ
        elif size == self._step:
            self._step *= 2
        self.count += len(data)
        return data

    def _check(self, at_end: bool) -> None:
        check_cap(self.count, self._cap)
        if at_end and self._length is not None and self.count < self._length:
            raise exception.UploadTruncated(
                f"The upload ended after {self.count} of {self._length} bytes; send it again"
            )
        if self._expected is None or self.count == self._expected:
            return
        if at_end or self.count > self._expected:
            which = "fewer" if self.count < self._expected else "more"
            raise exception.ImageSizeMismatch(
                f"The data has {which} bytes than the declared image size of {self._expected}"
            )
