"""Request bodies: what an application reads as `wsgi.input`."""

from __future__ import annotations

from collections.abc import Iterator

from glance.common import statuses
from glance.http import framing
from glance.http.server import stream as streams

CONTINUE = f"HTTP/1.1 {statuses.status_line(100)}\r\n\r\n".encode("ascii")

#: How much (bytes) is received at once while looking for chunks; some are as small as 4 KiB.
_CHUNKED_RECV = 256 * 1024
#: Parts of chunks after which other requests get their turn.
_TURN = 1024
_ALL = 1 << 62
#: Largest piece (bytes) that memory is allocated for at once.
_PORTION = 4 * 1024 * 1024


MalformedChunk = framing.MalformedChunk


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
    """A body in chunked coding. `read` raises MalformedChunk, and ConnectionError if cut short.

    The work for a body grows with its bytes, whatever the size of its chunks is.
    """

    def __init__(self, stream: streams.SocketStream, *, expects_continue: bool = False):
        super().__init__(stream, 0, expects_continue=expects_continue)
        # Bytes left of the present chunk in `_left`; `_ended` after the last chunk's trailers.
        self._ended = False
        self._first = True
        self._framing = framing.Framing()
        # What was received and not read: `_data` from `_at` on. PERF: the stream's own buffer
        # would be copied for every chunk.
        self._data = b""
        self._at = 0

    @property
    def finished(self) -> bool:
        return self._ended

    def unread(self) -> int:
        return 0 if self._ended else _ALL

    def _read(self, size: int) -> bytes:
        if self.broken:
            raise ConnectionError("the body was interrupted")
        if not size or self._ended:
            return b""
        self.broken = True
        data = self._join_parts(size)
        self.broken = False
        return data

    def _join_parts(self, size: int) -> bytes:
        """Return `size` bytes from as many chunks as it takes, fewer at the end of the body."""
        stream = self._stream
        if stream.pending:
            self._data, stream.pending = stream.pending, b""
        blocks: list[bytes] = []
        parts: list[bytes] = []
        while size and (self._left or self._next_chunk()):
            part = self._part(min(size, self._left))
            self._left -= len(part)
            size -= len(part)
            parts.append(part)
            if len(parts) == _TURN:
                blocks.append(b"".join(parts))
                parts.clear()
                # The bytes of many small chunks may have arrived at once, with no wait for them.
                stream.rest()
        if not blocks and len(parts) == 1:
            return parts[0]
        return b"".join([*blocks, *parts])

    def _part(self, size: int) -> bytes:
        """Return up to `size` bytes of the present chunk, at least one."""
        if self._at == len(self._data):
            data = self._stream.recv(max(size, _CHUNKED_RECV))
            if not data:
                raise ConnectionError("the body ended in the middle of a chunk")
            if len(data) <= size:
                self._data, self._at = b"", 0
                return data
            self._data, self._at = data, 0
        start = self._at
        part = self._data[start : start + size]
        self._at = start + len(part)
        return part

    def _next_chunk(self) -> bool:
        """Go to the next chunk; return False after the last one."""
        match = framing.NEXT_CHUNK.match(self._data, self._at)
        if match is not None and not self._first:
            # PERF: nearly all chunks but the first one.
            self._at = match.end()
            self._left = int(match[1], 16)
        else:
            if not self._first and self._line(0):
                raise MalformedChunk("a chunk is longer than announced")
            self._first = False
            self._left = self._framing.size(self._line())
        if self._left:
            return True
        while self._framing.trailer(self._line()):
            pass
        self._ended = True
        self._stream.pending = self._data[self._at :]
        self._data, self._at = b"", 0
        return False

    def _line(self, limit: int = framing.MAX_LINE) -> bytes:
        """Return the next line without its CR LF, of at most `limit` bytes."""
        longest = limit + 2
        while True:
            end = self._data.find(b"\n", self._at, self._at + longest)
            if end >= 0:
                break
            if len(self._data) - self._at >= longest:
                raise MalformedChunk("a line of the chunked coding is too long")
            data = self._stream.recv(_CHUNKED_RECV)
            if not data:
                raise ConnectionError("the body ended between two chunks")
            self._data, self._at = self._data[self._at :] + data, 0
        line = self._data[self._at : end]
        if not line.endswith(b"\r"):
            raise MalformedChunk("a line of the chunked coding does not end with CR LF")
        self._at = end + 1
        return line[:-1]
