"""A proxy between a driver and its backend that injects faults on demand.

A driver connects to `FaultProxy.port` instead of its backend; requests pass through unchanged
until a test orders a `Fault`::

    with FaultProxy(backend_port) as proxy:
        proxy.order(Fault(method="PUT", path="-00002", status=503))
        proxy.order(Fault(method="GET", cut_response=1000))

It knows enough of HTTP/1.1 to count the bytes of bodies, in both directions, and uses plain HTTP
on 127.0.0.1. Headers pass unchanged, including Host, so that signatures stay valid and a service
that returns its own address returns the proxy's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Self

from glance.common.statuses import status_line

HOST = "127.0.0.1"
_BLOCK = 16 * 1024
_HEAD_LIMIT = 256 * 1024


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault for some requests.

    It applies to requests whose method is `method` (None: any) and whose target matches `path`, a
    regular expression (search): after the first `skip` of them, to `times` requests (None: all).
    The other fields, of which several may be set, define what happens:

    `status`, with `headers`: the proxy responds itself once it has read the request.
    `cut_request`: the connections break after so many bytes of the request's body.
    `stall_request`: nothing is forwarded after so many bytes of the request's body.
    `cut_response`, `stall_response`: the same for the body of the response; -1 means before its
    head, so that the backend has executed the request but the response is lost.
    `trickle`: the response body is sent at so many bytes a second.
    `change`: headers of the response to replace, by lower-case name.
    `flip`: the byte of the response body at this offset is changed.
    """

    method: str | None = None
    path: str = ""
    times: int | None = 1
    skip: int = 0
    status: int | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cut_request: int | None = None
    stall_request: int | None = None
    cut_response: int | None = None
    stall_response: int | None = None
    trickle: int | None = None
    change: Mapping[str, str] = dataclasses.field(default_factory=dict)
    flip: int | None = None

    def strikes(self, method: str, target: str) -> bool:
        return self.method in (None, method) and re.search(self.path, target) is not None


class _Cut(Exception):
    """Both connections have to break now."""


class _Order:
    def __init__(self, fault: Fault):
        self.fault = fault
        self.met = 0

    def take(self, method: str, target: str) -> bool:
        if not self.fault.strikes(method, target):
            return False
        self.met += 1
        count = self.met - self.fault.skip
        return count > 0 and (self.fault.times is None or count <= self.fault.times)


@dataclasses.dataclass
class _Head:
    """First line and headers of a message, with access to the headers that define its end."""

    first: str
    lines: list[str]

    def get(self, name: str) -> str | None:
        for line in self.lines:
            key, _, value = line.partition(":")
            if key.strip().lower() == name:
                return value.strip()
        return None

    def replace(self, name: str, value: str) -> None:
        self.lines = [line for line in self.lines if line.partition(":")[0].lower() != name]
        self.lines.append(f"{name}: {value}")

    def encode(self) -> bytes:
        return "\r\n".join([self.first, *self.lines, "", ""]).encode("latin-1")


class _Wire:
    """A connection to one side, with its own read buffer."""

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self, size: int) -> bytes:
        """Return some bytes, at most `size`; b"" at the end of the stream."""
        data = self._buffer or self.sock.recv(_BLOCK)
        self._buffer = data[size:]
        return data[:size]

    def line(self) -> bytes:
        """Return the next line with its line end, b"" at the end of the stream."""
        found = b""
        while not found.endswith(b"\n"):
            data = self._buffer or self.sock.recv(_BLOCK)
            if not data or len(found) > _HEAD_LIMIT:
                return b""
            end = data.find(b"\n") + 1 or len(data)
            found, self._buffer = found + data[:end], data[end:]
        return found

    def reset(self) -> None:
        """Break the connection with RST, like a crashed peer."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def wake(self) -> None:
        """Make all waiters see the end of the stream."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()


