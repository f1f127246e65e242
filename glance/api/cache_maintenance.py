"""Background work of an API process for the image cache.

It begins with recovery from a crash (and, once, with adopting the directory of an older version);
then hits are recorded every few seconds and, if `image_cache_maintenance_interval` is set, the
cache is pruned and cleaned. None of it can fail a request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from glance import image_cache
from glance.common import config, exception, hooks, metrics
from glance.registry.link import RegistryLink
from glance.registry.service_account import ServiceAccount
from glance.streaming.periodic import PeriodicTask

LOG = logging.getLogger(__name__)

#: How long recording hits at the end may take, in seconds.
_STOP_TIMEOUT = 2.0
#: Seconds until the next attempt to adopt an old directory when the registry was unavailable.
_RETRY = 30.0
#: How often the metrics look at the size of the cache, in seconds.
_SIZE_PAUSE = 60.0
#: What the cache has counted, as the metrics show it.
_COUNTED = (
    (metrics.CACHE_REQUESTS, "hits", "hit"),
    (metrics.CACHE_REQUESTS, "misses", "miss"),
    (metrics.CACHE_REQUESTS, "follows", "follow"),
    (metrics.CACHE_REQUESTS, "bypasses", "bypass"),
    (metrics.CACHE_REMOVED, "evicted", "evicted"),
    (metrics.CACHE_REMOVED, "invalidated", "invalidated"),
)


def start(cache: image_cache.ImageCache, conf: config.Conf) -> None:
    """Begin the maintenance of this process; it ends with the process."""
    maintenance = CacheMaintenance(cache, conf)
    hooks.at_stop(cache.close, stop_timeout=_STOP_TIMEOUT)
    hooks.at_stop(maintenance.stop)
    maintenance.start()
    _measure(cache)


def _measure(cache: image_cache.ImageCache) -> None:
    growth = metrics.Growth()

    def count() -> None:
        for counter, name, word in _COUNTED:
            growth.note(counter, cache.usage.totals[name], word)

    def size() -> None:
        if metrics.is_first():
            metrics.CACHE_BYTES.set(cache.total_size())
            metrics.CACHE_LIMIT.set(cache.room.max_size)

    metrics.begin(metrics.CACHE_FILLS, ("complete", "aborted"))
    metrics.sample(count)
    metrics.sample(size, _SIZE_PAUSE)


class CacheMaintenance(PeriodicTask):
    """Background work of one process, a turn each `image_cache_hit_flush_interval` seconds."""

    turn_name = "maintenance of the image cache"

    def __init__(self, cache: image_cache.ImageCache, conf: config.Conf):
        super().__init__(conf.image_cache_hit_flush_interval)
        self.cache = cache
        self.conf = conf
        self.account = ServiceAccount(conf, RegistryLink(conf))
        self._losses: int | None = None
        self._taken_over = False
        self._take_over_due = time.monotonic()
        self._maintenance_due = time.monotonic() + conf.image_cache_maintenance_interval

    def turn(self) -> None:
        """Recover if that is called for, at first above all; write hits down; do what is due."""
        if self.cache.index.losses != self._losses:
            self._losses = self.cache.index.losses
            self.attempt(self.cache.recover)
        if not self._taken_over and time.monotonic() >= self._take_over_due:
            self._taken_over = self.attempt(self._take_over)
            self._take_over_due = time.monotonic() + _RETRY
        self.attempt(self.cache.flush)
        if self.cache.failing:
            self.attempt(self.cache.heal)
        interval = self.conf.image_cache_maintenance_interval
        if interval and time.monotonic() >= self._maintenance_due:
            self.attempt(self.maintain)
            self._maintenance_due = time.monotonic() + interval

    def attempt(self, task: Callable[[], object]) -> bool:
        """Run a task; return False if it failed."""
        try:
            task()
        except exception.CacheUnavailable as err:
            self.cache.report_failure(err)
        except exception.Error as err:
            LOG.warning("Maintenance of the image cache failed: %s", err)
        else:
            return True
        return False

    def _take_over(self) -> None:
        done = self.cache.take_over(self._image_of)
        if done is not None:
            LOG.info(
                "Migrated an old cache directory: %s images adopted, %s files removed, %s queued",
                done.adopted,
                done.removed,
                done.queued,
            )

    def _image_of(self, image_id: str) -> image_cache.Image | None:
        record = self.account.active_image(image_id)
        return None if record is None else image_cache.Image.of(record)

    def maintain(self) -> None:
        """Prune and clean, unless another process of this host has just done so."""
        since = time.time() - self.cache.directory.maintained_at()
        # NOTE: the processes wake up one after the other; the first does the work for all.
        if since >= self.conf.image_cache_maintenance_interval * 0.9:
            self.cache.prune()
            self.cache.clean(self._active)

    def _active(self, image_ids: Sequence[str]) -> list[str]:
        return [image_id for image_id in image_ids if self.account.active_image(image_id)]
