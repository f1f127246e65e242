"""The prefetch queue: what waits in it, and the part of an index that keeps it.

Who gets in, and what becomes of an image that could not be fetched, is decided by
`glance.image_cache.prefetch_queue`.
"""

from __future__ import annotations

import abc
import dataclasses

QUEUED = "queued"
IN_PROGRESS = "in-progress"


@dataclasses.dataclass(frozen=True, slots=True)
class QueueItem:
    """An image that waits to be fetched, or is being fetched by `owner`.

    `not_before` is when the next attempt may begin, after `attempts` that failed.
    """

    image_id: str
    name: str | None
    enqueued_at: float
    state: str = QUEUED
    owner: str | None = None
    attempts: int = 0
    not_before: float = 0.0
    last_error: str | None = None


class PrefetchQueue(abc.ABC):
    """Images that wait to be fetched, oldest first; each is there once.

    A driver must guarantee, towards all threads and processes that share the directory:

    * Of several that `take` at once, each gets another image.
    * Every method changes all that it says or nothing, in one step for others, by itself or as
      part of `Index.transaction`.
    * What was added outlives the process, but not the loss of the index.
    * Methods block for other changes only and are called in native threads; CacheUnavailable is
      their only error.
    """

    @abc.abstractmethod
    def add(self, item: QueueItem) -> bool:
        """Append an image; False if it is queued already."""

    @abc.abstractmethod
    def items(self) -> list[QueueItem]:
        """Return the queue, oldest first, then by id."""

    @abc.abstractmethod
    def take(self, owner: str, now: float) -> QueueItem | None:
        """Take the oldest queued image whose time has come, and mark it as being fetched."""

    @abc.abstractmethod
    def put_back(self, item: QueueItem) -> None:
        """Put a taken image back with the fields of `item`; nothing if it left the queue."""

    @abc.abstractmethod
    def remove(self, image_id: str, *, only: str | None = None) -> bool:
        """Take an image off the queue, if its state is `only`; False if it was not there."""
