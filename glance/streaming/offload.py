"""Blocking work beside an event loop: in native threads under eventlet, inline elsewhere.

Who hashes, syncs or opens files calls `run`; who streams big bodies uses `Fanout`; who needs to
wait, lock or start a background task uses `sleep`, `deadline`, `lock`, `spawn`. All of them work
the same in a plain process (command line, tests), where nothing of eventlet is ever imported: the
module looks whether the program has patched itself and never patches anything.

Functions handed to `run` and `Fanout` must not touch sockets or locks of the event loop. What does
not belong here: knowledge of files, images or requests.

NOTE: eventlet's own tpool is not used because a killed greenthread leaves its tpool job running:
its caller then closes a descriptor that a thread still writes to. Here a caller never returns
before its job has ended.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import logging
import os
import posix
import queue
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

LOG = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 32
_LANE_TURN = 8

_patched = False


def is_green() -> bool:
    """Return whether this process runs on eventlet's hub (its sockets have been patched)."""
    global _patched
    if not _patched:
        patcher = sys.modules.get("eventlet.patcher")
        _patched = bool(patcher and patcher.is_monkey_patched("socket"))
    return _patched


def _eventlet(name: str) -> Any:
    return importlib.import_module(f"eventlet.{name}" if name else "eventlet")


def _native(module: Any) -> Any:
    """Return `threading`, `queue`, `socket` ... as they are without eventlet's patches."""
    return _eventlet("patcher").original(module.__name__) if is_green() else module


def native_lock() -> Any:
    """Return a lock between native threads; hold it for short work that needs no event loop."""
    return _native(threading).Lock()


def lock() -> Any:
    """Return a mutual exclusion lock between greenthreads, or between threads elsewhere.

    A context manager with `acquire` and `release`. Make it after the process has been patched.
    """
    return _eventlet("semaphore").Semaphore(1) if is_green() else threading.Lock()


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
    """Wait, letting others run; a job of `run` just waits."""
    if _may_switch():
        _eventlet("").sleep(seconds)
    else:
        _native(time).sleep(seconds)


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


class Task:
    """A piece of work in the background."""

    def __init__(self, join: Callable[[float | None], bool]):
        self._join = join

    def join(self, seconds: float | None = None) -> bool:
        """Wait until the work has ended, or for some seconds; return whether it has ended.

        Its errors were logged and are not raised.
        """
        return self._join(seconds)


def spawn(fn: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Task:
    """Start `fn` in a greenthread, or in a daemon thread elsewhere. An error of it is logged."""

    def work() -> None:
        try:
            fn(*args, **kwargs)
        except Exception:
            # A background task has no caller to tell: the log is its only border.
            LOG.exception("Background task %s failed", getattr(fn, "__qualname__", fn))

    if is_green():
        green = _eventlet("").spawn(work)

        def wait(seconds: float | None) -> bool:
            ended = False
            with _eventlet("timeout").Timeout(seconds, False):
                green.wait()
                ended = True
            return ended

        return Task(wait)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def join(seconds: float | None) -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    return Task(join)


def getaddrinfo(host: str, port: int, **kwargs: Any) -> list[Any]:
    """Resolve by the system's resolver (not eventlet's), without stopping the hub."""
    import socket

    return run(_native(socket).getaddrinfo, host, port, **kwargs)


def open_fd(path: str, flags: int, mode: int = 0o777) -> int:
    """Open a file like `os.open`, in a native thread too.

    NOTE: eventlet's `os.open` would make a hub, with descriptors of its own, for every thread.
    """
    return posix.open(path, flags, mode)


def is_readable(fd: int) -> bool:
    """Return whether there is something to read from a descriptor, or its end, without waiting."""
    return bool(_poll(fd, 0))


def _poll(fd: int, timeout: int | None) -> list[tuple[int, int]]:
    native_select = _native(select)
    poll = native_select.poll()
    poll.register(fd, native_select.POLLIN)
    found: list[tuple[int, int]] = poll.poll(timeout)
    return found


# -- native threads ------------------------------------------------------------------------------


class _Pool:
    """Daemon threads, started when needed, that run jobs which never raise."""

    def __init__(self) -> None:
        self._threading = _native(threading)
        self._jobs = _native(queue).SimpleQueue()
        self._lock = self._threading.Lock()
        self._local = self._threading.local()
        self._threads = 0
        self._unfinished = 0

    def submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            self._unfinished += 1
            start = self._unfinished > self._threads and self._threads < MAX_THREADS
            self._threads += start
        if start:
            try:
                self._threading.Thread(target=self._work, name="offload", daemon=True).start()
            except RuntimeError:
                # NOTE: the host has no room for another thread; those that run will do the job.
                with self._lock:
                    self._threads -= 1
                    if not self._threads:
                        self._unfinished -= 1
                        raise
        self._jobs.put(job)

    def is_worker(self) -> bool:
        return hasattr(self._local, "worker")

    def _work(self) -> None:
        self._local.worker = True
        while True:
            job = self._jobs.get()
            job()
            # NOTE: an idle thread must not keep the last job's chunk alive.
            job = None
            with self._lock:
                self._unfinished -= 1


_pool: _Pool | None = None


def _get_pool() -> _Pool:
    global _pool
    if _pool is None:
        _pool = _Pool()
    return _pool


def _forget_pool() -> None:
    """Threads do not cross a fork: the child makes its own."""
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_pool)


def may_wait() -> bool:
    """Return whether the caller may wait for others: not so in a finalizer that the hub runs."""
    return not is_green() or _may_switch()


