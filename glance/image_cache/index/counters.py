"""How much the cache is used: reads of entries, and counters of what happened to the cache."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from typing import NamedTuple

#: What is counted, for `ImageCache.stats`: a name here is a key there.
COUNTERS = ("hits", "misses", "follows", "bypasses", "aborted", "invalidated", "evicted")


class Access(NamedTuple):
    """Reads of one image to be added to its entry: how many, and when the last one began."""

    image_id: str
    reads: int
    when: float


class CacheCounters(abc.ABC):
    """What all processes that share the directory have counted, since the index was made.

    A driver must guarantee, towards all threads and processes that share the directory:

    * Nothing that was added is lost when several add at once.
    * `add` adds everything or nothing, by itself or as part of `Index.transaction`.
    * Methods block for other changes only and are called in native threads; CacheUnavailable is
      their only error.
    """

    @abc.abstractmethod
    def add(self, increments: Mapping[str, int], accesses: Iterable[Access] = ()) -> None:
        """Add to counters (COUNTERS), and reads to the complete entries of their images.

        An image without a complete entry is passed over. Times of last use never go back.
        """

    @abc.abstractmethod
    def totals(self) -> dict[str, int]:
        """Return all counters, those never counted as 0."""
