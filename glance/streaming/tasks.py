"""Work in the background: greenthreads under eventlet, daemon threads elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ParamSpec

from glance.streaming import hub

LOG = logging.getLogger(__name__)

P = ParamSpec("P")


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
