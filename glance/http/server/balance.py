"""How connections spread over workers: each tells the others how many it has.

All workers wait on one socket, and the one that wakes first takes what is there. Made by the
parent before the workers; each worker has a `WorkerLoad`. Nothing waits, and nothing locks: a
number that is a moment old is good enough.
"""

from __future__ import annotations

import mmap

#: The number of a worker that is not there.
_ABSENT = 2**32 - 1


class WorkerLoads:
    """The numbers of all workers, in memory that they share."""

    def __init__(self, count: int):
        self._counts = memoryview(mmap.mmap(-1, 4 * count)).cast("I")
        for slot in range(count):
            self.leave(slot)

    def seat(self, slot: int) -> WorkerLoad:
        """Return the place of the worker in `slot`, which begins without connections."""
        seat = WorkerLoad(self._counts, slot)
        seat.note(0)
        return seat

    def leave(self, slot: int) -> None:
        """Note that the worker is gone; nobody waits for it to take its share."""
        self._counts[slot] = _ABSENT


class WorkerLoad:
    """One worker's number, and its look at those of the others."""

    def __init__(self, counts: memoryview[int], slot: int):
        self._counts, self._slot = counts, slot

    def note(self, count: int) -> None:
        """Tell how many connections there are now."""
        self._counts[self._slot] = count

    def is_ahead(self) -> bool:
        """Return whether another worker has fewer connections."""
        return self._counts[self._slot] > min(self._counts)
