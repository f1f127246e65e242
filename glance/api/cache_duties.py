"""What an API process does for the image cache beside serving requests.

It begins with recovery from a crash (and, once, with adopting the directory of an older version);
then hits are written down every few seconds and, if `image_cache_maintenance_interval` is set, the
cache is pruned and cleaned. All of it runs in the background and never fails a request.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence

from glance import image_cache, registry
from glance.common import config, exception, lifecycle, offload
from glance.common.context import RequestContext

LOG = logging.getLogger(__name__)

#: What writing down hits at the end may take, in seconds.
_PATIENCE = 2.0


def start(cache: image_cache.ImageCache, conf: config.Conf) -> None:
    """Begin the duties of this process; they end with it."""
    lifecycle.at_stop(cache.close, patience=_PATIENCE)
    offload.spawn(Duties(cache, conf).run)


class Duties:
    """The duties of one process."""

    def __init__(self, cache: image_cache.ImageCache, conf: config.Conf):
        self.cache = cache
        self.conf = conf
        self._losses = cache.driver.losses

    def run(self) -> None:
        """Work until the process ends."""
        self._try(self.cache.recover)
        interval = self.conf.image_cache_maintenance_interval
        due = time.monotonic() + interval
        while True:
            offload.sleep(self.conf.image_cache_hit_flush_interval)
            self._try(self.cache.flush)
            if self.cache.troubled:
                self._try(self.cache.heal)
            if self.cache.driver.losses != self._losses:
                self._losses = self.cache.driver.losses
                self._try(self.cache.recover)
            if interval and time.monotonic() >= due:
                self._try(self.cache.prune)
                self._try(self._clean)
                due = time.monotonic() + interval

    def _try(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except exception.CacheUnavailable as err:
            self.cache.complain(err)

    def _clean(self) -> None:
        try:
            self.cache.clean(functools.partial(active_ids, self.conf))
        except (exception.ServiceUnavailable, exception.ClientConnectionError) as err:
            LOG.warning("The image cache is cleaned without asking the registry: %s", err)


def active_ids(conf: config.Conf, image_ids: Sequence[str]) -> set[str]:
    """Return which of the images the registry calls active. Raises what its client raises."""
    who = RequestContext(is_admin=True, roles=(conf.admin_role,))
    found = set()
    for image_id in image_ids:
        try:
            record = registry.get_image_metadata(conf, who, image_id)
        except exception.NotFound:
            continue
        if record["status"] == "active":
            found.add(image_id)
    return found
