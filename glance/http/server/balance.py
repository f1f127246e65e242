"""Spread connections over the workers: each publishes how many it has.

All workers wait on one socket, and the one that wakes first accepts the connection. The parent
creates the `WorkerLoads` before the workers; each worker has a `WorkerLoad`. Nothing waits or
locks: a slightly outdated number is good enough.
"""

from __future__ import annotations

import mmap

#: The count of a worker that is not running.
_ABSENT = 2**32 - 1


class WorkerLoads:
    """The connection counts of all workers, in memory that they share."""

    def __init__(self, count: int):
        self._counts = memoryview(mmap.mmap(-1, 4 * count)).cast("I")
        for slot in range(count):
            self.leave(slot)

    def seat(self, slot: int) -> WorkerLoad:
        """Return the load of the worker in `slot`, which begins without connections."""
        seat = WorkerLoad(self._counts, slot)
        seat.note(0)
        return seat

    def leave(self, slot: int) -> None:
        """Note that the worker is gone, so that no other worker leaves connections to it."""
        self._counts[slot] = _ABSENT


class WorkerLoad:
    """One worker's connection count, and its view of the others' counts."""

    def __init__(self, counts: memoryview[int], slot: int):
        self._counts, self._slot = counts, slot

    def note(self, count: int) -> None:
        """Publish how many connections this worker has now."""
        self._counts[self._slot] = count

    def is_ahead(self) -> bool:
        """Return whether another worker has fewer connections."""
        return self._counts[self._slot] > min(self._counts)
