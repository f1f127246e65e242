"""One request and its response: the server's side of WSGI (PEP 3333)."""

from __future__ import annotations

import logging
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import eventlet

from glance.common import exception, hooks, httperror
from glance.http import dates
from glance.http.server import access, parser, request_body, sendfile
from glance.http.server import stream as streams
from glance.streaming import body

LOG = logging.getLogger(__name__)

#: An unread rest of a request body up to this size (bytes) is read, to keep the connection.
DRAIN = 64 * 1024
#: How long reading it may take, in seconds.
_DRAIN_TIME = 5.0
#: Pieces up to this size (bytes) are joined to what precedes them, to save a packet.
_JOIN = 64 * 1024

_NO_STORE = "{}: {}\r\n".format(*httperror.NO_STORE)

Headers = list[tuple[str, str]]


class WrongLength(exception.ServerError):
    """The body from the application has another length than its headers have announced."""


class Exchange:
    """Runs the application for one request and sends its response.

    `keep` is whether the connection can take another request: the caller's wish at first, the
    outcome after `run`.
    """

    def __init__(
        self,
        stream: streams.SocketStream,
        head: parser.Head,
        source: request_body.Input,
        *,
        keep: bool,
        is_draining: Callable[[], bool],
    ):
        self.stream = stream
        self.head = head
        self.input = source
        self.keep = keep
        self.is_draining = is_draining
        self.status = ""
        self.headers: Headers = []
        self.head_sent = False
        self.sent = 0
        self._promised: int | None = None
        self._chunked = False

    def start_response(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Take status and headers from the application; they are sent with the first data."""
        if exc_info:
            try:
                if self.head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status:
            raise AssertionError("start_response was called twice")
        self.status, self.headers = status, headers
        return self._write

    def run(self, app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> None:
        """Respond to the request. Never raises an Exception: errors are logged here."""
        started = time.monotonic() if access.is_on() else 0.0
        callbacks: list[Callable[[int, bool], None]] = []
        environ[hooks.AFTER_RESPONSE] = callbacks
        whole = False
        try:
            result = app(environ, self.start_response)
            try:
                self._send(result)
                whole = True
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        except streams.ClientGone:
            self.keep = False
            LOG.debug("The client of %s %s went away", self.head.method, self.head.path)
        except (exception.Error, OSError) as err:
            # Data that fails while it is sent, as that of other servers or of a bad disk does.
            LOG.log(
                logging.DEBUG if hooks.failed(environ, err, self.sent) else logging.WARNING,
                "The response to %s %s ended after %d bytes: %s",
                self.head.method,
                urllib.parse.quote(self.head.path, encoding="latin-1"),
                self.sent,
                exception.described(err),
            )
            self._fail(environ, err)
        except (Exception, eventlet.Timeout):
            # The boundary between application and server: the client sees nothing of the error.
            LOG.exception("%s %s failed", self.head.method, self.head.path)
            self._fail(environ)
        for callback in callbacks:
            callback(self.sent, whole)
        self._drain()
        if started and hooks.UNLOGGED not in environ:
            head = self.head
            request = f"{head.method} {head.target} HTTP/1.{head.minor}"
            access.record(environ, request, self.status, self.sent, time.monotonic() - started)

    def _fail(self, environ: Mapping[str, Any], err: BaseException | None = None) -> None:
        """Respond with 500 or the status of `err`; leave what has begun visibly unfinished."""
        self.keep = False
        if self.head_sent:
            if self._promised is None and not self._chunked:
                # NOTE: an orderly end would look like the end of the body.
                self.stream.reset_on_close()
            return
        refusal = parser.RequestRefused(500, "The server failed.")
        self.headers, data = refusal.render()
        self.status = refusal.status_line
        if isinstance(err, exception.Error):
            self.status, self.headers, data = httperror.render(err, environ)
            request_id = environ.get("glance.request_id") or refusal.request_id
            self.headers.append(("X-Openstack-Request-Id", request_id))
        try:
            self._send_whole(data)
        except streams.ClientGone:
            # The client has gone, so there is no one to send it to.
            pass

    def _drain(self) -> None:
        """Read the small rest of a request body, so that the next request can be read."""
        source = self.input
        if self.keep and not source.finished:
            timeout, self.stream.timeout = self.stream.timeout, _DRAIN_TIME
            try:
                source.read(DRAIN)
            except (OSError, ValueError):
                # The body is not needed, so a fault in it is not an error.
                pass
            self.stream.timeout = timeout
        self.keep = self.keep and source.finished

    # -- the response ----------------------------------------------------------------------------

    def _send(self, result: Iterable[bytes]) -> None:
        if isinstance(result, list | tuple) and not self.head_sent:
            self._send_whole(result[0] if len(result) == 1 else b"".join(result))
        elif self.status and self._is_bodiless():
            self.stream.send(self._open(None))
        elif isinstance(result, body.FileBody) and self.stream.is_plain:
            self._send_file(result)
        else:
            self._send_pieces(result)

    def _send_whole(self, data: bytes) -> None:
        head = self._open(len(data))
        if self._is_bodiless():
            self.stream.send(head)
        else:
            self._transmit(data, head)
            self._finish()

    def _send_file(self, source: body.FileBody) -> None:
        head = self._open(source.length)
        if self._promised != source.length:
            self.head_sent = False
            raise WrongLength("Content-Length is not the length of the file")
        self.stream.send(head, more=source.length > 0)
        error = None
        try:
            sendfile.send(self.stream, source, self._count)
        except OSError as err:
            error = err
        if self.sent < source.length:
            for data in source.read_on(self.sent, error):
                self._transmit(data)
        self._finish()

    def _count(self, count: int) -> None:
        self.sent += count

    def _send_pieces(self, result: Iterable[bytes]) -> None:
        length = result.length if isinstance(result, body.Body) else None
        for data in result:
            if not data:
                continue
            head = b"" if self.head_sent else self._open(length)
            if self._is_bodiless():
                self.stream.send(head)
                return
            self._transmit(data, head)
        if not self.head_sent:
            self.stream.send(self._open(length or 0))
        if not self._is_bodiless():
            self._finish()

    def _write(self, data: bytes) -> None:
        """Send a piece at once (the `write` callable of WSGI)."""
        head = b"" if self.head_sent else self._open(None)
        self._transmit(b"" if self._is_bodiless() else data, head)

    def _is_bodiless(self) -> bool:
        """Return whether the response is a head only (RFC 9110 §6.4.1)."""
        status = self.status[:3]
        return self.head.method == "HEAD" or status in ("204", "304") or status[:1] == "1"

    def _open(self, length: int | None) -> bytes:
        """Return the head of the response; decide on its framing and on keeping the connection.

        `length` is the body's length in bytes, None if it is not known.
        """
        if not self.status:
            raise AssertionError("the application has not called start_response")
        has_date = is_for_caches = False
        for name, value in self.headers:
            lowered = name.lower()
            if lowered == "content-length":
                self._promised = int(value)
            elif lowered == "date":
                has_date = True
            elif lowered == "cache-control":
                is_for_caches = True
        extra = "" if has_date else f"Date: {dates.now()}\r\n"
        if not is_for_caches:
            # SECURITY: a filter that knows nothing of caches may have made it for one caller.
            extra += _NO_STORE
        if self._promised is None and not self._is_bodiless():
            if length is not None:
                self._promised = length
                extra += f"Content-Length: {length}\r\n"
            elif self.head.minor:
                self._chunked = True
                extra += "Transfer-Encoding: chunked\r\n"
            else:
                # The end of the connection is the end of the body.
                self.keep = False
        if self.keep and (self.is_draining() or self._body_is_in_the_way()):
            self.keep = False
        if not self.keep:
            extra += "Connection: close\r\n"
        elif not self.head.minor:
            extra += "Connection: keep-alive\r\n"
        head = parser.render_head(self.status, self.headers, extra)
        self.head_sent = True
        return head

    def _body_is_in_the_way(self) -> bool:
        """Return whether too much of the request body is unread to reach the next request.

        A client that waits for 100 Continue may send its body or not once it gets a response, so
        what follows could be either.
        """
        source = self.input
        return not source.finished and (source.expects_continue or source.unread() > DRAIN)

    def _transmit(self, data: bytes, head: bytes = b"") -> None:
        """Send `head`, then a piece of the body in its framing."""
        excess = False
        if self._promised is not None and self.sent + len(data) > self._promised:
            data, excess = data[: self._promised - self.sent], True
        self.sent += len(data)
        tail = b""
        if self._chunked and data:
            head += b"%x\r\n" % len(data)
            tail = b"\r\n"
        try:
            self._send_framed(head, data, tail)
        except streams.ClientGone as gone:
            self.sent -= min(len(data), max(0, gone.unsent - len(tail)))
            raise
        if excess:
            raise WrongLength("The response is longer than its Content-Length")

    def _send_framed(self, head: bytes, data: bytes, tail: bytes) -> None:
        """Send three parts in a row; ClientGone holds how much of all three was left."""
        send = self.stream.send
        if len(data) <= _JOIN:
            send(head + data + tail)
            return
        try:
            if head:
                send(head, more=True)
        except streams.ClientGone as gone:
            gone.unsent += len(data) + len(tail)
            raise
        try:
            send(data, more=bool(tail))
        except streams.ClientGone as gone:
            gone.unsent += len(tail)
            raise
        if tail:
            send(tail)

    def _finish(self) -> None:
        """Send the end mark; raise WrongLength for a response shorter than was promised."""
        if self._chunked:
            self.stream.send(b"0\r\n\r\n")
        elif self._promised is not None and self.sent < self._promised:
            raise WrongLength(
                f"The response ended after {self.sent} of {self._promised} announced bytes"
            )
