"""The body of a client's request, with its length.

`glance.http.client.connection` sends a payload, `glance.client.base` creates one from the caller's
bytes, text, or object with `read`. Measuring and rewinding are here, so that the length in the
headers and the bytes after them cannot disagree.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from glance.common import exception

if TYPE_CHECKING:
    from glance.http.client.response import ClientResponse

_ADVICE = "the image data must be bytes, but its source returns text: open it in binary mode"

PIECE = 65536
#: Bodies up to this size (bytes) are sent together with the headers.
SMALL = 65536


@runtime_checkable
class ReadableFile(Protocol):
    """An image source: any object that returns bytes from `read(size)`."""

    def read(self, size: int = -1, /) -> Any: ...


class Payload:
    """One request body. `length` is in bytes, None when it is not known in advance.

    A file object is measured by seeking and sent from its current position; it is never closed
    here. One that cannot seek (a pipe) has no length. Errors of the local file are raised to the
    caller unchanged. `parting`, if it is set, is called with the response of a server that was
    told that the rest of the body will not come; the body of that response is not for it.

    Of a text file, such as `open(path)` returns without a mode, the bytes behind it are sent, from
    where the text stands. Raises NotBytes for other text files, and for what has no `read`.
    """

    __slots__ = ("consumed", "data", "first", "length", "owner", "parting", "source", "start")

    def __init__(self, body: bytes | bytearray | memoryview | str | ReadableFile):
        self.data: memoryview | None = None
        self.source: ReadableFile | None = None
        self.start: int | None = None
        self.length: int | None = None
        self.consumed = False
        self.parting: Callable[[ClientResponse], None] | None = None
        if isinstance(body, str):
            body = body.encode("utf-8")
        if isinstance(body, bytes | bytearray | memoryview):
            self.data = memoryview(body).cast("B")
            self.length = len(self.data)
            return
        # The text file around the bytes, which would close them if nobody held it.
        self.owner = body
        self.source = _bytes_behind(body)
        # The first piece, if it was read to know what the source returns.
        self.first: bytes | None = None
        self._measure()

    def require_bytes(self) -> None:
        """Raise NotBytes now, and not when it is sent, if the source returns something else.

        Unless it is a file of the io module, a byte of it is read, or its first piece if it cannot
        go back.
        """
        source: Any = self.source
        if source is None or isinstance(source, io.BufferedIOBase | io.RawIOBase):
            return
        piece = source.read(PIECE if self.start is None else 1)
        if not isinstance(piece, bytes | bytearray | memoryview | None):
            raise exception.NotBytes(_ADVICE)
        if self.start is None:
            self.first = bytes(piece or b"")
        else:
            source.seek(self.start)

    def _measure(self) -> None:
        source: Any = self.source
        if not (hasattr(source, "seek") and hasattr(source, "tell")):
            return
        try:
            start = source.tell()
            end = source.seek(0, os.SEEK_END)
            # NOTE: old file-like objects return None from seek.
            end = source.tell() if end is None else end
            source.seek(start)
        except io.UnsupportedOperation:
            return
        except OSError as err:
            if err.errno == errno.ESPIPE:
                return
            raise
        self.start, self.length = start, max(0, end - start)

    def rewind(self) -> bool:
        """Go back to the first byte; return False if the source cannot."""
        if self.data is not None or not self.consumed:
            return True
        if self.start is None:
            return False
        source: Any = self.source
        source.seek(self.start)
        self.consumed = False
        return True

    def pieces(self) -> Iterator[memoryview | bytes]:
        """Yield the body in pieces of at most 64 KiB, at most `length` bytes in all."""
        if self.data is not None:
            for offset in range(0, len(self.data), PIECE):
                yield self.data[offset : offset + PIECE]
            return
        assert self.source is not None
        self.consumed = True
        left = self.length if self.length else None
        first, self.first = self.first, None
        while left is None or left > 0:
            piece = first if first is not None else self.source.read(min(PIECE, left or PIECE))
            first = None
            if not piece:
                return
            if isinstance(piece, str):
                raise exception.NotBytes(_ADVICE)
            if left is not None:
                piece = piece[:left]
                left -= len(piece)
            yield piece

    def file_range(self) -> tuple[int, int] | None:
        """Return (descriptor, offset) if the body is a plain range of a regular file, else None.

        NOTE: only the io module's own file objects count: a GzipFile has a descriptor too, whose
        bytes are not what `read` returns.
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
        """Record that `count` bytes of the file were sent without being read here."""
        self.consumed = True
        if self.source is not None and self.start is not None:
            source: Any = self.source
            source.seek(self.start + count)


def _bytes_behind(body: Any) -> ReadableFile:
    """Return a binary file: `body` itself, or what is behind a text file, at the same position."""
    if not callable(getattr(body, "read", None)):
        raise exception.NotBytes(
            f"the image data must be bytes, text or a binary file, not {type(body).__name__}"
        )
    if not isinstance(body, io.TextIOBase) and not hasattr(body, "encoding"):
        source: ReadableFile = body
        return source
    buffer = getattr(body, "buffer", None)
    if not isinstance(buffer, io.BufferedIOBase | io.RawIOBase):
        raise exception.NotBytes(_ADVICE)
    try:
        position = body.tell()
    except (OSError, AttributeError):
        # A pipe, which has no position.
        if buffer.seekable():
            raise exception.NotBytes(_ADVICE) from None
        return buffer
    # NOTE: a larger number also holds the state of a decoder in the middle of a character.
    if position >= 2**64:
        raise exception.NotBytes(_ADVICE)
    buffer.seek(position)
    return buffer
