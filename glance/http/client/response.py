"""The response of an HTTP/1.1 server, as a client reads it, and how it can fail.

`glance.http.client.connection` creates a `ClientResponse` when the head of a response has arrived;
the body is then read through it. Framing only: nothing here knows JSON, metadata or which status
is an error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Protocol, Self

from glance.common import exception, numbers
from glance.http import framing

RECEIVE = 65536
#: How much of a chunked body is received at once while looking for a line of its framing, in
#: bytes. PERF: the rest of it is copied for each line, of which small chunks make many.
RECEIVE_LINE = 16384

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9]{2})(?: (.*))?", re.ASCII)
_FIELD_NAME = re.compile(r"[^\x00-\x20:\x7f]+")
# PERF: header names seen before in lower case; a lookup costs a fifth of a match.
_keys: dict[str, str] = {}
_MAX_KEYS = 1024


def _key_of(name: str) -> str:
    """Return a header name in lower case, "" for one that is malformed."""
    if _FIELD_NAME.fullmatch(name) is None:
        return ""
    key = name.lower()
    if len(_keys) < _MAX_KEYS:
        _keys[name] = key
    return key


def parse_length(text: str | None) -> int | None:
    """Return the length that a Content-Length states; None if it is missing or malformed."""
    if text is None:
        return None
    number = numbers.whole(text)
    if number is not None:
        # PERF: almost always it is one.
        return number
    lengths = {part.strip(" \t") for part in text.split(",")}
    return numbers.whole(lengths.pop()) if len(lengths) == 1 else None


class ConnectionBroken(exception.ClientConnectionError):
    """The connection failed; `answered` is whether a byte of the response had arrived.

    `place` is the server's host and port, None until `at` has said it.
    """

    place: str | None = None

    def __init__(self, cause: object, answered: bool = False):
        super().__init__(f"Unable to connect to server. Got error: {cause}")
        self.cause, self.answered = cause, answered

    def at(self, place: str) -> None:
        """Say where the connection leads to, unless that is known."""
        if self.place is None:
            self.place = place
            self.message = f"Unable to connect to server. Got error: {place}: {self.cause}"
            self.args = (self.message,)


class NotConnected(ConnectionBroken):
    """No connection could be made: nothing was sent."""


class ConnectionTimedOut(ConnectionBroken):
    """The server was silent for longer than the timeout."""


class BadResponse(ConnectionBroken):
    """The response is not HTTP/1.1."""


class BodyTruncated(ConnectionBroken):
    """The body of the response ended before the length that its headers announce."""


class ResponseStream(Protocol):
    """What a `ClientResponse` needs from its connection."""

    idle_since: float

    @property
    def reusable(self) -> bool: ...

    @property
    def place(self) -> str: ...

    def take(self, limit: int) -> bytes: ...

    def take_line(self) -> bytes: ...

    def desync(self) -> None: ...

    def close(self) -> None: ...


class ClientResponse:
    """A response: `status`, `reason`, headers, and a body that is read once.

    `is_repeated` means that the request was sent twice, because the first response was lost. The
    connection is released as soon as the last byte was read; a response that is not read to
    its end has to be closed. It is a context manager.
    """

    is_repeated = False

    def __init__(
        self,
        connection: ResponseStream,
        method: str,
        head: str,
        on_end: Callable[[Any], None] | None = None,
    ):
        self._connection: ResponseStream | None = connection
        self._on_end = on_end
        first, *lines = head.split("\r\n")
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            raise BadResponse("the response has no HTTP status line", True)
        self.status = int(match[2])
        self.reason = match[3] or ""
        self._headers: list[tuple[str, str]] = []
        self._fields: dict[str, str] = {}
        fields = self._fields
        for line in lines:
            name, colon, value = line.partition(":")
            key = _keys.get(name) or _key_of(name)
            if not colon or not key:
                raise BadResponse("the response has a malformed header", True)
            value = value.strip(" \t")
            self._headers.append((name, value))
            fields[key] = f"{fields[key]}, {value}" if key in fields else value
        if match[1] == "0" or "close" in fields.get("connection", "").lower():
            connection.desync()
        self._left: int | None = None
        self._chunk: int | None = None
        self._framing = framing.Framing()
        self._failure: ConnectionBroken | None = None
        self._frame(method)

    def _frame(self, method: str) -> None:
        """Find out how the body ends (RFC 9112 §6.3)."""
        assert self._connection is not None
        status, fields = self.status, self._fields
        if method == "HEAD" or status in (204, 304) or status < 200:
            self._left = 0
        elif "transfer-encoding" in fields:
            if fields["transfer-encoding"].rpartition(",")[2].strip().lower() != "chunked":
                raise BadResponse("the response has an unknown transfer encoding", True)
            if "content-length" in fields:
                self._connection.desync()
            self._chunk = 0
        elif "content-length" in fields:
            self._left = parse_length(fields["content-length"])
            if self._left is None:
                raise BadResponse("the response has a malformed length", True)
        else:
            self._connection.desync()
        if self._left == 0:
            self._end()

    @property
    def length(self) -> int | None:
        """How many bytes of the body are still to be read; None if unknown."""
        return self._left

    @property
    def declared_length(self) -> int | None:
        """Bytes of the body by the headers, for HEAD as well; None if they do not say."""
        if "transfer-encoding" in self._fields:
            return None
        return parse_length(self._fields.get("content-length"))

    @property
    def closed(self) -> bool:
        """Whether the body was read to its end, or closed."""
        return self._connection is None

    def getheader(self, name: str, default: str | None = None) -> str | None:
        """Return a header by its name in any case; several of one name are joined by commas."""
        return self._fields.get(name.lower(), default)

    def getheaders(self) -> list[tuple[str, str]]:
        """Return all headers as sent, values as latin-1 text."""
        return self._headers

    def read(self, size: int | None = None) -> bytes:
        """Return `size` bytes of the body, fewer only at its end; the whole rest without `size`.

        Raises `BodyTruncated` if the connection ends before the body does. With a `size`, what had
        arrived by then is returned first, and the next call raises the error.
        """
        if self._failure is not None:
            self._raise_failure()
        if self._connection is None:
            return b""
        parts: list[bytes] = []
        missing = size
        if missing is None:
            first = self._some(RECEIVE)
            if self.closed:
                # PERF: most responses are small.
                return first
            parts.append(first)
        while missing is None or missing > 0:
            try:
                piece = self._some(RECEIVE if missing is None else missing)
            except ConnectionBroken as err:
                if missing is None or not parts:
                    raise
                self._failure = err
                break
            if not piece:
                break
            parts.append(piece)
            if missing is not None:
                missing -= len(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read1(self, limit: int = RECEIVE) -> bytes:
        """Return 1 to `limit` bytes of the body as soon as there are any, nothing at its end.

        Raises `BodyTruncated` if the connection ends before the body does.
        """
        self._raise_failure()
        return self._some(limit)

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _some(self, limit: int) -> bytes:
        connection = self._connection
        if connection is None:
            return b""
        try:
            if self._chunk is not None:
                return self._some_chunked(connection, limit)
            if self._left is None:
                piece = connection.take(limit)
                if not piece:
                    self._end()
                return piece
            piece = connection.take(min(limit, self._left))
            if not piece:
                raise BodyTruncated(f"the response ended {self._left} bytes early", True)
        except ConnectionBroken as err:
            err.at(connection.place)
            self.close()
            raise
        except BaseException:
            self.close()
            raise
        self._left -= len(piece)
        if self._left == 0:
            self._end()
        return piece

    def _some_chunked(self, connection: ResponseStream, limit: int) -> bytes:
        if self._chunk == 0:
            try:
                # WIRE: old servers fill the line of a size with blanks.
                self._chunk = self._framing.size(connection.take_line().rstrip(b" "))
                while not self._chunk and self._framing.trailer(connection.take_line()):
                    pass
            except framing.MalformedChunk as err:
                raise BadResponse(f"the chunked response is malformed: {err}", True) from err
            if not self._chunk:
                self._end()
                return b""
        assert self._chunk is not None
        piece = connection.take(min(limit, self._chunk))
        if not piece:
            raise BodyTruncated("the chunked response ended early", True)
        self._chunk -= len(piece)
        if self._chunk == 0 and connection.take_line():
            raise BadResponse("the chunked response is malformed", True)
        return piece

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.reusable and self._on_end is not None:
            connection.idle_since = time.monotonic()
            self._on_end(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Discard the rest of the body; the connection is closed if there is any."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
