"""One HTTP/1.1 connection of a client: opening it, sending a request, receiving the response.

`glance.http.client.pool` keeps these connections. The response itself is a
`glance.http.client.response.ClientResponse`. Nothing here knows tokens, images or which status is
an error. The module uses only ordinary sockets, so it works in plain threads and, unchanged, in a
process with patched sockets.

PERF: written by hand because glance-api calls the registry in every request, and the standard
library's client parses the headers of a response with the e-mail package. CPU for one kept-alive
request, Python 3.11, loopback: that client alone 72 us; this module with pool, client and JSON on
top 40 us. An upload also has to notice a response that arrives before its body is sent, which the
standard one cannot. Only what speaks TLS imports ssl, which loads OpenSSL.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from glance.common import exception
from glance.http import framing
from glance.http.client import payload as payload_module
from glance.http.client import proxy as http_proxy
from glance.http.client import response

if TYPE_CHECKING:
    import ssl

Payload = payload_module.Payload
Progress = Callable[[int, int | None], None]
#: An IP address and a port to connect to.
Address = tuple[str, int]

MAX_HEAD = 65536
#: 1xx responses before a final one.
MAX_INTERIM = 100
SENDFILE = 4 * 1024 * 1024
#: Seconds to wait for what the server says of a request that this side has stopped sending.
PARTING = 3.0
#: Errors of os.sendfile that mean that this pair of descriptors does not support it.
_NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EOVERFLOW})
#: Errors of os.sendfile that come from the network, not from the file.
_SOCKET_ERRORS = frozenset({errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENETDOWN})


#: What OpenSSL says of a server that responds to its greeting with the text of an HTTP response.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})


class _ResponseReady(Exception):
    """The server responded while the body was still being sent."""


def authority(host: str, port: int, default_port: int | None = None) -> str:
    """Return `host:port` as it stands in a Host header or a CONNECT request.

    IPv6 addresses are put into brackets, without a zone, which means something on this host only
    and is not part of a URI's host (RFC 3986 §3.2.2). The port is left out if it is
    `default_port`.
    """
    shown = f"[{host.partition('%')[0]}]" if ":" in host else host
    return shown if port == default_port else f"{shown}:{port}"


def request_head(method: str, target: str, host: str, headers: Mapping[str, str]) -> bytes:
    """Return the request line and headers to send. Raises Invalid for a value with a line break.

    `target` is percent-encoded. Header values are text in WSGI form (bytes as latin-1).
    """
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    block = "\r\n".join(lines)
    # SECURITY: a line break inside any part would start a header chosen by the caller.
    if not block.count("\n") == block.count("\r") == len(lines) - 1 or "\0" in block:
        raise exception.Invalid("A header or the path contains a line break or a NUL; remove it")
    try:
        return (block + "\r\n\r\n").encode("latin-1")
    except UnicodeEncodeError:
        raise exception.Invalid("A header contains a character that cannot be sent") from None


class TLS(NamedTuple):
    """How the two sides of a TLS connection authenticate.

    The server is verified against `ca_file`, or the system's authorities; `insecure` switches
    that off. `cert_file` and `key_file` authenticate this client.
    """

    key_file: str | None = None
    cert_file: str | None = None
    ca_file: str | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """Return a context made from the files. Raises BadInputError if they cannot be used."""
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as err:
            raise exception.BadInputError(
                f"The TLS files cannot be used ({err.strerror or err}): check ca_file, "
                "cert_file and key_file"
            ) from err
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class ClientConnection:
    """A connection to one server, possibly through a proxy; used by one request at a time.

    Timeouts are in seconds, None waits for ever. `reused` is set by the pool. A request that a
    proxy forwards has to name the whole URL, which the caller has to provide.

    `addresses`, where they are given, are connected to in turn instead of looking up `host`, which
    then only names the server that TLS verifies; `connect_timeout` holds for all of them together.
    There is no proxy then.

    `adapt` returns what is used in place of a connected plain socket, None for the socket itself.
    """

    adapt: Callable[[Any], Any] | None = None

    #: Errors that mean that nothing can be received, or sent, before the socket is ready for it.
    _unreadable: tuple[type[OSError], ...] = (BlockingIOError,)
    _unwritable: tuple[type[OSError], ...] = (BlockingIOError,)

    def __init__(
        self,
        host: str,
        port: int,
        connect_timeout: float | None,
        read_timeout: float | None,
        proxy: http_proxy.Proxy | None = None,
        addresses: Sequence[Address] | None = None,
    ):
        assert proxy is None or addresses is None
        self.host, self.port, self.proxy, self.addresses = host, port, proxy, addresses
        self.connect_timeout, self.read_timeout = connect_timeout, read_timeout
        self.reused = False
        self.idle_since = 0.0
        self._sock: Any = None
        self._buffer = b""
        # 1xx responses since the last final one.
        self._interim = 0
        self._broken = False
        self._deadline: float | None = None

    @property
    def place(self) -> str:
        """Host and port of the server, and of the proxy on the way to it."""
        where = authority(self.host, self.port)
        if self.proxy is None:
            return where
        return f"{where} through the proxy {authority(self.proxy.host, self.proxy.port)}"

    # -- opening and closing ---------------------------------------------------------------------

    def connect(self) -> None:
        """Open the socket. Raises `NotConnected` if that fails."""
        sock: socket.socket | None = None
        try:
            sock = self._dial()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = self._secure(sock)
            sock.settimeout(self.read_timeout)
            self._sock, sock = sock, None
        except (OSError, EOFError, ValueError) as err:
            broken = response.NotConnected(err or type(err).__name__)
            broken.at(self.place)
            raise broken from err
        finally:
            if sock is not None:
                sock.close()

    def _dial(self) -> socket.socket:
        """Return a socket that is connected to the server or its proxy, as plain TCP."""
        place = self.proxy or self
        addresses = [(place.host, place.port)] if self.addresses is None else self.addresses
        ends = [self._deadline] if self._deadline is not None else []
        if self.connect_timeout is not None:
            ends.append(time.monotonic() + self.connect_timeout)
        last: OSError = TimeoutError("timed out")
        for address in addresses:
            left = min(ends) - time.monotonic() if ends else None
            if left is not None and left <= 0:
                break
            try:
                return socket.create_connection(address, left)
            except OSError as err:
                last = err
        raise last

    def _secure(self, sock: socket.socket) -> Any:
        return sock if self.adapt is None else self.adapt(sock)

    def close(self) -> None:
        """Close the socket; may be called twice."""
        sock, self._sock = self._sock, None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    @property
    def reusable(self) -> bool:
        """Whether the last exchange left the connection open and in a defined state."""
        return self._sock is not None and not self._broken and not self._buffer

    def is_alive(self) -> bool:
        """Return whether an idle connection can still be used.

        Anything that can be read from an idle connection (its end, or unsolicited bytes) makes it
        unusable. The probe reads instead of selecting: a TLS connection may have tickets to read.
        """
        sock = self._sock
        if sock is None:
            return False
        try:
            sock.settimeout(0)
            sock.recv(1)
        except self._unreadable:
            sock.settimeout(self.read_timeout)
            return True
        except (OSError, EOFError):
            return False
        return False

    # -- sending ---------------------------------------------------------------------------------

    def exchange(
        self,
        method: str,
        head: bytes,
        payload: Payload | None = None,
        progress: Progress | None = None,
        on_end: Callable[[ClientConnection], None] | None = None,
        deadline: float | None = None,
    ) -> response.ClientResponse:
        """Send a request and return its response, with the body unread.

        `on_end` gets the connection when the response was read to its end. The headers of the
        response must have arrived by the `deadline` (in the time of `time.monotonic`), however
        steadily they trickle; it bounds connecting and sending, too. Raises `ConnectionBroken` or
        a subclass; the connection is closed then. If this side stops, because the source of the
        body fails or the user interrupts it, a payload with `parting` learns what the server says.
        """
        self._deadline = deadline
        if self._sock is None:
            self.connect()
        send_error: response.ConnectionBroken | None = None
        try:
            try:
                if payload is None:
                    self._send_all(head)
                elif payload.data is not None and len(payload.data) <= payload_module.SMALL:
                    # PERF: one segment for headers and body wakes the server up once.
                    self._send_all(head + payload.data)
                    if progress is not None:
                        progress(len(payload.data), payload.length)
                else:
                    self._upload(head, payload, progress)
            except _ResponseReady:
                self._broken = True
            except response.ConnectionTimedOut:
                raise
            except response.ConnectionBroken as err:
                # NOTE: a server that refuses an upload may respond and close without reading the
                # body; its response is more useful to the caller than the broken pipe.
                self._broken, send_error = True, err
            try:
                reply_head = self._read_head()
                if deadline is not None:
                    self._deadline = None
                    self._sock.settimeout(self.read_timeout)
                return response.ClientResponse(self, method, reply_head, on_end)
            except response.ConnectionBroken as err:
                if send_error is None or isinstance(err, response.BadResponse):
                    raise
                send_error.answered = err.answered
                raise send_error from err
        except BaseException as err:
            try:
                if isinstance(err, response.ConnectionBroken):
                    err.at(self.place)
                elif payload is not None and payload.parting is not None:
                    self._part(method, payload.parting)
            finally:
                self.close()
            raise

    def _part(self, method: str, parting: Callable[[response.ClientResponse], None]) -> None:
        """Tell the server that nothing more will come, and pass its response on, if it has one."""
        with contextlib.suppress(OSError, exception.Error):
            # NOTE: that of a TLS socket itself would end the encryption of what is received, too.
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
            self._deadline = time.monotonic() + PARTING
            parting(response.ClientResponse(self, method, self._read_head()))

    def _send_all(self, data: bytes) -> None:
        try:
            if self._deadline is not None:
                self._sock.settimeout(self._time_left())
            self._sock.sendall(data)
        except TimeoutError as err:
            raise response.ConnectionTimedOut("timed out") from err
        except (OSError, EOFError) as err:
            raise response.ConnectionBroken(err or type(err).__name__) from err

    def _time_left(self) -> float | None:
        """Return how long the next wait may take; raise `ConnectionTimedOut` at the deadline."""
        if self._deadline is None:
            return self.read_timeout
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise response.ConnectionTimedOut("the response did not begin in time")
        return left if self.read_timeout is None else min(left, self.read_timeout)

    def _upload(self, head: bytes, payload: Payload, progress: Progress | None) -> None:
        """Send a large body or one of unknown length, and watch for an early response."""
        sock = self._sock
        sock.settimeout(0)
        sent = 0
        try:
            self._push(head)
            file_range = payload.file_range() if self._plain() else None
            if file_range is not None:
                assert payload.length is not None
                sent = self._push_file(*file_range, payload.length, progress)
                payload.sent_from_file(sent)
            if not file_range or not sent:
                chunked = not payload.length
                for piece in payload.pieces():
                    self._poll()
                    size = len(piece)
                    if chunked:
                        piece = b"%x\r\n%b\r\n" % (size, bytes(piece))
                    self._push(piece)
                    sent += size
                    if progress is not None:
                        progress(sent, payload.length)
                if chunked:
                    self._push(b"0\r\n\r\n")
        finally:
            if self._sock is not None:
                sock.settimeout(self.read_timeout)
        if payload.length and sent != payload.length:
            raise exception.BadInputError(
                f"The image data ended after {sent} of {payload.length} bytes: is the file being "
                "changed?"
            )

    def _plain(self) -> bool:
        return hasattr(os, "sendfile")

    def _push(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except self._unwritable:
                self._wait(selectors.EVENT_READ | selectors.EVENT_WRITE)
            except self._unreadable:
                self._wait(selectors.EVENT_READ)
            except (OSError, EOFError) as err:
                raise response.ConnectionBroken(err or type(err).__name__) from err

    def _push_file(
        self, descriptor: int, start: int, length: int, progress: Progress | None
    ) -> int:
        """Send a range of a file without copying it through this process; return bytes sent."""
        sent = 0
        while sent < length:
            self._poll()
            try:
                count = os.sendfile(
                    self._sock.fileno(), descriptor, start + sent, min(SENDFILE, length - sent)
                )
            except BlockingIOError:
                self._wait(selectors.EVENT_READ | selectors.EVENT_WRITE)
                continue
            except OSError as err:
                if isinstance(err, ConnectionError) or err.errno in _SOCKET_ERRORS:
                    raise response.ConnectionBroken(err) from err
                if err.errno in _NO_SENDFILE and not sent:
                    return 0
                raise
            if not count:
                break
            sent += count
            if progress is not None:
                progress(sent, length)
        return sent

    def _wait(self, events: int) -> None:
        """Wait until the socket is writable; raise `_ResponseReady` if a response comes first."""
        if self.adapt is not None and hasattr(self._sock, "leave"):
            self._sock.leave()
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, events)
            ready = selector.select(self._time_left())
        if not ready:
            raise response.ConnectionTimedOut("timed out")
        if any(mask & selectors.EVENT_READ for _, mask in ready):
            self._poll()

    def _poll(self) -> None:
        """Receive what has arrived; raise `_ResponseReady` for the head of a final response."""
        try:
            data = self._sock.recv(response.RECEIVE)
        except self._unreadable + self._unwritable:
            return
        except (OSError, EOFError) as err:
            raise response.ConnectionBroken(err or type(err).__name__) from err
        if not data:
            raise response.ConnectionBroken("the server closed the connection")
        self._buffer += data
        self._drop_interim()
        if b"\r\n\r\n" in self._buffer or not self._looks_like_http():
            raise _ResponseReady

    def _looks_like_http(self) -> bool:
        return self._buffer[:7] == b"HTTP/1."[: len(self._buffer)]

    def _drop_interim(self) -> None:
        """Drop complete 1xx responses at the head of the buffer; BadResponse if too many."""
        while self._buffer.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._buffer = self._buffer[end + 4 :]
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise response.BadResponse("there are too many interim responses", True)

    # -- receiving -------------------------------------------------------------------------------

    def _read_head(self) -> str:
        """Return the status line and headers of the next final response."""
        while True:
            self._drop_interim()
            end = self._buffer.find(b"\r\n\r\n")
            if end >= 0:
                break
            if len(self._buffer) > MAX_HEAD:
                raise response.BadResponse("the response headers are too long", True)
            if not self._looks_like_http():
                # The type of a TLS record, alert or handshake, and its version (RFC 8446 §5.1).
                tls = self._buffer.startswith((b"\x15\x03", b"\x16\x03"))
                text = "the server speaks https, not http" if tls else "the response is not HTTP"
                raise response.BadResponse(text, True)
            data = self._receive(response.RECEIVE)
            if not data:
                raise response.ConnectionBroken(
                    "the server closed the connection", bool(self._buffer)
                )
            self._buffer += data
        self._interim = 0
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        return head.decode("latin-1")

    def take(self, limit: int) -> bytes:
        """Return 1 to `limit` bytes of the response, b"" at the end of the stream."""
        buffer = self._buffer
        if buffer:
            self._buffer = buffer[limit:]
            return buffer if len(buffer) <= limit else buffer[:limit]
        return self._receive(limit)

    def _receive(self, limit: int) -> bytes:
        try:
            if self._deadline is not None:
                self._sock.settimeout(self._time_left())
            data: bytes = self._sock.recv(limit)
        except TimeoutError as err:
            raise response.ConnectionTimedOut("timed out", True) from err
        except (OSError, EOFError) as err:
            raise response.ConnectionBroken(err or type(err).__name__, bool(self._buffer)) from err
        return data

    def take_line(self) -> bytes:
        """Return the next line of a chunked body's framing, without its line end."""
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > framing.MAX_LINE:
                raise response.BadResponse("a line of the chunked response is too long", True)
            held, self._buffer = self._buffer, b""
            data = self.take(response.RECEIVE_LINE)
            if not data:
                raise response.BodyTruncated("the chunked response ended early", True)
            self._buffer = held + data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def desync(self) -> None:
        """Mark the connection as unusable for another request."""
        self._broken = True


