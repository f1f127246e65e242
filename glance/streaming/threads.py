"""Blocking work in native threads under eventlet, inline elsewhere.

Who hashes, syncs or opens files calls `run`. A function handed to it must not touch sockets or
locks of the event loop. What does not belong here: knowledge of files, images or requests.

NOTE: eventlet's own tpool is not used because a killed greenthread leaves its tpool job running:
its caller then closes a descriptor that a thread still writes to. Here a caller never returns
before its job has ended.
"""

from __future__ import annotations

import collections
import contextlib
import os
import posix
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from glance.streaming import hub

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 32


class _Kind(NamedTuple):
    """A kind of work, which has threads of its own: at most `most`, by `niceness` below others."""

    most: int
    niceness: int = 0


_SHORT = _Kind(MAX_THREADS)
# PERF: threads that hash and move big bodies want all the time of the processors, so there is one
# for each. Where these are busy, a HEAD beside two uploads and two downloads takes half of the
# time that it takes beside 32 such threads, if the event loop and short work go first; the
# transfers take as long.
_BIG = _Kind(max(2, min(len(os.sched_getaffinity(0)), MAX_THREADS)), 5)
# While no lookup of a name succeeds, other work has to go on.
_LOOKUP = _Kind(8)


class _Pool:
    """Daemon threads, started when needed, that run jobs which never raise."""

    def __init__(self, kind: _Kind):
        self._kind = kind
        self._threading = hub.native(threading)
        self._jobs = hub.native(queue).SimpleQueue()
        self._lock = self._threading.Lock()
        self._mark = hub.worker_mark()
        self._threads = 0
        # PERF: a mark for each unfinished job, because to add and to take one needs no lock, for
        # which the event loop would wait.
        self._unfinished: collections.deque[None] = collections.deque()

    def submit(self, job: Callable[[], None]) -> None:
        self._unfinished.append(None)
        if self._needs_thread():
            with self._lock:
                start = self._needs_thread()
                self._threads += start
        else:
            start = False
        if start:
            try:
                self._threading.Thread(target=self._work, name="native-work", daemon=True).start()
            except RuntimeError:
                # NOTE: the host has no room for another thread; those that run will do the job.
                with self._lock:
                    self._threads -= 1
                    if not self._threads:
                        self._unfinished.pop()
                        raise
        self._jobs.put(job)

    @property
    def is_waiting(self) -> bool:
        return not self._jobs.empty()

    def _needs_thread(self) -> bool:
        return len(self._unfinished) > self._threads < self._kind.most

    def _work(self) -> None:
        self._mark.worker = True
        if self._kind.niceness:
            # NOTE: on Linux this is about the calling thread alone.
            os.nice(self._kind.niceness)
        while True:
            job = self._jobs.get()
            job()
            # NOTE: an idle thread must not keep the last job's chunk alive.
            job = None
            self._unfinished.pop()


_pools: dict[_Kind, _Pool] = {}


def _get_pool(kind: _Kind) -> _Pool:
    pool = _pools.get(kind)
    if pool is None:
        pool = _pools[kind] = _Pool(kind)
    return pool


def submit(job: Callable[[], None]) -> None:
    """Have a native thread do a part of big work: `job`, which never raises.

    These threads are few, so a job uses the processor, for some milliseconds, and does not wait
    for disks.
    """
    _get_pool(_BIG).submit(job)


# Threads do not cross a fork: the child makes its own.
os.register_at_fork(after_in_child=_pools.clear)


class _Call(Generic[T]):
    """One function call on its way through a native thread."""

    def __init__(self, fn: Callable[[], T]):
        self.fn = fn
        self.value: T
        self.error: BaseException | None = None
        self.bell = hub.call_bell()

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
    return _run(_SHORT, fn, *args, **kwargs)


def run_big(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `run`, for what `submit` takes: a part of big work."""
    return _run(_BIG, fn, *args, **kwargs)


# What greenthreads want done with their next job.
_joined: dict[Any, Callable[[], None]] = {}


@contextlib.contextmanager
def joined(step: Callable[[], None]) -> Iterator[None]:
    """Do `step`, which blocks and never raises, in the block, before whatever else blocks there.

    It is the beginning of the first job that the block has `run`, and a job of its own only if
    there is none: to hand work to a thread and back takes longer than a step of a few system
    calls. Blocks do not nest.
    """
    if not hub.may_switch():
        step()
        yield
        return
    me = hub.current()
    assert me not in _joined, "blocks do not nest"
    _joined[me] = step
    try:
        yield
    finally:
        if _joined.pop(me, None) is not None:
            run(step)


def is_big_work_waiting() -> bool:
    """Return whether a part of big work waits for a thread to end another."""
    return _get_pool(_BIG).is_waiting


def _run(kind: _Kind, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    if not hub.may_switch():
        return fn(*args, **kwargs)
    step = _joined.pop(hub.current(), None) if _joined else None

    def work() -> T:
        if step is not None:
            step()
        return fn(*args, **kwargs)

    call = _Call(work)
    try:
        _get_pool(kind).submit(call)
        # NOTE: the ring is the thread's last act on the descriptor, so it may be closed then.
        thrown = hub.wait_uninterruptibly(call.bell.heard, call.bell)
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


def look_up(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `run`, for a lookup of a name, which may take as long as the network lets it."""
    return _run(_LOOKUP, fn, *args, **kwargs)


def getaddrinfo(host: str, port: int, **kwargs: Any) -> list[Any]:
    """Resolve by the system's resolver (not eventlet's), without stopping the hub."""
    import socket

    return look_up(hub.native(socket).getaddrinfo, host, port, **kwargs)


def open_fd(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """Open a file like `os.open`, in a native thread too.

    NOTE: eventlet's `os.open` would make a hub, with descriptors of its own, for every thread.
    """
    return posix.open(path, flags, mode, dir_fd=dir_fd)
