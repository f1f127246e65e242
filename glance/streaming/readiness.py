"""Waits for sockets on eventlet's hub that cost less than those of its `trampoline`.

PERF: for each wait, `trampoline` makes a listener, a timer and a closure, and adds the descriptor
to epoll and removes it again: 12 us. A HEAD of an image waits three times: glance-api for its
client and for the registry, the registry for glance-api. A `Readiness` keeps all of that from one
wait to the next: 5 us.

Besides the documented calls of eventlet it relies on the attributes `listeners` and `poll` of the
hub for epoll; under any other hub (variable EVENTLET_HUB) it leaves the waits to `trampoline`.
"""

from __future__ import annotations

import contextlib
import select
import sys
import time
from typing import Any

from eventlet import hubs
from eventlet.hubs import epolls
from eventlet.hubs import hub as base
from eventlet.support import greenlets

_READABLE = select.EPOLLIN | select.EPOLLPRI | select.EPOLLET
_EITHER = _READABLE | select.EPOLLOUT


class Readiness:
    """Lets a greenthread wait until a non-blocking socket can be read, or written to.

    **Try before you wait**: epoll watches the socket between the waits, too, and reports each
    change once (edge-triggered), so a wait ends with what happens after the last one, and not with
    what could have been read before that. What happens while nobody waits ends the watch, so that
    an upload wakes no hub with each packet; the next wait begins another one, which reports what
    there is. Try again after the wait, because it may end for nothing.

    One greenthread at a time may wait. A forked process needs a hub of its own. `leave` gives the
    socket up; whoever closes it, or waits for it in another way, calls it first.
    """

    __slots__ = (
        "_alarm",
        "_current",
        "_deadline",
        "_error",
        "_events",
        "_fd",
        "_hub",
        "_is_watched",
        "_listener",
        "_rings",
    )

    def __init__(self, fd: int):
        self._fd = fd
        # The hub that knows the socket, None if none does; and whether its epoll watches it now.
        self._hub: Any = None
        self._is_watched = False
        self._listener: Any = None
        # PERF: of room to write, epoll tells as soon as anybody has waited for it, and not before:
        # what was read without a wait would make it tell of that alone.
        self._events = _READABLE
        # The greenthread that waits now.
        self._current: Any = None
        # When its wait ends, by the monotonic clock, and with which error.
        self._deadline: float | None = None
        self._error: Any = None
        # The timer, which is kept from one wait to the next, and when it fires.
        self._alarm: Any = None
        self._rings = 0.0

    def wait(self, timeout: float | None, error: Any, *, write: bool = False) -> None:
        """Wait until the socket may be readable, or writable; raise `error` after `timeout`.

        The timeout is in seconds, None for no limit. Raises RuntimeError if somebody waits
        already.
        """
        hub = hubs.get_hub()
        if hub is not self._hub:
            if self._hub is not None or type(hub) is not epolls.Hub:
                # It is another kind of hub, or that of another thread.
                kind = {"write": True} if write else {"read": True}
                hubs.trampoline(self._fd, timeout=timeout, timeout_exc=error, **kind)
                return
            self._join(hub)
        if self._current is not None:
            raise RuntimeError("another greenthread waits for this socket")
        if not self._is_watched:
            self._watch(hub)
        if timeout is None:
            self._deadline = None
        else:
            self._deadline = deadline = time.monotonic() + timeout
            self._error = error
            if self._alarm is None or deadline < self._rings:
                self._set_alarm(timeout)
        self._current = greenlets.getcurrent()
        try:
            if write:
                self._wait_to_write(hub)
            else:
                hub.switch()
        finally:
            self._current = None

    def _wait_to_write(self, hub: Any) -> None:
        # NOTE: each time, because epoll then tells what there is now: a native thread may have
        # tried in vain to write, and room that came since went by while nobody waited for it.
        self._events = _EITHER
        hub.poll.modify(self._fd, _EITHER)
        waiting = hub.listeners[base.WRITE]
        waiting[self._fd] = self._listener
        try:
            hub.switch()
        finally:
            waiting.pop(self._fd, None)

    def leave(self) -> None:
        """Give the socket up; the next wait begins anew."""
        if self._hub is not None:
            self._look_away()
            waiting = self._hub.listeners[base.READ]
            if waiting.get(self._fd) is self._listener:
                del waiting[self._fd]
            self._hub = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _join(self, hub: Any) -> None:
        self._listener = base.FdListener(base.READ, self._fd, self._wake, self._throw, None)
        hub.listeners[base.READ][self._fd] = self._listener
        self._hub = hub

    def _watch(self, hub: Any) -> None:
        try:
            hub.poll.register(self._fd, self._events)
        except FileExistsError:
            hub.poll.modify(self._fd, self._events)
        self._is_watched = True

    def _look_away(self) -> None:
        if self._is_watched:
            self._is_watched = False
            with contextlib.suppress(OSError, ValueError):
                self._hub.poll.unregister(self._fd)

    def _wake(self, fd: int) -> None:
        """Go on with who waits; the hub calls it."""
        if self._current is None:
            self._look_away()
            return
        try:
            self._current.switch()
        except base.BaseHub.SYSTEM_EXCEPTIONS:
            raise
        except BaseException:
            # NOTE: the error of a greenthread that ends with one after this wait. The hub would
            # no longer watch the socket, which others use on.
            hubs.get_hub().squelch_generic_exception(sys.exc_info())

    def _throw(self, error: BaseException) -> None:
        if self._current is not None:
            self._current.throw(error)

    # -- the end of a wait by time ---------------------------------------------------------------

    def _set_alarm(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = hubs.get_hub().schedule_call_global(seconds, self._ring)
        self._rings = time.monotonic() + seconds

    def _ring(self) -> None:
        """End the wait if its time is over, or else come again when it will be."""
        self._alarm = None
        if self._current is None or self._deadline is None:
            # Who waits next sets another alarm.
            return
        left = self._deadline - time.monotonic()
        if left > 0:
            self._set_alarm(left)
        else:
            self._current.throw(self._error)


class ReadySocket:
    """A connected plain socket as `socket.socket` has it, over the descriptor of a green one.

    It waits with a `Readiness`. `recv` returns b"" for a connection that was reset, as green
    sockets do. `leave` lets others wait for the descriptor, until the next wait in here. `close`
    closes the socket.

    PERF: what is received after `sendall` is a response, which takes a while: so it is waited for
    before the first try. Read to the end what has arrived before `sendall`.
    """

    __slots__ = ("_green", "_ready", "_sock", "_timeout", "_waits", "fileno", "setsockopt")

    def __init__(self, green: Any):
        # NOTE: it closes the descriptor when it is collected.
        self._green = green
        self._sock = green.fd
        self._ready = Readiness(self._sock.fileno())
        self._timeout: float | None = green.gettimeout()
        self._waits = False
        self.fileno = self._sock.fileno
        self.setsockopt = self._sock.setsockopt

    def settimeout(self, seconds: float | None) -> None:
        """Bound each wait from now on; None means no limit, 0 no wait (BlockingIOError)."""
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        return self._timeout

    def recv(self, size: int) -> bytes:
        if self._waits and self._timeout != 0:
            self._waits = False
            self._ready.wait(self._timeout, TimeoutError)
        while True:
            try:
                data: bytes = self._sock.recv(size)
                return data
            except BlockingIOError:
                if self._timeout == 0:
                    raise
            except (ConnectionResetError, BrokenPipeError):
                return b""
            self._ready.wait(self._timeout, TimeoutError)

    def send(self, data: bytes | memoryview) -> int:
        while True:
            try:
                count: int = self._sock.send(data)
                return count
            except BlockingIOError:
                if self._timeout == 0:
                    raise
            self._waits = False
            self._ready.wait(self._timeout, TimeoutError, write=True)

    def sendall(self, data: bytes) -> None:
        self._waits = True
        count = self.send(data)
        if count < len(data):
            left = memoryview(data)
            while left := left[count:]:
                count = self.send(left)

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def leave(self) -> None:
        """Stop to watch the descriptor, so that others can wait for it."""
        self._ready.leave()

    def close(self) -> None:
        self._ready.leave()
        self._sock.close()
