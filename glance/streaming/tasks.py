"""Work in the background: greenthreads under eventlet, daemon threads elsewhere."""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Hashable
from typing import Any, Generic, ParamSpec, TypeVar

from glance.streaming import hub

LOG = logging.getLogger(__name__)

P = ParamSpec("P")
Job = TypeVar("Job")


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

    return Task(hub.start(work))


class Limited:
    """Tasks of one kind, of which at most `limit` run at a time."""

    def __init__(self, limit: int):
        self.limit = limit
        self._lock = hub.native_lock()
        self._running = 0

    def spawn(self, fn: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Start `fn` as the function `spawn` does; False, without starting it, at the limit."""
        with self._lock:
            if self._running >= self.limit:
                return False
            self._running += 1

        def work() -> None:
            try:
                fn(*args, **kwargs)
            finally:
                with self._lock:
                    self._running -= 1

        try:
            spawn(work)
        except BaseException:
            with self._lock:
                self._running -= 1
            raise
        return True


class Turns(Generic[Job]):
    """Jobs that take turns: at most `limit` run at a time, and `each` of them for one owner.

    `run` works on one job, in a task of its own. The other jobs wait: those of one owner in the
    order of their coming, and the owners take turns. At most `waiting` wait, half of them for one
    owner. An owner of None is nobody: only `limit` and `waiting` hold for its jobs.
    """

    def __init__(self, run: Callable[[Job], Any], *, limit: int, each: int, waiting: int):
        self._run, self._limit, self._each, self._room = run, limit, each, waiting
        self._lock = hub.native_lock()
        self._queues: collections.OrderedDict[Hashable, collections.deque[Job]]
        self._queues = collections.OrderedDict()
        self._places: collections.Counter[Hashable] = collections.Counter()
        self._count = 0
        self._running: dict[int, Job] = {}
        self._busy: collections.Counter[Hashable] = collections.Counter()
        self._closed = False

    def reserve(self, owner: Hashable) -> Place[Job] | None:
        """Return a place for one job, which the caller starts or gives up; None without room."""
        with self._lock:
            waits = self._count - len(self._running)
            own = self._places[owner] - self._busy[owner]
            # What would run at once needs no room to wait in.
            room = self._room + self._limit - len(self._running)
            own_room = max(1, self._room // 2) + self._each - self._busy[owner]
            if self._closed or waits >= room or (owner is not None and own >= own_room):
                return None
            self._places[owner] += 1
            self._count += 1
        return Place(self, owner)

    def counts(self) -> tuple[int, int]:
        """Return how many jobs run, and how many wait or have a place reserved."""
        with self._lock:
            return len(self._running), self._count - len(self._running)

    def close(self) -> list[Job]:
        """Begin no more jobs; return those that run or wait."""
        with self._lock:
            self._closed = True
            left = list(self._running.values())
            for jobs in self._queues.values():
                left.extend(jobs)
            self._queues.clear()
        return left

    def _leave(self, owner: Hashable) -> None:
        with self._lock:
            self._free(owner)

    def _add(self, owner: Hashable, job: Job) -> None:
        with self._lock:
            self._queues.setdefault(owner, collections.deque()).append(job)
        self._begin()

    def _begin(self) -> None:
        """Start as many jobs as may run now."""
        while (turn := self._next()) is not None:
            try:
                spawn(self._work, *turn)
            except BaseException:
                self._end(*turn)
                raise

    def _next(self) -> tuple[Hashable, Job] | None:
        with self._lock:
            if len(self._running) >= self._limit or self._closed:
                return None
            for owner in self._queues:
                if owner is None or self._busy[owner] < self._each:
                    break
            else:
                return None
            jobs = self._queues.pop(owner)
            job = jobs.popleft()
            if jobs:
                # NOTE: behind the others, whose turn it is now.
                self._queues[owner] = jobs
            self._running[id(job)] = job
            self._busy[owner] += 1
        return owner, job

    def _work(self, owner: Hashable, job: Job) -> None:
        try:
            self._run(job)
        finally:
            self._end(owner, job)
            self._begin()

    def _end(self, owner: Hashable, job: Job) -> None:
        with self._lock:
            del self._running[id(job)]
            _decrement(self._busy, owner)
            self._free(owner)

    def _free(self, owner: Hashable) -> None:
        _decrement(self._places, owner)
        self._count -= 1


def _decrement(counter: collections.Counter[Hashable], key: Hashable) -> None:
    """Count one less; a key that is not in use any more takes no memory."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


class Place(Generic[Job]):
    """A place among the jobs of `Turns`: `start` a job in it, or `leave` it. Use it once."""

    def __init__(self, turns: Turns[Job], owner: Hashable):
        self._turns: Turns[Job] | None = turns
        self._owner = owner

    def start(self, job: Job) -> None:
        """Have the job run when its turn comes; return at once."""
        turns, self._turns = self._turns, None
        assert turns is not None, "a place is for one job"
        turns._add(self._owner, job)

    def leave(self) -> None:
        """Give the place up if no job was started in it."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns._leave(self._owner)
