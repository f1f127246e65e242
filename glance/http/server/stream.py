"""Bytes from and to one client's socket; waits happen in the hub and have a timeout."""

from __future__ import annotations

import _socket
import contextlib
import io
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import eventlet

from glance.streaming import hub, readiness, threads

#: Bytes moved by the hub without a wait after which other requests get their turn.
TURN = 1024 * 1024
#: The data of a client that keeps pace is moved by native threads; one leaves the client after so
#: many seconds, or when that lets it wait for so many milliseconds.
NATIVE_TURN = 0.01
PATIENCE = 2
#: Bytes after which a client counts as one that makes progress.
PROGRESS = 4096
_RECV = 64 * 1024
#: What is received at first of a large piece, in bytes; no more is held while the client pauses.
_FIRST = 256 * 1024


class ClientGone(Exception):
    """The client closed the connection or no longer reads; no response can reach it.

    `unsent` is how many bytes of the data that was being sent are left.
    """

    unsent = 0


class SocketStream:
    """A non-blocking socket with a buffer for bytes that were received early.

    `timeout` (seconds; None means no limit) bounds each wait for the client. Reading raises
    TimeoutError when it expires; a closed or broken connection reads as the end of input, b"".
    Sending raises ClientGone in either case. `waits` counts the waits, in which other greenthreads
    run. `waiting` is 0.0 if the client is not waited for now; otherwise it is when the wait began,
    by the monotonic clock, or as much earlier as was waited before with less than `PROGRESS` bytes
    moved: a client that sends a byte now and then is no quicker than one that sends none.
    """

    __slots__ = (
        "_is_native",
        "_keeps_pace",
        "_moved",
        "_progress",
        "_ready",
        "_tls",
        "_waited",
        "fd",
        "pending",
        "sock",
        "timeout",
        "waiting",
        "waits",
    )

    def __init__(self, sock: Any, timeout: float | None):
        self.sock = sock
        self.fd: int = sock.fileno()
        self.timeout = timeout
        self.pending = b""
        # NOTE: not isinstance: eventlet keeps an unpatched ssl module with classes of its own.
        self._tls = hasattr(sock, "do_handshake")
        self._ready = readiness.Readiness(self.fd)
        self._moved = 0
        self._is_native = False
        # Whether the client had sent all of the last large piece before it was wanted.
        self._keeps_pace = False
        self.waits = 0
        self.waiting = 0.0
        # Bytes moved since the waits were forgotten, and the seconds of all waits since then.
        self._progress = 0
        self._waited = 0.0

    @property
    def is_plain(self) -> bool:
        """Return whether bytes are sent as they are (no TLS)."""
        return not self._tls

    # -- waiting ---------------------------------------------------------------------------------

    def wait_readable(self, timeout: float | None) -> None:
        if self._is_native:
            if not hub.is_readable(self.fd, PATIENCE):
                raise TimeoutError
            return
        started = self._begin_wait()
        try:
            self._ready.wait(timeout, TimeoutError)
        finally:
            self._end_wait(started)

    def wait_writable(self) -> None:
        if self._is_native:
            if not hub.is_writable(self.fd, PATIENCE):
                raise TimeoutError
            return
        started = self._begin_wait()
        try:
            self._ready.wait(self.timeout, ClientGone, write=True)
        finally:
            self._end_wait(started)

    def _begin_wait(self) -> float:
        self.waits += 1
        self._progress += self._moved
        self._moved = 0
        if self._progress >= PROGRESS:
            self.forget_waits()
        started = time.monotonic()
        # As if all waits without progress were this one.
        self.waiting = started - self._waited
        return started

    def _end_wait(self, started: float) -> None:
        self._waited += time.monotonic() - started
        self.waiting = 0.0

    def forget_waits(self) -> None:
        """Take the client for one that has not been waited for yet."""
        self._progress = 0
        self._waited = 0.0

    def moved(self, count: int) -> None:
        """Count `count` bytes as moved; let others run after many bytes without a wait.

        NOTE: a fast peer keeps its socket ready all the time, so its greenthread never waits.
        """
        self._moved += count
        if self._moved >= TURN and not self._is_native:
            self.rest()

    def moved_natively(self, count: int) -> None:
        """Count bytes that a native thread has moved, while others had their turn."""
        self._progress += count
        if count >= PROGRESS:
            self.forget_waits()

    def rest(self) -> None:
        """Let the other greenthreads run, as those of other fast clients do."""
        if not self._is_native:
            self.forget_waits()
            self._moved = 0
            eventlet.sleep(0)

    def handshake(self, timeout: float) -> None:
        """Perform the TLS handshake; do nothing for a plain socket. Raises OSError."""
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

        Does not read from `pending`. `timeout` replaces the stream's own.
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

    def recv_into(self, view: memoryview) -> int:
        """Receive at most as many bytes as fit, as soon as there are any; 0 at the end."""
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
                # A small body, part of which arrived with its head.
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
        return self._read_on(pending, size)

    def read_some(self, size: int, pause: float) -> bytes:
        """Return `size` bytes, fewer if the client ends or takes longer than `pause` seconds.

        The seconds count from the first byte on; the wait for it has the stream's own timeout.
        b"" only at the end of input. It is a read for large pieces: no memory is held during the
        wait for the first byte.
        """
        first = self.pending[:size]
        self.pending = self.pending[size:]
        if not first and self._keeps_pace:
            # PERF: what has arrived as a whole is received into memory that nobody has cleared.
            first = threads.run_big(self._recv_natively, size)
            self.moved_natively(len(first))
            self._keeps_pace = bool(first)
        first = first or self.recv(min(size, _FIRST))
        if len(first) == size or not first:
            return first
        return self.gather(first, size, pause, self.recv_into)

    def gather(
        self, first: bytes, size: int, pause: float, fill: Callable[[memoryview], int]
    ) -> bytes:
        """Return `size` bytes that begin with `first`, fewer as in `read_some`.

        `fill` receives some of them into a view and returns how many, 0 at the end. While the
        client keeps pace, a native thread calls it, and the hub is free for other requests.
        """
        # PERF: BytesIO returns its buffer without a copy; joining received pieces costs one.
        target = io.BytesIO(bytes(size))
        filled, waits, is_ended = len(first), self.waits, False
        with target.getbuffer() as view:
            view[:filled] = first
            if self._keeps_pace:
                filled, is_ended = threads.run_big(self._fill_natively, view, filled, fill)
                self.moved_natively(filled)
            if not is_ended:
                with self.impatience(pause):
                    filled, _ = _fill(view, filled, fill, pause)
        self._keeps_pace = filled == size and waits == self.waits
        if filled < size:
            target.truncate(filled)
        return target.getvalue()

    def _recv_natively(self, size: int) -> bytes:
        """Return what has arrived, at most `size` bytes; b"" as well if the client has paused."""
        self._is_native = True
        try:
            return self.recv(size)
        except TimeoutError:
            return b""
        finally:
            self._is_native = False

    def _fill_natively(
        self, view: memoryview, filled: int, fill: Callable[[memoryview], int]
    ) -> tuple[int, bool]:
        """Do as `_fill` while the client keeps pace; blocks, but not for long."""
        self._is_native = True
        try:
            return _fill(view, filled, fill, NATIVE_TURN)
        finally:
            self._is_native = False

    @contextlib.contextmanager
    def impatience(self, pause: float) -> Iterator[None]:
        """Wait for the client no longer than `pause` seconds at a time inside the block."""
        timeout = self.timeout
        self.timeout = pause if timeout is None else min(pause, timeout)
        try:
            yield
        finally:
            self.timeout = timeout

    def _read_on(self, first: bytes, size: int) -> bytes:
        """Return `size` bytes that begin with `first`, fewer only if the client ends before."""
        target = io.BytesIO(bytes(size))
        filled = len(first)
        with target.getbuffer() as view:
            view[:filled] = first
            while filled < size:
                with view[filled:] as rest:
                    count = self.recv_into(rest)
                if not count:
                    break
                filled += count
        if filled < size:
            target.truncate(filled)
        return target.getvalue()

    # -- writing ---------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview, *, more: bool = False) -> None:
        """Send all of `data`. With `more`, hold back a last small packet: more data follows."""
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

    def offer(self, data: bytes) -> None:
        """Send what the kernel takes of `data` at once, and end the sending; never raises."""
        try:
            self.sock.send(data)
            _socket.socket.shutdown(self.sock, socket.SHUT_WR)
        except OSError:
            # The client has gone, or reads nothing.
            pass

    def _wait_to_send(self, size: int) -> None:
        try:
            self.wait_writable()
        except ClientGone as gone:
            gone.unsent = size
            raise

    # -- the end ---------------------------------------------------------------------------------

    def linger(self, idle: float, total: float, budget: int) -> None:
        """Half-close so that a client that is still sending can read what was sent to it.

        Closing a socket with unread bytes in it resets the connection, and the response is lost on
        the way. So this ends the sending direction, then discards what arrives, for at most `idle`
        seconds without a byte, `total` seconds or `budget` bytes. The caller closes.
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
        """Wake all waiters on the socket with an end of input; never raises."""
        try:
            # NOTE: not the TLS socket's own method, which would drop the state that a greenthread
            # inside it still uses.
            _socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        except OSError:
            # Already disconnected.
            pass

    def reset_on_close(self) -> None:
        """Make `close` reset the connection visibly instead of ending it in an orderly way."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        self._ready.leave()
        try:
            self.sock.close()
        except OSError:
            # A reset may be reported here; the descriptor is closed in any case.
            pass


def _fill(
    view: memoryview, filled: int, fill: Callable[[memoryview], int], seconds: float
) -> tuple[int, bool]:
    """Have `fill` fill `view` from `filled` on, for about so long or until a wait times out.

    Returns how far it is filled, and whether the input has ended.
    """
    until = time.monotonic() + seconds
    with contextlib.suppress(TimeoutError):
        while filled < len(view) and time.monotonic() < until:
            with view[filled:] as rest:
                count = fill(rest)
            if not count:
                return filled, True
            filled += count
    return filled, False
