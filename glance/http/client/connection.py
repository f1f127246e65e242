"""One HTTP/1.1 connection of a client: opening it, sending a request, hearing the answer.

`glance.http.client.pool` keeps these connections; `glance.identity.strategies` uses one for a
sign-in. The answer itself is a `glance.http.client.response.ClientResponse`. Nothing here knows
tokens, images or which status is an error. Only ordinary sockets are used, so the module works in
plain threads and, unchanged, in a process whose sockets were made green.

PERF: written by hand because glance-api asks the registry in every request, and `http.client`
parses the headers of an answer with the e-mail package. CPU for one kept-alive request, Python
3.11, loopback: `http.client` alone 72 us; this module with pool, client and JSON on top 40 us. An
upload also has to notice an answer that comes before its body is sent, which `http.client` cannot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import selectors
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from glance.common import exception
from glance.http.client import payload as payload_module
from glance.http.client import proxy as http_proxy
from glance.http.client import response

Payload = payload_module.Payload
Progress = Callable[[int, int | None], None]

MAX_HEAD = 65536
SENDFILE = 4 * 1024 * 1024
#: Errors of os.sendfile that mean: this pair of descriptors cannot do it.
_NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EOVERFLOW})
#: ... and that are the network's fault, not the file's.
_SOCKET_ERRORS = frozenset({errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENETDOWN})


class _ResponseReady(Exception):
    """The server answered while the body was still being sent."""


def request_head(method: str, target: str, host: str, headers: Mapping[str, str]) -> bytes:
    """Return the request line and headers, ready to send; Invalid if a value breaks out of them.

    `target` is percent-encoded. Header values are text as WSGI carries it (bytes as latin-1).
    """
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    block = "\r\n".join(lines)
    # SECURITY: a line break inside any part would start a header of the caller's choosing.
    if not block.count("\n") == block.count("\r") == len(lines) - 1 or "\0" in block:
        raise exception.Invalid("A header or the path contains a line break or a NUL; remove it")
    try:
        return (block + "\r\n\r\n").encode("latin-1")
    except UnicodeEncodeError:
        raise exception.Invalid("A header contains a character that cannot be sent") from None


@dataclasses.dataclass(frozen=True, slots=True)
class TLS:
    """How the two sides of a TLS connection prove who they are.

    The server is verified against `ca_file`, or the system's authorities; `insecure` switches
    that off. `cert_file` and `key_file` prove this client's identity.
    """

    key_file: str | None = None
    cert_file: str | None = None
    ca_file: str | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """Return a context made from the files; raise BadInputError if they cannot be used."""
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
    """A connection to one server, perhaps by way of a proxy; used by one request at a time.

    Timeouts are in seconds, None waits for ever. `reused` is set by the pool. A request that a
    proxy hands on has to name the whole URL, which is the caller's business.
    """

    def __init__(
        self,
        host: str,
        port: int,
        connect_timeout: float | None,
        read_timeout: float | None,
        proxy: http_proxy.Proxy | None = None,
    ):
        self.host, self.port, self.proxy = host, port, proxy
        self.connect_timeout, self.read_timeout = connect_timeout, read_timeout
        self.reused = False
        self.idle_since = 0.0
        self._sock: Any = None
        self._buffer = b""
        self._broken = False

    # -- opening and closing ---------------------------------------------------------------------

    def connect(self) -> None:
        """Open the socket; raise `ConnectionBroken` if that fails."""
        sock = None
        try:
            place = self.proxy or self
            sock = socket.create_connection((place.host, place.port), self.connect_timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = self._secure(sock)
            sock.settimeout(self.read_timeout)
        except (OSError, EOFError, UnicodeError) as err:
            if sock is not None:
                sock.close()
            raise response.ConnectionBroken(err or type(err).__name__) from err
        self._sock = sock

    def _secure(self, sock: socket.socket) -> socket.socket:
        return sock

    def close(self) -> None:
        """Close the socket; may be called twice."""
        sock, self._sock = self._sock, None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    @property
    def reusable(self) -> bool:
        """Whether the last exchange left the connection open and in step."""
        return self._sock is not None and not self._broken and not self._buffer

    def is_alive(self) -> bool:
        """Return whether an idle connection can still be used.

        Whatever can be read from an idle connection (its end, or bytes nobody asked for) makes it
        useless. The probe reads instead of selecting: a TLS connection may have tickets to read.
        """
        sock = self._sock
        if sock is None:
            return False
        try:
            sock.settimeout(0)
            sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
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
    ) -> response.ClientResponse:
        """Send a request and return its answer, body unread.

        `on_end` gets the connection when the answer was read to its end. Raises `ConnectionBroken`
        or a subclass; the connection is closed then.
        """
        if self._sock is None:
            self.connect()
        trouble: response.ConnectionBroken | None = None
        try:
            try:
                if payload is None:
                    self._send_all(head)
                elif payload.data is not None and len(payload.data) <= payload_module.SMALL:
                    # PERF: one segment for headers and body: one wake-up of the server.
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
                # NOTE: a server that refuses an upload may answer and close without reading the
                # body; its answer is worth more to the caller than the broken pipe.
                self._broken, trouble = True, err
            try:
                return response.ClientResponse(self, method, self._read_head(), on_end)
            except response.ConnectionBroken as err:
                if trouble is None or isinstance(err, response.BadResponse):
                    raise
                trouble.answered = err.answered
                raise trouble from err
        except BaseException:
            self.close()
            raise

    def _send_all(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except TimeoutError as err:
            raise response.ConnectionTimedOut("timed out") from err
        except (OSError, EOFError) as err:
            raise response.ConnectionBroken(err or type(err).__name__) from err

    def _upload(self, head: bytes, payload: Payload, progress: Progress | None) -> None:
        """Send a large or endless body, watching for an early answer all the while."""
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
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(selectors.EVENT_READ | selectors.EVENT_WRITE)
            except ssl.SSLWantReadError:
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
        """Wait until the socket is ready to send; raise `_Answered` if an answer comes first."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, events)
            ready = selector.select(self.read_timeout)
        if not ready:
            raise response.ConnectionTimedOut("timed out")
        if any(mask & selectors.EVENT_READ for _, mask in ready):
            self._poll()

    def _poll(self) -> None:
        """Take in what has come; raise `_Answered` if it is a final answer's head."""
        try:
            data = self._sock.recv(response.RECEIVE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
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
        """Forget complete 1xx answers at the head of the buffer."""
        while self._buffer.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._buffer = self._buffer[end + 4 :]

    # -- receiving -------------------------------------------------------------------------------

    def _read_head(self) -> str:
        """Return the next final answer's status line and headers."""
        while True:
            self._drop_interim()
            end = self._buffer.find(b"\r\n\r\n")
            if end >= 0:
                break
            if len(self._buffer) > MAX_HEAD:
                raise response.BadResponse("the response headers are too long", True)
            if not self._looks_like_http():
                raise response.BadResponse("the response is not HTTP", True)
            data = self._receive(response.RECEIVE)
            if not data:
                raise response.ConnectionBroken(
                    "the server closed the connection", bool(self._buffer)
                )
            self._buffer += data
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        return head.decode("latin-1")

    def take(self, limit: int) -> bytes:
        """Return 1 to `limit` bytes of the answer, nothing at the end of the stream."""
        buffer = self._buffer
        if buffer:
            self._buffer = buffer[limit:]
            return buffer if len(buffer) <= limit else buffer[:limit]
        return self._receive(limit)

    def _receive(self, limit: int) -> bytes:
        try:
            data: bytes = self._sock.recv(limit)
        except TimeoutError as err:
            raise response.ConnectionTimedOut("timed out", True) from err
        except (OSError, EOFError) as err:
            raise response.ConnectionBroken(err or type(err).__name__, bool(self._buffer)) from err
        return data

    def take_line(self) -> bytes:
        """Return the next line of a chunked body's framing, without its end."""
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > response.MAX_LINE:
                raise response.BadResponse("a line of the chunked response is too long", True)
            held, self._buffer = self._buffer, b""
            data = self.take(response.RECEIVE)
            if not data:
                raise response.BodyTruncated("the chunked response ended early", True)
            self._buffer = held + data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def desync(self) -> None:
        """Never use the connection for another request."""
        self._broken = True


class TLSConnection(ClientConnection):
    """A connection inside TLS; `context` says what is verified."""

    def __init__(
        self,
        host: str,
        port: int,
        connect_timeout: float | None,
        read_timeout: float | None,
        context: ssl.SSLContext | None = None,
        proxy: http_proxy.Proxy | None = None,
    ):
        super().__init__(host, port, connect_timeout, read_timeout, proxy)
        self.context = context or ssl.create_default_context()

    def _secure(self, sock: socket.socket) -> socket.socket:
        if self.proxy is not None:
            self._tunnel(sock, self.proxy)
        return self.context.wrap_socket(sock, server_hostname=self.host)

    def _tunnel(self, sock: socket.socket, proxy: http_proxy.Proxy) -> None:
        """Have the proxy connect us with the server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = f"{host}:{self.port}"
        sock.sendall(request_head("CONNECT", place, place, proxy.fields))
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = sock.recv(response.RECEIVE)
            if not data or len(answer) > MAX_HEAD:
                raise OSError("the proxy opened no tunnel")
            answer += data
        line = answer.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
        status = line[1] if len(line) > 1 and line[0].startswith("HTTP/1.") else ""
        if not status.startswith("2"):
            raise OSError(f"the proxy opened no tunnel: it returned {status or 'no HTTP status'}")

    def _plain(self) -> bool:
        return False