def _may_switch() -> bool:
    """Return whether the caller is a greenthread that may wait through the hub."""
    if not is_green() or (_pool is not None and _pool.is_worker()):
        return False
    # NOTE: garbage collection can run a finalizer inside the hub itself, which must never wait.
    return _eventlet("hubs").get_hub().greenlet is not _current_greenlet()


def _current_greenlet() -> Any:
    return sys.modules["greenlet"].getcurrent()


class _Bell:
    """A descriptor by which native threads wake one waiter.

    Rings are counted, so none is lost between a look and a wait.
    """

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        os.eventfd_write(self._fd, 1)

    def heard(self) -> bool:
        """Take all rings; return whether there were any."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return False
        return True

    def wait(self) -> None:
        """Wait until it rings (or has rung)."""
        if _may_switch():
            _eventlet("hubs").trampoline(self._fd, read=True)
        else:
            self.wait_natively()

    def wait_natively(self) -> None:
        """Wait, stopping the hub if there is one."""
        _poll(self._fd, None)

    def close(self) -> None:
        os.close(self._fd)


def wait_uninterruptibly(step: Callable[[], bool], bell: _Bell) -> BaseException | None:
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


class _Call(Generic[T]):
    """One function call on its way through a native thread."""

    def __init__(self, fn: Callable[[], T]):
        self.fn = fn
        self.value: T
        self.error: BaseException | None = None
        self.bell = _Bell()

    def __call__(self) -> None:
        try:
            self.value = self.fn()
        except BaseException as err:
            # Whatever it is belongs to the waiting caller, not to this thread.
            self.error = err
        self.bell.ring()


def run(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `fn(*args)`, worked out in a native thread under eventlet and inline elsewhere.

    Returns (or raises) only after `fn` has ended, even if the calling greenthread is killed or its
    time-out fires meanwhile: that exception is raised then, and the result dropped.
    """
    if not _may_switch():
        return fn(*args, **kwargs)
    call = _Call(lambda: fn(*args, **kwargs))
    try:
        _get_pool().submit(call)
        # NOTE: the ring is the thread's last act on the descriptor, so it may be closed then.
        thrown = wait_uninterruptibly(call.bell.heard, call.bell)
    finally:
        call.bell.close()
    try:
        if thrown is not None:
            raise thrown
        if call.error is not None:
            raise call.error
        return call.value
    finally:
        # NOTE: the traceback of the error holds this frame; without this they keep each other.
        call.error = thrown = None


class _Lane:
    """The items of one consumer, worked off in order; occupies a thread only while it has some."""

    def __init__(self, fanout: Fanout, consume: Callable[[bytes], Any]):
        self._fanout = fanout
        self._consume = consume
        self._items: collections.deque[bytes] = collections.deque()
        self._lock = native_lock()
        self._active = False
        self.done = 0

    def put(self, item: bytes) -> None:
        self._items.append(item)
        with self._lock:
            if self._active:
                return
            self._active = True
        _get_pool().submit(self._drain)

    @property
    def active(self) -> bool:
        with self._lock:
            return self._active

    def _drain(self) -> None:
        for _ in range(_LANE_TURN):
            with self._lock:
                if not self._items:
                    self._active = False
                    # NOTE: inside the lock: who sees the lane at rest may close the bell.
                    self._fanout.bell.ring()
                    return
                item = self._items.popleft()
            self._handle(item)
            del item
            self.done += 1
            self._fanout.bell.ring()
        # Give the thread to a lane of another upload before going on.
        _get_pool().submit(self._drain)

    def _handle(self, item: bytes) -> None:
        if self._fanout.error is not None or self._fanout.closed:
            return
        try:
            self._consume(item)
        except BaseException as err:
            # It is the feeding thread's error; `put` and `join` raise it there.
            self._fanout.error = self._fanout.error or err


class Fanout:
    """Hands each item to several consumers, which work in native threads at the same time.

    Every consumer sees the items in order, one at a time. At most `depth` items are in flight:
    `put` waits (cooperatively) for the slowest consumer. Use it as a context manager: on leaving,
    no consumer is running any more. The feeder must be one greenthread (or thread).
    """

    def __init__(self, consumers: Sequence[Callable[[bytes], Any]], depth: int = 4):
        self.error: BaseException | None = None
        self.closed = False
        self.bell = _Bell()
        self._depth = depth
        self._put = 0
        self._lanes = [_Lane(self, consume) for consume in consumers]

    def put(self, item: bytes) -> None:
        """Pass `item` on; raises the first error of any consumer."""
        self._wait_below(self._depth)
        self._put += 1
        for lane in self._lanes:
            lane.put(item)

    def join(self) -> None:
        """Wait until all items have been consumed; raises the first error of any consumer."""
        self._wait_below(1)

    def _wait_below(self, count: int) -> None:
        while True:
            if self.error is not None:
                raise self.error
            if self._put - min(lane.done for lane in self._lanes) < count:
                return
            if not self.bell.heard():
                self.bell.wait()

    def close(self) -> None:
        """Drop what is not consumed yet and wait for the consumers at work. Idempotent."""
        if self.closed:
            return
        self.closed = True
        thrown = wait_uninterruptibly(self._at_rest, self.bell)
        self.bell.close()
        if thrown is not None:
            raise thrown

    def _at_rest(self) -> bool:
        self.bell.heard()
        return not any(lane.active for lane in self._lanes)

    def __enter__(self) -> Fanout:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
