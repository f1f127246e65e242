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
#: Largest piece (bytes) for which `read` allocates memory at once.
_PORTION = 256 * 1024
#: How long (seconds) what a client has sent is held until more arrives, before it is passed on.
PAUSE = 0.5


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
        # The bytes of the body that were announced so far.
        self._length = length
        #: The client waits for `100 Continue` before it sends the body.
        self.expects_continue = expects_continue
        #: The client ended, or broke the coding: no request can follow.
        self.broken = False

    @property
    def finished(self) -> bool:
        """Whether the whole body was read, so that the next request follows."""
        return not self._left

    @property
    def received(self) -> int:
        """How many bytes of the body were read."""
        return self._length - self._left

    def unread(self) -> int:
        """Return how many bytes of the body are unread, a huge number if unknown."""
        return self._left

    def _begin(self) -> None:
        """Send `100 Continue` unless the client has begun to send the body already."""
        self.expects_continue = False
        if not self._stream.pending:
            try:
                self._stream.send(CONTINUE)
            except streams.ClientGone:
                # It reads like any body whose sender has gone.
                self.broken = True

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

    def read_some(self, size: int) -> bytes:
        """Return 1 to `size` bytes, b"" at the end of the body: a read for large pieces.

        Fewer bytes are returned if the client is slow or pauses. No memory is held while it does,
        so that thousands of stalled uploads cost little.
        """
        if self.expects_continue and not self.finished:
            self._begin()
        return self._read_some(size)

    def _read_some(self, size: int) -> bytes:
        size = min(size, self._left)
        if not size or self.broken:
            return b""
        self.broken = True
        data = self._stream.read_some(size, PAUSE)
        self._left -= len(data)
        self.broken = not data
        return data

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
        # Data was read that a line end has to follow; the size 0 was read. A wait for the client
        # may end the reading of framing at any line, and a later call goes on there.
        self._is_open = False
        self._is_last = False
        self._framing = framing.Framing()
        # What was received and not read: `_data` from `_at` on. PERF: the stream's own buffer
        # would be copied for every chunk.
        self._data = b""
        self._at = 0
        self._parts = 0

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
        parts: list[bytes] = []
        self._receive(size, parts)
        self.broken = False
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_some(self, size: int) -> bytes:
        if self.broken:
            raise ConnectionError("the body was interrupted")
        self.broken = True
        data = self._next_part(size)
        if data and len(data) < size:
            data = self._stream.gather(data, size, PAUSE, self._part_into)
        self.broken = False
        return data

    def _part_into(self, view: memoryview) -> int:
        """Put bytes of one chunk into `view`; return how many, 0 at the end of the body."""
        if not self._left and not self._next_chunk():
            return 0
        size = min(len(view), self._left)
        if self._at == len(self._data) and size >= _CHUNKED_RECV:
            self._data, self._at = b"", 0
            with view[:size] as rest:
                count = self._stream.recv_into(rest)
            if not count:
                raise ConnectionError("the body ended in the middle of a chunk")
        else:
            part = self._part(size)
            count = len(part)
            view[:count] = part
        self._left -= count
        self._parts += 1
        if self._parts % _TURN == 0:
            # The bytes of many small chunks may have arrived at once, with no wait for them.
            self._stream.rest()
        return count

    def _receive(self, size: int, parts: list[bytes]) -> None:
        """Append `size` bytes from as many chunks as it takes, fewer at the end of the body."""
        small = 0
        while part := self._next_part(size):
            size -= len(part)
            parts.append(part)
            small += 1
            if small == _TURN:
                parts[-small:] = [b"".join(parts[-small:])]
                small = 0
                # The bytes of many small chunks may have arrived at once, with no wait for them.
                self._stream.rest()

    def _next_part(self, size: int) -> bytes:
        """Return 1 to `size` bytes of one chunk, b"" at the end of the body."""
        if not size or self._ended:
            return b""
        stream = self._stream
        if stream.pending:
            self._data, stream.pending = stream.pending, b""
        if not self._left and not self._next_chunk():
            return b""
        part = self._part(min(size, self._left))
        self._left -= len(part)
        return part

    def _part(self, size: int) -> bytes:
        """Return up to `size` bytes of the present chunk, at least one."""
        if self._at == len(self._data):
            # While the client is waited for, nothing is kept of what was read.
            self._data, self._at = b"", 0
            data = self._stream.recv(_CHUNKED_RECV)
            if not data:
                raise ConnectionError("the body ended in the middle of a chunk")
            if len(data) <= size:
                return data
            self._data = data
        start = self._at
        part = self._data[start : start + size]
        self._at = start + len(part)
        return part

    def _next_chunk(self) -> bool:
        """Go to the next chunk; return False after the last one."""
        if not self._is_last:
            match = framing.NEXT_CHUNK.match(self._data, self._at) if self._is_open else None
            if match is not None:
                # PERF: nearly all chunks but the first one.
                self._at = match.end()
                self._left = int(match[1], 16)
            else:
                if self._is_open and self._line(0):
                    raise MalformedChunk("a chunk is longer than announced")
                self._is_open = False
                self._left = self._framing.size(self._line())
                self._is_open = True
            if self._left:
                self._length += self._left
                return True
            self._is_last = True
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
            self._data, self._at = self._data[self._at :], 0
            data = self._stream.recv(_CHUNKED_RECV)
            if not data:
                raise ConnectionError("the body ended between two chunks")
            self._data += data
        line = self._data[self._at : end]
        if not line.endswith(b"\r"):
            raise MalformedChunk("a line of the chunked coding does not end with CR LF")
        self._at = end + 1
        return line[:-1]
