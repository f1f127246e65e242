"""The prefetch queue: which images it accepts, and when a failed one is tried again."""

from __future__ import annotations

import dataclasses
import logging
import time

from glance.image_cache import layout
from glance.image_cache.index import driver as index_driver
from glance.image_cache.index.driver import IN_PROGRESS, QUEUED, CacheRefused, QueueItem

LOG = logging.getLogger(__name__)

#: Seconds until a failed image is tried again, doubled for each earlier failure.
BACK_OFF = 60.0
MAX_ATTEMPTS = 5


def add(driver: index_driver.Driver, image_id: str, name: str | None) -> None:
    """Queue an image. Raises Refused if it is cached, being written, or queued. Blocks."""
    if not layout.is_key(image_id):
        raise CacheRefused("unusable id")
    with driver.transaction():
        found = driver.find(image_id)
        if found is not None:
            raise CacheRefused(found.state)
        for item in driver.queue_list():
            if item.image_id == image_id:
                raise CacheRefused(item.state)
        driver.queue_add(QueueItem(image_id, name, time.time()))


def give_back(
    driver: index_driver.Driver, item: QueueItem, error: str | None, *, pause: bool = True
) -> bool:
    """Put a taken image back, with a growing pause after an error that permits another attempt.

    Returns False if that was its last attempt and it is dropped. Blocks.
    """
    layout.release_token(item.owner)
    free = dataclasses.replace(item, state=QUEUED, owner=None)
    if error is None:
        driver.queue_return(free)
        return True
    attempts = item.attempts + 1
    if attempts > MAX_ATTEMPTS:
        LOG.error(
            "Image %s is not prefetched after %s attempts: %s", item.image_id, attempts, error
        )
        driver.queue_remove(item.image_id)
        return False
    seconds = BACK_OFF * 2**item.attempts if pause else 0.0
    driver.queue_return(
        dataclasses.replace(
            free, attempts=attempts, not_before=time.time() + seconds, last_error=error
        )
    )
    return True


def release_dead(driver: index_driver.Driver) -> int:
    """Queue again what dead processes were fetching; return how many images. Blocks."""
    count = 0
    with driver.transaction():
        for item in driver.queue_list():
            if item.state == IN_PROGRESS and not layout.is_alive(item.owner):
                give_back(driver, item, "the process that fetched it died", pause=False)
                count += 1
    return count
