"""The event loop, if there is one: whether it runs, and how to wait, lock and wake beside it.

Everything here works the same in a plain process (command line, tests), where nothing of eventlet
is ever imported: the module looks whether the program has patched itself and never patches
anything. What does not belong here: which work runs where (`threads`, `tasks`, `fanout`).
"""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from glance.common import exception

#: Seconds between two looks of a waiter that has no descriptor to wait for.
LOOK_AGAIN = 0.005

_patched = False
# What marks the native threads of this process, once it has some.
_worker_mark: Any = None


def is_green() -> bool:
    """Return whether this process runs on eventlet's hub (its sockets have been patched)."""
    global _patched
    if not _patched:
        patcher = sys.modules.get("eventlet.patcher")
        _patched = bool(patcher and patcher.is_monkey_patched("socket"))
    return _patched


@functools.cache
def _eventlet(name: str) -> Any:
    return importlib.import_module(f"eventlet.{name}" if name else "eventlet")


def native(module: Any) -> Any:
    """Return `threading`, `queue`, `socket` ... as they are without eventlet's patches."""
    return _eventlet("patcher").original(module.__name__) if is_green() else module


def ready_socket(sock: Any) -> Any:
    """Return what to use in place of a connected plain socket (PERF), the same without a hub."""
    if not (is_green() and hasattr(sock, "act_non_blocking")):
        return sock
    return importlib.import_module("glance.streaming.readiness").ReadySocket(sock)


def native_lock() -> Any:
    """Return a lock between native threads; hold it for short work that needs no event loop."""
    return native(threading).Lock()


def lock() -> Any:
    """Return a mutual exclusion lock between greenthreads, or between threads elsewhere.

    A context manager with `acquire` and `release`. Make it after the process has been patched.
    """
    return _eventlet("semaphore").Semaphore(1) if is_green() else threading.Lock()


def is_awaited(held: Any) -> bool:
    """Return whether greenthreads wait for a lock that `lock` has made, and the caller holds."""
    return is_green() and held.balance < 0


class Gate:
    """Closed until somebody opens it, once; greenthreads wait before it. Threads elsewhere."""

    def __init__(self) -> None:
        self._event: Any = _eventlet("event").Event() if is_green() else threading.Event()

    def open(self) -> None:
        if is_green():
            self._event.send()
        else:
            self._event.set()

    def wait(self) -> None:
        """Wait until it is open; return at once if it is."""
        self._event.wait()


class NamedLocks:
    """Mutual exclusion by name, within this process; names that nobody holds cost nothing."""

    def __init__(self) -> None:
        self._guard = native_lock()
        self._locks: dict[str, tuple[Any, int]] = {}

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Wait until nobody else holds `name`, and hold it for the block."""
        with self._guard:
            held, users = self._locks.get(name) or (lock(), 0)
            self._locks[name] = held, users + 1
        try:
            with held:
                yield
        finally:
            with self._guard:
                held, users = self._locks.pop(name)
                if users > 1:
                    self._locks[name] = held, users - 1


def sleep(seconds: float) -> None:
    """Wait, letting others run; a job of `threads.run` just waits."""
    if may_switch():
        _eventlet("").sleep(seconds)
    else:
        native(time).sleep(seconds)


@contextlib.contextmanager
def deadline(seconds: float | None, message: str = "timed out") -> Iterator[None]:
    """Raise TimeoutError in the block after `seconds` (None: never).

    Works under eventlet only, by interrupting waits of the hub; elsewhere the block's own
    time-outs have to do.
    """
    if seconds is None or not is_green():
        yield
        return
    with _eventlet("timeout").Timeout(seconds, TimeoutError(message)):
        yield


class Watch:
    """Raises TimeoutError in greenthreads whose block takes `seconds`, or up to a quarter longer.

    `begin` returns what `end` takes at the end of the block, whatever happens in it. Like
    `deadline`, it works under eventlet only.

    PERF: for blocks that are many, short, and late only if something is broken: 1 us for each,
    where a timer of the hub takes 10.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._blocks: dict[object, tuple[float, Any]] = {}
        self._used = self._is_watching = False

    def begin(self) -> object:
        """Note that the block of the current greenthread begins."""
        token = object()
        if is_green():
            self._blocks[token] = time.monotonic(), current()
            self._used = True
            if not self._is_watching:
                self._is_watching = True
                start(self._look)
        return token

    def end(self, token: object) -> None:
        """Note that a block has ended."""
        self._blocks.pop(token, None)

    def _look(self) -> None:
        hub = _eventlet("hubs").get_hub()
        while self._blocks or self._used:
            self._used = False
            sleep(self.seconds / 4)
            limit = time.monotonic() - self.seconds
            for token, (begun, _) in list(self._blocks.items()):
                if begun <= limit:
                    # NOTE: as a timer does: only the hub may interrupt another greenthread.
                    hub.schedule_call_global(0, self._interrupt, token)
        self._is_watching = False

    def _interrupt(self, token: object) -> None:
        found = self._blocks.pop(token, None)
        if found is not None:
            found[1].throw(TimeoutError("timed out"))


