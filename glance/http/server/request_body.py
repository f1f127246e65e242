"""Request bodies: what an application reads as `wsgi.input`."""

from __future__ import annotations

from collections.abc import Iterator

from glance.common import statuses
from glance.http.server import stream as streams

CONTINUE = f"HTTP/1.1 {statuses.status_line(100)}\r\n\r\n".encode("ascii")

_MAX_CHUNK_LINE = 4096
_MAX_TRAILERS = 64 * 1024
#: How much (bytes) is received at once while looking for chunks; some are as small as 4 KiB.
_CHUNKED_RECV = 256 * 1024
_ALL = 1 << 62
#: Largest piece (bytes) that memory is allocated for at once.
_PORTION = 4 * 1024 * 1024


class MalformedChunk(ValueError):
    """The client violated the chunked coding; the connection cannot be used further."""


class Input:
    """The body of one request, of known length (here none, too) or chunked (`ChunkedInput`).

    `read(size)` returns exactly `size` bytes unless the body ends before; b"" at its end. A client
    that disconnects makes a body of known length end early; a reader that must know counts the
    bytes. Waits raise TimeoutError after the stream's timeout.
    """

    def __init__(
        self, stream: streams.SocketStream, length: int, *, expects_continue: bool = False
    ):
        self._stream = stream
        self._left = length
        #: The client waits for `100 Continue` before it sends the body.
        self.expects_continue = expects_continue
        #: The client ended, or broke the coding: no request can follow.
        self.broken = False

    @property
    def finished(self) -> bool:
        """Whether the whole body was read, so that the next request follows."""
        return not self._left

    def unread(self) -> int:
        """Return how many bytes of the body are unread, a huge number if unknown."""
        return self._left

    def _begin(self) -> None:
        """Send `100 Continue` unless the client has begun to send the body already."""
        self.expects_continue = False
        if not self._stream.pending:
            self._stream.send(CONTINUE)

    def limit_waits(self, seconds: float) -> None:
        """Make `read` raise TimeoutError when no byte has arrived for `seconds`."""
        timeout = self._stream.timeout
        self._stream.timeout = seconds if timeout is None else min(timeout, seconds)

    def read(self, size: int | None = None) -> bytes:
        if self.expects_continue and not self.finished:
            self._begin()
        if size is None or size < 0:
            return b"".join(iter(self._next, b""))
        return self._read(size)

    def _next(self) -> bytes:
        return self._read(_PORTION)

    def _read(self, size: int) -> bytes:
        size = min(size, self._left)
        if not size or self.broken:
            return b""
        if size > _PORTION:
            # SECURITY: memory is allocated for what a client sends, not for what it announces.
            return b"".join(self._portions(size))
        self.broken = True
        data = self._stream.read_exactly(size)
        self._left -= len(data)
        self.broken = len(data) < size
        return data

    def _portions(self, size: int) -> Iterator[bytes]:
        while size and (data := self._read(min(size, _PORTION))):
            size -= len(data)
            yield data

    def readline(self, size: int | None = None) -> bytes:
        """Return the next line with its line end. Slow: no application of glance reads lines."""
        line = bytearray()
        limit = _ALL if size is None or size < 0 else size
        while len(line) < limit and not line.endswith(b"\n"):
            byte = self.read(1)
            if not byte:
                break
            line += byte
        return bytes(line)

    def readlines(self, hint: int | None = None) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


class ChunkedInput(Input):
    """A body in chunked coding. `read` raises MalformedChunk, and ConnectionError if cut short."""

    def __init__(self, stream: streams.SocketStream, *, expects_continue: bool = False):
        super().__init__(stream, 0, expects_continue=expects_continue)
        # Bytes left of the present chunk in `_left`; `_ended` after the last chunk's trailers.
        self._ended = False
        self._first = True

    @property
    def finished(self) -> bool:
        return self._ended

    def unread(self) -> int:
        return 0 if self._ended else _ALL

    def _read(self, size: int) -> bytes:
        parts: list[bytes] = []
        if self.broken:
            raise ConnectionError("the body was interrupted")
        self.broken = True
        while size and not self._ended:
            if not self._left and not self._next_chunk():
                break
            part = self._part(min(size, self._left))
            self._left -= len(part)
            size -= len(part)
            parts.append(part)
        self.broken = False
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _part(self, size: int) -> bytes:
        """Return up to `size` bytes of the present chunk, at least one."""
        stream = self._stream
        if not stream.pending and size >= _CHUNKED_RECV:
            data = stream.recv(size)
        else:
            if not stream.pending:
                stream.more(_CHUNKED_RECV)
            data = stream.pending[:size]
            stream.pending = stream.pending[size:]
        if not data:
            raise ConnectionError("the body ended in the middle of a chunk")
        return data

    def _next_chunk(self) -> bool:
        """Go to the next chunk; return False after the last one."""
        if not self._first and self._line(2):
            raise MalformedChunk("a chunk is longer than announced")
        self._first = False
        digits, _, _ = self._line(_MAX_CHUNK_LINE).partition(b";")
        digits = digits.strip(b" \t")
        # SECURITY: int() accepts signs, underscores and blanks, which another reader may not.
        if not 0 < len(digits) <= 15 or digits.strip(b"0123456789abcdefABCDEF"):
            raise MalformedChunk("a chunk has no valid size")
        self._left = int(digits, 16)
        if self._left:
            return True
        budget = _MAX_TRAILERS
        while line := self._line(budget):
            budget -= len(line) + 2
        self._ended = True
        return False

    def _line(self, limit: int) -> bytes:
        """Return the next line without its CR LF, which must arrive within `limit` bytes."""
        stream = self._stream
        while True:
            end = stream.pending.find(b"\n")
            if end >= 0:
                break
            if len(stream.pending) >= limit:
                raise MalformedChunk("a line of the chunked coding is too long")
            if not stream.more(_CHUNKED_RECV):
                raise ConnectionError("the body ended between two chunks")
        line = stream.pending[:end]
        if not line.endswith(b"\r") or end > limit:
            raise MalformedChunk("a line of the chunked coding does not end with CR LF")
        stream.pending = stream.pending[end + 1 :]
        return line[:-1]