class FaultProxy:
    """A context manager; it listens on `port`, and `seen` lists `METHOD target` of all requests.

    Faults may be ordered while requests pass.
    """

    def __init__(self, backend_port: int):
        self.backend_port = backend_port
        self.port = 0
        self.seen: list[str] = []
        self._orders: list[_Order] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._open: set[_Wire] = set()
        self._ended = threading.Event()

    # -- orders ----------------------------------------------------------------------------------

    def order(self, *faults: Fault) -> None:
        """Apply these faults from now on; of two that match a request, the first applies."""
        with self._lock:
            self._orders += map(_Order, faults)

    def clear(self) -> None:
        """Let everything pass again, and clear `seen`."""
        with self._lock:
            self._orders.clear()
            self.seen.clear()

    def count(self, method: str, path: str = "") -> int:
        """Return how many requests were seen with this method and a target that `path` matches."""
        wanted = Fault(method, path)
        with self._lock:
            return sum(wanted.strikes(*line.split(" ", 1)) for line in self.seen)

    def down(self) -> None:
        """Refuse connections, and break open ones."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            left = list(self._open)
        for wire in left:
            wire.wake()

    def up(self) -> None:
        """Listen (again, on the same port)."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self.down()

    # -- passing on ------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        client = self._opened(sock)
        backend: _Wire | None = None
        try:
            backend = self._opened(socket.create_connection((HOST, self.backend_port)))
            while self._exchange(client, backend):
                pass
        except (_Cut, OSError, ValueError):
            # One side broke off, or has to by a fault; break the other side, too.
            client.reset()
        finally:
            for wire in filter(None, (client, backend)):
                with self._lock:
                    self._open.discard(wire)
                wire.close()

    def _opened(self, sock: socket.socket) -> _Wire:
        wire = _Wire(sock)
        with self._lock:
            self._open.add(wire)
        return wire

    def _exchange(self, client: _Wire, backend: _Wire) -> bool:
        """Pass one request and its response; return whether the connections may be reused."""
        request = _read_head(client)
        if request is None:
            return False
        method, target = request.first.split(" ")[:2]
        fault = self._meet(method, target)
        if fault.status is not None:
            if request.get("expect"):
                client.send(f"HTTP/1.1 {status_line(100)}\r\n\r\n".encode())
            for _ in _body(client, request):
                pass
            client.send(_own_response(fault))
            return False
        backend.send(request.encode())
        if request.get("expect"):
            # The backend decides: its 100 Continue or refusal goes to the client first.
            head = _read_head(backend)
            if head is None:
                raise _Cut
            client.send(head.encode())
            if head.first.split(" ")[1] != "100":
                for block in _body(backend, head, method):
                    client.send(block)
                return False
        body = _body(client, request)
        self._pass(body, backend, fault.cut_request, fault.stall_request)
        response = _read_head(backend)
        if response is None:
            raise _Cut
        self._check(-1, fault.cut_response, fault.stall_response)
        for name, value in fault.change.items():
            response.replace(name, value)
        client.send(response.encode())
        body = _body(backend, response, method)
        if fault.flip is not None:
            body = _flipped(body, fault.flip)
        self._pass(body, client, fault.cut_response, fault.stall_response, fault.trickle)
        framed = response.get("content-length") or response.get("transfer-encoding")
        return bool(framed) and (response.get("connection") or "").lower() != "close"

    def _meet(self, method: str, target: str) -> Fault:
        with self._lock:
            self.seen.append(f"{method} {target}")
            struck = [order.fault for order in self._orders if order.take(method, target)]
        return struck[0] if struck else Fault()

    def _pass(
        self,
        blocks: Iterator[bytes],
        sink: _Wire,
        cut: int | None,
        stall: int | None,
        rate: int | None = None,
    ) -> None:
        count = 0
        self._check(0, cut, stall)
        for block in blocks:
            limit = min((at for at in (cut, stall) if at is not None and at >= 0), default=None)
            if limit is not None:
                block = block[: max(limit - count, 0)]
            count += len(block)
            if rate is None:
                sink.send(block)
            else:
                step = max(rate // 10, 1)
                for start in range(0, len(block), step):
                    piece = block[start : start + step]
                    sink.send(piece)
                    time.sleep(len(piece) / rate)
            self._check(count, cut, stall)

    def _check(self, count: int, cut: int | None, stall: int | None) -> None:
        if cut is not None and count >= cut:
            raise _Cut
        if stall is not None and count >= stall:
            self._ended.wait()
            raise _Cut


def _own_response(fault: Fault) -> bytes:
    head = _Head(f"HTTP/1.1 {fault.status} Fault", [])
    for name, value in {"content-length": "0", "connection": "close", **fault.headers}.items():
        head.replace(name, value)
    return head.encode()


def _read_head(wire: _Wire) -> _Head | None:
    """Return the next head, None at the end of the stream."""
    lines: list[str] = []
    size = 0
    while True:
        line = wire.line()
        size += len(line)
        if not line or size > _HEAD_LIMIT:
            return None
        text = line.decode("latin-1").rstrip("\r\n")
        if text:
            lines.append(text)
        elif lines:
            return _Head(lines[0], lines[1:])


def _body(wire: _Wire, head: _Head, method: str | None = None) -> Iterator[bytes]:
    """Yield the bytes of a body as they are on the wire; `method` is given for a response."""
    length = head.get("content-length")
    if method is not None:
        status = int(head.first.split(" ")[1])
        if method == "HEAD" or status in (204, 304) or status < 200:
            return
    if (head.get("transfer-encoding") or "").lower() == "chunked":
        yield from _chunks(wire)
    elif length is not None:
        left = int(length)
        while left:
            block = wire.read(min(left, _BLOCK))
            if not block:
                raise _Cut
            left -= len(block)
            yield block
    elif method is not None:
        while block := wire.read(_BLOCK):
            yield block


def _chunks(wire: _Wire) -> Iterator[bytes]:
    while True:
        line = wire.line()
        if not line:
            raise _Cut
        yield line
        left = int(line.split(b";")[0], 16)
        if not left:
            break
        left += 2
        while left:
            block = wire.read(min(left, _BLOCK))
            if not block:
                raise _Cut
            left -= len(block)
            yield block
    while True:
        line = wire.line()
        yield line
        if line in (b"\r\n", b"\n", b""):
            return


def _flipped(blocks: Iterator[bytes], offset: int) -> Iterator[bytes]:
    count = 0
    for block in blocks:
        at = offset - count
        count += len(block)
        if 0 <= at < len(block):
            block = block[:at] + bytes([block[at] ^ 0xFF]) + block[at + 1 :]
        yield block