class Interruptible:
    """A block of one greenthread that others can interrupt; enter it once.

    Works under eventlet only; elsewhere the block has to look for itself whether to end.
    """

    def __init__(self) -> None:
        self._inside: tuple[Any, Any] | None = None

    def __enter__(self) -> None:
        if is_green():
            self._inside = _eventlet("hubs").get_hub(), current()

    def __exit__(self, *exc_info: object) -> None:
        self._inside = None

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` in the block if it is not over; returns before that, and never waits.

        A block that waits for a native thread goes on until that has done its work.
        """
        inside = self._inside
        if inside is not None:
            # NOTE: as `Watch` does: only the hub may interrupt another greenthread.
            inside[0].schedule_call_global(0, self._throw, error)

    def _throw(self, error: BaseException) -> None:
        if self._inside is not None:
            self._inside[1].throw(error)


def start(work: Callable[[], None]) -> Callable[[float | None], bool]:
    """Start `work`, which never raises, in a greenthread, or in a daemon thread elsewhere.

    Returns a function that waits for its end, or for some seconds, and says whether it has ended.
    """
    if not is_green():
        thread = threading.Thread(target=work, daemon=True)
        thread.start()

        def join(seconds: float | None) -> bool:
            thread.join(seconds)
            return not thread.is_alive()

        return join
    green = _eventlet("").spawn(work)

    def wait(seconds: float | None) -> bool:
        ended = False
        with _eventlet("timeout").Timeout(seconds, False):
            green.wait()
            ended = True
        return ended

    return wait


@functools.cache
def _selecting(green: bool) -> Any:
    # PERF: to find the module anew takes longer than the call.
    return native(select)


def is_readable(fd: int, milliseconds: int = 0) -> bool:
    """Return whether a descriptor has something to read, or its end, before that time is over.

    Stops the hub if it runs in this thread.
    """
    return bool(_poll(fd, milliseconds))


def is_writable(fd: int, milliseconds: int) -> bool:
    """Return whether a descriptor takes bytes before that time is over; blocks as the former."""
    return bool(_poll(fd, milliseconds, write=True))


def wait_for(fd: int, *, write: bool = False, at_once: int = 0) -> None:
    """Wait until a descriptor is readable, or with `write` writable, letting others run.

    The first `at_once` milliseconds stop the hub, which is cheaper if they are enough.
    """
    if at_once and _poll(fd, at_once, write=write):
        return
    if may_switch():
        _eventlet("hubs").trampoline(fd, read=not write, write=write)
    else:
        _poll(fd, None, write=write)


def _poll(fd: int, timeout: int | None, *, write: bool = False) -> list[tuple[int, int]]:
    native_select = _selecting(is_green())
    poll = native_select.poll()
    poll.register(fd, native_select.POLLOUT if write else native_select.POLLIN)
    found: list[tuple[int, int]] = poll.poll(timeout)
    return found


def worker_mark() -> Any:
    """Return a thread-local object; a native thread that sets its `worker` never uses the hub."""
    global _worker_mark
    if _worker_mark is None:
        _worker_mark = native(threading).local()
    return _worker_mark


def may_wait() -> bool:
    """Return whether the caller may wait for others: not so in a finalizer that the hub runs."""
    return not is_green() or may_switch()


def may_switch() -> bool:
    """Return whether the caller is a greenthread that may wait through the hub."""
    if not is_green() or hasattr(_worker_mark, "worker"):
        return False
    # NOTE: garbage collection can run a finalizer inside the hub itself, which must never wait.
    return _eventlet("hubs").get_hub().greenlet is not current()


def current() -> Any:
    """Return the greenthread that runs now; only under eventlet."""
    return sys.modules["greenlet"].getcurrent()


class Bell:
    """A descriptor by which native threads wake one waiter.

    Rings are counted, so none is lost between a look and a wait. When the process may open no more
    descriptors, the waiter looks again and again instead: what cleans up must not need one.
    """

    def __init__(self) -> None:
        self._rung = False
        try:
            self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as err:
            if err.errno not in exception.OUT_OF_DESCRIPTORS:
                raise
            self._fd = -1

    def ring(self) -> None:
        if self._fd < 0:
            self._rung = True
        else:
            os.eventfd_write(self._fd, 1)

    def heard(self) -> bool:
        """Take all rings; return whether there were any."""
        if self._fd < 0:
            # NOTE: who rings has done its work before, so a ring between the two is not missed.
            rung, self._rung = self._rung, False
            return rung
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return False
        return True

    def wait(self) -> None:
        """Wait until it rings (or has rung); without a descriptor, for a moment."""
        if self._fd < 0:
            sleep(LOOK_AGAIN)
        elif may_switch():
            _eventlet("hubs").trampoline(self._fd, read=True)
        else:
            self.wait_natively()

    def wait_natively(self) -> None:
        """Wait, stopping the hub if there is one."""
        if self._fd < 0:
            native(time).sleep(LOOK_AGAIN)
        else:
            _poll(self._fd, None)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class _Waker:
    """One descriptor by which native threads wake any number of greenthreads of one event loop.

    It stays registered with the loop as long as that exists.
    """

    _fd = -1

    def __init__(self, loop: Any):
        self.loop = loop
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._rung: collections.deque[_CallBell] = collections.deque()
        self._is_awake = False
        loop.add(loop.READ, self._fd, self._wake, self._wake, lambda: None)

    def ring(self, bell: _CallBell) -> None:
        self._rung.append(bell)
        # NOTE: the loop takes the mark away before it looks at what has rung, so none is lost.
        if not self._is_awake:
            self._is_awake = True
            os.eventfd_write(self._fd, 1)

    def _wake(self, *_: object) -> None:
        """Let each go on whose bell has rung; the loop calls this."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        self._is_awake = False
        try:
            while self._rung:
                bell = self._rung.popleft()
                try:
                    bell.resume()
                except self.loop.SYSTEM_EXCEPTIONS:
                    raise
                except BaseException:
                    # NOTE: a greenthread has ended with an error. If that left this function, the
                    # loop would no longer listen to the descriptor.
                    self.loop.squelch_generic_exception(sys.exc_info())
        finally:
            if self._rung:
                os.eventfd_write(self._fd, 1)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


_waker: _Waker | None = None


class _CallBell(Bell):
    """A bell without a descriptor of its own, for a greenthread that waits once."""

    def __init__(self, waker: _Waker) -> None:
        self._waker = waker
        self._rung = False
        self._waiter: Any = None

    def ring(self) -> None:
        self._rung = True
        self._waker.ring(self)

    def heard(self) -> bool:
        rung, self._rung = self._rung, False
        return rung

    def wait(self) -> None:
        if self._rung:
            return
        self._waiter = current()
        try:
            self._waker.loop.switch()
        finally:
            self._waiter = None

    def resume(self) -> None:
        """Let the one go on who waits, if anybody does."""
        if self._waiter is not None:
            self._waiter.switch()

    def wait_natively(self) -> None:
        if not self._rung:
            native(time).sleep(LOOK_AGAIN)

    def close(self) -> None:
        return


def call_bell() -> Bell:
    """Return a bell for one call in a native thread, whose caller, a greenthread, waits for it.

    PERF: all of these share one descriptor, which the loop waits for all the time. With one for
    each call, six system calls more take 20 us, and longer while native threads run: after each
    the loop has to wait for the lock of the interpreter.
    """
    global _waker
    loop = _eventlet("hubs").get_hub()
    if _waker is None or _waker.loop is not loop:
        try:
            _waker = _Waker(loop)
        except OSError as err:
            if err.errno not in exception.OUT_OF_DESCRIPTORS:
                raise
            return Bell()
    return _CallBell(_waker)


def wait_uninterruptibly(step: Callable[[], bool], bell: Bell) -> BaseException | None:
    """Wait until `step` is true whatever is thrown in; return the first thing thrown.

    SECURITY: a killed greenthread must not go on to close descriptors that a native thread uses.
    """
    thrown: list[BaseException] = []
    while not step():
        try:
            # NOTE: who is thrown at again and again (a hub going down) must not spin here.
            bell.wait() if len(thrown) < 2 else bell.wait_natively()
        except BaseException as err:
            thrown.append(err)
    return thrown[0] if thrown else None
