"""What an API process does for the image cache beside serving requests.

It begins with recovery from a crash (and, once, with adopting the directory of an older version);
then hits are written down every few seconds and, if `image_cache_maintenance_interval` is set, the
cache is pruned and cleaned. All of it runs in the background and never fails a request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from glance import image_cache
from glance.common import config, exception, hooks
from glance.registry import service_account
from glance.streaming import offload

LOG = logging.getLogger(__name__)

#: What writing down hits at the end may take, in seconds.
_PATIENCE = 2.0
#: Seconds until an old directory is looked at again when the registry could not be asked.
_RETRY = 30.0


def start(cache: image_cache.ImageCache, conf: config.Conf) -> None:
    """Begin the duties of this process; they end with it."""
    duties = CacheMaintenance(cache, conf)
    hooks.at_stop(cache.close, patience=_PATIENCE)
    offload.spawn(duties.run)


class CacheMaintenance:
    """The duties of one process."""

    def __init__(self, cache: image_cache.ImageCache, conf: config.Conf):
        self.cache = cache
        self.conf = conf
        self.account = service_account.ServiceAccount(conf)
        self._losses = cache.driver.losses

    def run(self) -> None:
        """Work until the process ends."""
        self.attempt(self.cache.recover)
        taken_over = self.attempt(self._take_over)
        interval = self.conf.image_cache_maintenance_interval
        due = time.monotonic() + interval
        retry = time.monotonic() + _RETRY
        while True:
            offload.sleep(self.conf.image_cache_hit_flush_interval)
            self.attempt(self.cache.flush)
            if self.cache.troubled:
                self.attempt(self.cache.heal)
            if self.cache.driver.losses != self._losses:
                self._losses = self.cache.driver.losses
                self.attempt(self.cache.recover)
            if not taken_over and time.monotonic() >= retry:
                taken_over = self.attempt(self._take_over)
                retry = time.monotonic() + _RETRY
            if interval and time.monotonic() >= due:
                self.attempt(self.maintain)
                due = time.monotonic() + interval

    def attempt(self, duty: Callable[[], object]) -> bool:
        """Do a duty; False if it could not be done."""
        try:
            duty()
        except exception.CacheUnavailable as err:
            self.cache.complain(err)
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
        # NOTE: the processes wake up one after the other; the first does it for all.
        if since >= self.conf.image_cache_maintenance_interval * 0.9:
            self.cache.prune()
            self.cache.clean(self._active)

    def _active(self, image_ids: Sequence[str]) -> list[str]:
        return [image_id for image_id in image_ids if self.account.active_image(image_id)]
