"""The prefetch queue: which images it accepts, and when a failed one is tried again."""

from __future__ import annotations

import dataclasses
import logging
import time

from glance.image_cache import layout
from glance.image_cache.index.driver import Index
from glance.image_cache.index.entries import CacheRefused
from glance.image_cache.index.queue import IN_PROGRESS, QUEUED, PrefetchQueue, QueueItem
from glance.streaming.retry import Backoff

LOG = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
#: How long a queued image waits after an attempt that failed.
BACKOFF = Backoff(60, 3600, jitter=0)


def add(index: Index, image_id: str, name: str | None) -> None:
    """Queue an image. Raises Refused if it is cached, being written, or queued. Blocks."""
    if not layout.is_key(image_id):
        raise CacheRefused("unusable id")
    with index.transaction():
        found = index.entries.find(image_id)
        if found is not None:
            raise CacheRefused(found.state)
        for item in index.queue.items():
            if item.image_id == image_id:
                raise CacheRefused(item.state)
        index.queue.add(QueueItem(image_id, name, time.time()))


def give_back(
    queue: PrefetchQueue, item: QueueItem, error: str | None, *, pause: bool = True
) -> bool:
    """Put a taken image back, with a growing pause after an error that permits another attempt.

    Returns False if that was its last attempt and it is dropped. Blocks.
    """
    layout.release_token(item.owner)
    free = dataclasses.replace(item, state=QUEUED, owner=None)
    if error is None:
        queue.put_back(free)
        return True
    attempts = item.attempts + 1
    if attempts > MAX_ATTEMPTS:
        LOG.error(
            "Image %s is not prefetched after %s attempts: %s", item.image_id, attempts, error
        )
        queue.remove(item.image_id)
        return False
    seconds = BACKOFF.pause(attempts) if pause else 0.0
    queue.put_back(
        dataclasses.replace(
            free, attempts=attempts, not_before=time.time() + seconds, last_error=error
        )
    )
    return True


def release_dead(index: Index) -> int:
    """Queue again what dead processes were fetching; return how many images. Blocks."""
    count = 0
    with index.transaction():
        for item in index.queue.items():
            if item.state == IN_PROGRESS and not layout.is_alive(item.owner):
                give_back(index.queue, item, "the process that fetched it died", pause=False)
                count += 1
    return count
