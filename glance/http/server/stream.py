"""Bytes from and to one client's socket: waits happen in the hub and have a time limit."""

from __future__ import annotations

import _socket
import io
import socket
import ssl
import struct
import time
from typing import Any

import eventlet
from eventlet import hubs

#: Bytes moved without a wait after which other requests get their turn.
TURN = 1024 * 1024
_RECV = 64 * 1024


class ClientGone(Exception):
    """The client closed the connection or takes nothing any more; there is no one to answer.

    `unsent` is what is left, in bytes, of the data that was being sent.
    """

    unsent = 0


class SocketStream:
    """A non-blocking socket with a buffer for bytes that were received too early.

    `timeout` (seconds, None: for ever) limits each wait for the client. Reading raises
    TimeoutError then; a connection that was closed or broke reads as its end, b"". Sending raises
    ClientGone for either.
    """

    __slots__ = ("_moved", "_tls", "fd", "pending", "sock", "timeout")

    def __init__(self, sock: Any, timeout: float | None):
        self.sock = sock
        self.fd: int = sock.fileno()
        self.timeout = timeout
        self.pending = b""
        # NOTE: not isinstance: eventlet keeps an unpatched ssl module with classes of its own.
        self._tls = hasattr(sock, "do_handshake")
        self._moved = 0

    @property
    def is_plain(self) -> bool:
        """Return whether bytes go out as they are (no TLS)."""
        return not self._tls

    # -- waiting ---------------------------------------------------------------------------------

    def wait_readable(self, timeout: float | None) -> None:
        self._moved = 0
        hubs.trampoline(self.fd, read=True, timeout=timeout, timeout_exc=TimeoutError)

    def wait_writable(self) -> None:
        self._moved = 0
        hubs.trampoline(self.fd, write=True, timeout=self.timeout, timeout_exc=ClientGone)

    def moved(self, count: int) -> None:
        """Note that `count` bytes were moved; lets others run when it was a lot without a wait.

        NOTE: a fast peer keeps its socket ready all the time, so its greenthread never waits.
        """
        self._moved += count
        if self._moved > TURN:
            self.rest()

    def rest(self) -> None:
        """Let the other greenthreads run."""
        self._moved = 0
        eventlet.sleep(0)

    def handshake(self, timeout: float) -> None:
        """Do the TLS handshake; nothing for a plain socket. Raises OSError."""
        if not self._tls:
            return
        while True:
            try:
                self.sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                self.wait_readable(timeout)
            except ssl.SSLWantWriteError:
                self.wait_writable()

    # -- reading ---------------------------------------------------------------------------------

    def recv(self, size: int, timeout: float | None = -1) -> bytes:
        """Return at most `size` bytes from the socket as soon as there are any; b"" at the end.

        Does not look at `pending`. `timeout` replaces the stream's own.
        """
        while True:
            try:
                data: bytes = self.sock.recv(size)
            except (BlockingIOError, ssl.SSLWantReadError):
                self.wait_readable(self.timeout if timeout == -1 else timeout)
            except ssl.SSLWantWriteError:
                self.wait_writable()
            except OSError:
                return b""
            else:
                self.moved(len(data))
                return data

    def _recv_into(self, view: memoryview) -> int:
        while True:
            try:
                count: int = self.sock.recv_into(view)
            except (BlockingIOError, ssl.SSLWantReadError):
                self.wait_readable(self.timeout)
            except ssl.SSLWantWriteError:
                self.wait_writable()
            except OSError:
                return 0
            else:
                self.moved(count)
                return count

    def read_exactly(self, size: int) -> bytes:
        """Return `size` bytes, fewer only if the client ends before."""
        pending = self.pending
        if pending:
            if len(pending) >= size:
                self.pending = pending[size:]
                return pending[:size]
            self.pending = b""
            if size <= _RECV:
                # A small body of which a part came along with its head.
                while len(pending) < size:
                    data = self.recv(size - len(pending))
                    if not data:
                        break
                    pending += data
                return pending
        else:
            first = self.recv(size)
            if len(first) == size or not first:
                return first
            pending = first
        # PERF: BytesIO gives its buffer away without a copy; joining received pieces costs one.
        target = io.BytesIO(bytes(size))
        filled = len(pending)
        with target.getbuffer() as view:
            view[:filled] = pending
            while filled < size:
                with view[filled:] as rest:
                    count = self._recv_into(rest)
                if not count:
                    break
                filled += count
        if filled < size:
            target.truncate(filled)
        return target.getvalue()

    def more(self, size: int = _RECV) -> bool:
        """Receive up to `size` bytes into `pending`; False at the end of input."""
        data = self.recv(size)
        self.pending = self.pending + data if self.pending else data
        return bool(data)

    # -- writing ---------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview, *, more: bool = False) -> None:
        """Send all of `data`. `more`: hold back a last small packet, for more follows at once."""
        flags = socket.MSG_MORE if more and not self._tls else 0
        left: bytes | memoryview = data
        while True:
            try:
                count = self.sock.send(left, flags)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait_to_send(len(left))
                continue
            except ssl.SSLWantReadError:
                self.wait_readable(self.timeout)
                continue
            except OSError as err:
                gone = ClientGone()
                gone.unsent = len(left)
                raise gone from err
            self.moved(count)
            if count == len(left):
                return
            left = memoryview(left)[count:]

    def _wait_to_send(self, size: int) -> None:
        try:
            self.wait_writable()
        except ClientGone as gone:
            gone.unsent = size
            raise

    # -- the end ---------------------------------------------------------------------------------

    def linger(self, idle: float, total: float, budget: int) -> None:
        """Close so that the client can still read what was sent while it is sending itself.

        A socket closed with unread bytes in it resets the connection, and the answer is lost on
        the way. So: end our direction, then throw away what comes, for `idle` seconds without a
        byte, `total` seconds or `budget` bytes at most. The caller closes.
        """
        try:
            _socket.socket.shutdown(self.sock, socket.SHUT_WR)
        except OSError:
            return
        deadline = time.monotonic() + total
        while budget > 0:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            try:
                data = self.recv(_RECV, min(idle, left))
            except TimeoutError:
                return
            if not data:
                return
            budget -= len(data)

    def cut(self) -> None:
        """Wake whoever waits on the socket with an end of input; never raises."""
        try:
            # NOTE: not the TLS socket's own method, which would take its state from under a
            # greenthread that is inside of it.
            _socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        except OSError:
            # Already disconnected.
            pass

    def reset_on_close(self) -> None:
        """Make `close` break the connection visibly instead of ending it in good order."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        try:
            self.sock.close()
        except OSError:
            # A reset may be reported here; the descriptor is gone all the same.
            pass
