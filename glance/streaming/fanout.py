"""Big bodies for several consumers at the same time, each in native threads, a few chunks ahead.

A consumer must not touch sockets or locks of the event loop, nor wait for a disk: the threads are
few (`threads.submit`).
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any

from glance.streaming import hub, threads

#: Items of a lane until others have their turn; MD5 takes 3 ms for one.
_LANE_TURN = 2


class _Lane:
    """The items of one consumer, worked off in order; occupies a thread only while it has some."""

    def __init__(self, fanout: Fanout, consume: Callable[[bytes], Any]):
        self._fanout = fanout
        self._consume = consume
        self._items: collections.deque[bytes] = collections.deque()
        self._lock = hub.native_lock()
        self._active = False
        self.done = 0

    def put(self, item: bytes) -> None:
        self._items.append(item)
        with self._lock:
            if self._active:
                return
            self._active = True
        threads.submit(self._drain)

    @property
    def active(self) -> bool:
        with self._lock:
            return self._active

    def _drain(self) -> None:
        turn = 0
        while turn < _LANE_TURN or not threads.is_big_work_waiting():
            turn += 1
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
        threads.submit(self._drain)

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
        self.bell = hub.Bell()
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
        thrown = hub.wait_uninterruptibly(self._at_rest, self.bell)
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