class TLSConnection(ClientConnection):
    """A connection over TLS; `context` defines what is verified."""

    def __init__(
        self,
        host: str,
        port: int,
        connect_timeout: float | None,
        read_timeout: float | None,
        context: ssl.SSLContext | None = None,
        proxy: http_proxy.Proxy | None = None,
        addresses: Sequence[Address] | None = None,
    ):
        super().__init__(host, port, connect_timeout, read_timeout, proxy, addresses)
        import ssl

        self.context = context or TLS().context()
        self._unreadable = (BlockingIOError, ssl.SSLWantReadError)
        self._unwritable = (BlockingIOError, ssl.SSLWantWriteError)

    def _secure(self, sock: socket.socket) -> socket.socket:
        if self.proxy is not None:
            self._tunnel(sock, self.proxy)
        try:
            return self.context.wrap_socket(sock, server_hostname=self.host)
        except OSError as err:
            if getattr(err, "reason", None) in _NOT_TLS:
                raise OSError("the server speaks http, not https") from err
            raise

    def certificate_names(self) -> list[str]:
        """Return the names and addresses in the certificate of the server, if it is verified."""
        certificate = self._sock.getpeercert() or {}
        return [str(name) for _, name in certificate.get("subjectAltName", ())]

    def _tunnel(self, sock: socket.socket, proxy: http_proxy.Proxy) -> None:
        """Open a tunnel through the proxy to the server."""
        place = authority(self.host, self.port)
        sock.sendall(request_head("CONNECT", place, place, proxy.fields))
        response_head = b""
        while b"\r\n\r\n" not in response_head:
            data = sock.recv(response.RECEIVE)
            if not data or len(response_head) > MAX_HEAD:
                raise OSError("the proxy opened no tunnel")
            response_head += data
        line = response_head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
        status = line[1] if len(line) > 1 and line[0].startswith("HTTP/1.") else ""
        if not status.startswith("2"):
            raise OSError(f"the proxy opened no tunnel: it returned {status or 'no HTTP status'}")

    def _plain(self) -> bool:
        return False


def new_connection(
    host: str,
    port: int,
    connect_timeout: float | None,
    read_timeout: float | None,
    *,
    context: ssl.SSLContext | None = None,
    proxy: http_proxy.Proxy | None = None,
    addresses: Sequence[Address] | None = None,
) -> ClientConnection:
    """Return a connection that is not open yet: inside TLS if there is a `context`, else plain."""
    place = (host, port, connect_timeout, read_timeout)
    if context is not None:
        return TLSConnection(*place, context, proxy, addresses)
    return ClientConnection(*place, proxy, addresses)
