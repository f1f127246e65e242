"""What a client sends as the body of a request, with its length.

`glance.http.client.connection` sends a payload, `glance.client.base` makes one from whatever the
caller handed in: bytes, text, or an object with `read`. Measuring and rewinding live here, so that
the length in the headers and the bytes behind them cannot disagree.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

PIECE = 65536
#: Bodies up to this many bytes travel in the same packet train as the headers.
SMALL = 65536


@runtime_checkable
class ReadableFile(Protocol):
    """An image source: anything that hands out bytes with `read(size)`."""

    def read(self, size: int = -1, /) -> Any: ...


class Payload:
    """One request body. `length` is in bytes, None when it cannot be known ahead.

    A file object is measured by seeking and sent from its current position; it is never closed
    here. One that cannot seek (a pipe) has no length. Errors of the local file reach the caller
    as they are.
    """

    __slots__ = ("consumed", "data", "length", "source", "start")

    def __init__(self, body: bytes | bytearray | memoryview | str | ReadableFile):
        self.data: memoryview | None = None
        self.source: ReadableFile | None = None
        self.start: int | None = None
        self.length: int | None = None
        self.consumed = False
        if isinstance(body, str):
            body = body.encode("utf-8")
        if isinstance(body, bytes | bytearray | memoryview):
            self.data = memoryview(body).cast("B")
            self.length = len(self.data)
            return
        self.source = body
        self._measure()

    def _measure(self) -> None:
        source: Any = self.source
        if not (hasattr(source, "seek") and hasattr(source, "tell")):
            return
        try:
            start = source.tell()
            end = source.seek(0, os.SEEK_END)
            # NOTE: old file-like objects return nothing from seek.
            end = source.tell() if end is None else end
            source.seek(start)
        except io.UnsupportedOperation:
            return
        except OSError as err:
            if err.errno == errno.ESPIPE:
                return
            raise
        self.start, self.length = start, max(0, end - start)

    @property
    def resendable(self) -> bool:
        """Whether the body can be sent now and is whole: bytes always, a stream until touched."""
        return self.data is not None or not self.consumed

    def rewind(self) -> bool:
        """Go back to the first byte; False if the source cannot."""
        if self.data is not None or not self.consumed:
            return True
        if self.start is None:
            return False
        source: Any = self.source
        source.seek(self.start)
        self.consumed = False
        return True

    def pieces(self) -> Iterator[memoryview | bytes]:
        """Hand out the body in pieces of at most 64 KiB, at most `length` bytes in all."""
        if self.data is not None:
            for offset in range(0, len(self.data), PIECE):
                yield self.data[offset : offset + PIECE]
            return
        assert self.source is not None
        self.consumed = True
        left = self.length if self.length else None
        while left is None or left > 0:
            piece = self.source.read(PIECE if left is None else min(PIECE, left))
            if not piece:
                return
            if isinstance(piece, str):
                raise TypeError("the image source returns text; open it in binary mode")
            if left is not None:
                piece = piece[:left]
                left -= len(piece)
            yield piece

    def file_range(self) -> tuple[int, int] | None:
        """Return (descriptor, offset) if the body is a plain range of a regular file, else None.

        NOTE: only the io module's own file objects count: a GzipFile has a descriptor too, and
        what lies behind it is not what `read` gives.
        """
        raw = self.source
        if isinstance(raw, io.BufferedReader | io.BufferedRandom):
            raw = raw.raw
        if not isinstance(raw, io.FileIO) or self.start is None or not self.length:
            return None
        descriptor = raw.fileno()
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return descriptor, self.start

    def sent_from_file(self, count: int) -> None:
        """Note that `count` bytes of the file went out without being read here."""
        self.consumed = True
        if self.source is not None and self.start is not None:
            source: Any = self.source
            source.seek(self.start + count)
