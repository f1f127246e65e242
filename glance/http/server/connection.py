"""One client connection: its requests one after the other, and its end."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from glance.common import hooks
from glance.http import dates
from glance.http.server import access, crowd, exchange, measuring, parser, request_body
from glance.http.server import stream as streams

LOG = logging.getLogger(__name__)

WSGIApp = Callable[..., Iterable[bytes]]

#: How long a client may take over one request head, in seconds.
HEAD_TIME = 60.0
_RECV = 64 * 1024
# How a connection is closed on a client that is still sending: seconds of silence, seconds, bytes.
_LINGER = (5.0, 30.0, 256 * 1024 * 1024)


@dataclasses.dataclass(slots=True)
class ServerSettings:
    """What all connections of a process share. Times are in seconds; None means no limit."""

    app: WSGIApp
    scheme: str = "http"
    multiprocess: bool = False
    socket_timeout: float | None = 900.0
    keepalive_timeout: float = 75.0
    max_line: int = 16384
    draining: bool = False
    #: What counts the requests; None while metrics are off.
    measure: measuring.Meter | None = None

    def is_draining(self) -> bool:
        return self.draining


class ServerConnection:
    """One accepted socket; `serve` runs in a greenthread of its own."""

    def __init__(self, service: ServerSettings, sock: Any, peer: Any):
        self.service = service
        self.stream = streams.SocketStream(sock, service.socket_timeout)
        #: No request has begun to arrive since the last response.
        self.idle = True
        #: A request is being handled.
        self.busy = False
        #: When the connection was accepted or became idle, or when a further request began, by
        #: the monotonic clock.
        self.since = time.monotonic()
        #: Requests begun on this connection.
        self.requests = 0
        # The waits for the client up to the last request.
        self._waits = -1
        self._peer = peer
        #: The client, as the limits count it.
        self.address = crowd.address_of(peer)
        self._base: dict[str, Any] = {}

    @property
    def waiting(self) -> float:
        """When the present wait for the client began; see `SocketStream`."""
        return self.stream.waiting

    def turn_away(self) -> None:
        """Close the connection, one too many of its client, with a response if that is possible.

        Nothing is waited for: the client costs no more than the call.
        """
        if self.stream.is_plain:
            refusal = parser.RequestRefused(
                503, "Too many connections from this address; close some, and try again"
            )
            headers, data = refusal.render()
            extra = f"Date: {dates.now()}\r\nRetry-After: 1\r\nConnection: close\r\n"
            self.stream.offer(parser.render_head(refusal.status_line, headers, extra) + data)
        self.stream.close()

    def serve(self) -> None:
        """Serve requests until the connection ends, then close it. Log errors."""
        try:
            self.stream.handshake(HEAD_TIME)
            self._base = self._connection_environ()
            while self._serve_one():
                self.stream.timeout = self.service.socket_timeout
                self.busy = False
                self.idle = True
                self.since = time.monotonic()
        except (OSError, streams.ClientGone) as err:
            LOG.debug("Connection of %s broke: %s", self._peer, err)
        except Exception:
            # The outermost frame of the greenthread: otherwise the error would be lost.
            LOG.exception("A connection failed")
        finally:
            self.stream.close()

    def _serve_one(self) -> bool:
        """Serve one request; return whether another may follow."""
        service = self.service
        try:
            data = self._read_head()
            if data is None:
                return False
            self.busy = True
            self.stream.forget_waits()
            self._take_turns()
            head = parser.parse_head(data, service.max_line)
            chunked, length, must_close = parser.framing(head)
            expects = self._expects_continue(head)
        except parser.RequestRefused as refusal:
            self._refuse(refusal)
            return False
        source: request_body.Input
        if chunked:
            source = request_body.ChunkedInput(self.stream, expects_continue=expects)
        else:
            source = request_body.Input(
                self.stream, length, expects_continue=expects and length > 0
            )
        keep = not must_close and service.keepalive_timeout > 0 and head.wants_keep_alive()
        work = exchange.Exchange(
            self.stream, head, source, keep=keep, is_draining=service.is_draining
        )
        environ = self._environ(head, source)
        if service.measure is None:
            work.run(service.app, environ)
        else:
            with service.measure.request(work, environ):
                work.run(service.app, environ)
        if not work.keep and not source.finished:
            self.stream.linger(*_LINGER)
        return work.keep

    def _read_head(self) -> bytes | None:
        """Return the next request head, or None when the client sends no more.

        The work for a head grows with its bytes, however few of them arrive at a time.
        """
        stream = self.stream
        data: bytes | bytearray = stream.pending
        stream.pending = b""
        # How much of `data` was searched, where its last line begins, and the lines before it.
        searched = line = empty = 0
        deadline = 0.0
        timeout: float | None = self.service.keepalive_timeout if self.requests else HEAD_TIME
        while True:
            if data[:2] == b"\r\n":
                data, count = parser.skip_empty_lines(data)
                searched = line = 0
                empty += count
                if empty > parser.MAX_EMPTY_LINES:
                    raise parser.bad_request("There are too many empty lines before the request")
            if data:
                if self.idle:
                    begun = time.monotonic()
                    deadline = begun + HEAD_TIME
                    self.idle = False
                    if self.requests:
                        # The first request is waited for since the client connected.
                        self.since = begun
                    self.requests += 1
                end = parser.find_end(data, searched)
                if end > 0:
                    stream.pending = bytes(data[end:])
                    return bytes(data[:end])
                line = parser.check_partial_line(data, self.service.max_line, line, searched)
                searched = len(data)
                timeout = max(deadline - time.monotonic(), 0.0)
            try:
                received = stream.recv(_RECV, timeout)
            except TimeoutError:
                if self.idle:
                    return None
                raise parser.RequestRefused(408, "The request did not arrive in time") from None
            if not received:
                return None
            if not data:
                data = received
            else:
                if isinstance(data, bytes):
                    data = bytearray(data)
                data += received

    def _take_turns(self) -> None:
        """Let others run once for each request, also if this client has sent the next one ahead.

        Nothing is to be done if the client was waited for since the last request.
        """
        if self.stream.waits == self._waits:
            self.stream.rest()
        self._waits = self.stream.waits

    def _expects_continue(self, head: parser.Head) -> bool:
        expected = head.cgi.get("HTTP_EXPECT")
        if expected is None or not head.minor:
            return False
        if expected.lower() != "100-continue":
            raise parser.RequestRefused(
                417, "The Expect header must be 100-continue; correct it, or omit it"
            )
        return True

    def _refuse(self, refusal: parser.RequestRefused) -> None:
        """Respond to a request that is not passed to the application, and close."""
        LOG.info(
            "Rejected a request from %s: %s (%s)", self._peer, refusal.status_line, refusal.text
        )
        headers, data = refusal.render()
        extra = f"Date: {dates.now()}\r\nConnection: close\r\n"
        self.stream.send(parser.render_head(refusal.status_line, headers, extra) + data)
        if self.service.measure is not None:
            self.service.measure.refused(refusal.status_line)
        if access.is_on():
            known = {**self._base, "glance.request_id": refusal.request_id}
            access.record(known, "-", refusal.status_line, len(data), 0.0)
        self.stream.linger(*_LINGER)

    # -- the WSGI environ ------------------------------------------------------------------------

    def _connection_environ(self) -> dict[str, Any]:
        """Return the entries that stay the same for all requests of the connection."""
        name, port = _host_and_port(self.stream.sock.getsockname())
        client, client_port = _host_and_port(self._peer)
        service = self.service
        base: dict[str, Any] = {
            "SCRIPT_NAME": "",
            "SERVER_NAME": name,
            "SERVER_PORT": port,
            "REMOTE_ADDR": client,
            "REMOTE_PORT": client_port,
            "GATEWAY_INTERFACE": "CGI/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": service.scheme,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": service.multiprocess,
            "wsgi.run_once": False,
            # The input ends where the body ends, whatever the framing (webob needs this).
            "wsgi.input_terminated": True,
            hooks.IS_DRAINING: service.is_draining,
        }
        if service.scheme == "https":
            base["HTTPS"] = "on"
        return base

    def _environ(self, head: parser.Head, source: request_body.Input) -> dict[str, Any]:
        """Return the environ of one request.

        In addition to the standard entries it has `headers_raw`, the header pairs in order with
        names as sent, and `RAW_PATH_INFO`, the path before percent-decoding.
        """
        environ = self._base.copy()
        environ.update(head.cgi)
        environ["REQUEST_METHOD"] = head.method
        environ["PATH_INFO"] = head.path
        environ["RAW_PATH_INFO"] = head.raw_path
        environ["QUERY_STRING"] = head.query
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if head.minor else "HTTP/1.0"
        environ["headers_raw"] = tuple(head.headers)
        environ["wsgi.input"] = source
        return environ


def _host_and_port(address: Any) -> tuple[str, str]:
    """Return the WSGI strings of a socket address; a socket pair has none."""
    if isinstance(address, tuple):
        return str(address[0]), str(address[1])
    return "localhost", "0"
