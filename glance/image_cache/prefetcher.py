"""glance-cache-prefetcher: fetch queued images into the image cache before they are requested.

A pass processes the queue, the oldest image first, several at the same time. `glance.image_cache`
ensures that no incomplete or wrong image is served; it handles these bytes like those of a
download.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import threading
from collections.abc import Iterator

from glance import image_cache, store
from glance.common import config, exception
from glance.image import fields
from glance.image_cache import QueueItem, passes
from glance.registry.link import RegistryLink
from glance.registry.service_account import ServiceAccount
from glance.streaming import body

LOG = logging.getLogger(__name__)

#: Errors that affect all images, not only the current one.
_COMMON = (exception.RegistryUnavailable, exception.CacheUnavailable, exception.NotAuthorized)


class Stopped(Exception):
    """The program was stopped while it was fetching an image."""


class NotActive(Exception):
    """There is no such image, or it has no data."""


@dataclasses.dataclass(slots=True)
class PrefetchOutcome:
    """The outcome of a pass, in images."""

    fetched: int = 0
    dropped: int = 0
    left: int = 0
    failed: int = 0

    @property
    def is_complete(self) -> bool:
        return not self.failed

    def __str__(self) -> str:
        return (
            f"{self.fetched} fetched, {self.dropped} dropped from the queue, {self.left} left in "
            f"it, {self.failed} failed"
        )


class Prefetcher(passes.Passes):
    """Each pass fetches queued images until none is due any more.

    With `once`, a pass fetches one image only, as in Diablo.
    """

    once = False

    def __init__(self, conf: config.Conf):
        super().__init__(conf)
        self.stores = store.create_stores(conf)
        self.account = ServiceAccount(conf, RegistryLink(conf))

    def make_pass(self) -> PrefetchOutcome:
        # Queue the images of dead prefetchers again.
        self.cache.clean()
        return _Pass(self).run()


class _Pass:
    """One pass. Threads fetch; only the calling thread uses the queue and the counters."""

    def __init__(self, prefetcher: Prefetcher):
        self.owner = prefetcher
        self.cache = prefetcher.cache
        self.workers = 1 if prefetcher.once else prefetcher.conf.image_cache_prefetch_workers
        self.outcome = PrefetchOutcome()
        self.fatal_error: BaseException | None = None
        # NOTE: put back at the end, because they would be taken again at once.
        self.held: list[QueueItem] = []

    def run(self) -> PrefetchOutcome:
        """Process the queue. Raises an error that affects all images."""
        running: dict[concurrent.futures.Future[None], QueueItem] = {}
        try:
            with concurrent.futures.ThreadPoolExecutor(self.workers) as pool:
                while item := self._next():
                    running[pool.submit(self._fetch, item)] = item
                    if self.owner.once:
                        break
                    if len(running) == self.workers:
                        self._settle_first(running)
                while running:
                    self._settle_first(running)
        finally:
            for item in self.held:
                self.cache.queue_return(item)
        if self.fatal_error is not None:
            raise self.fatal_error
        return self.outcome

    def _next(self) -> QueueItem | None:
        if self.owner.stopped.is_set() or self.fatal_error is not None:
            return None
        return self.cache.queue_take()

    def _fetch(self, item: QueueItem) -> None:
        """Fetch one image into the cache. Runs in a thread."""
        try:
            number = fields.path_id(item.image_id)
            account = self.owner.account
            record = account.call(account.link.get_image_metadata, number)
        except exception.NotFound as err:
            raise NotActive from err
        location = record.get("location")
        if record["status"] != "active" or not location:
            raise NotActive
        if self.cache.entry(item.image_id) is not None:
            raise image_cache.CacheRefused(image_cache.COMPLETE)
        source = self.owner.stores.get(location)
        self.cache.store(image_cache.Image.of(record), _Stoppable(source, self.owner.stopped))

    def _settle_first(self, running: dict[concurrent.futures.Future[None], QueueItem]) -> None:
        done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
        for task in done:
            name = self._settle(running.pop(task), task.exception())
            setattr(self.outcome, name, getattr(self.outcome, name) + 1)

    def _settle(self, item: QueueItem, err: BaseException | None) -> str:
        """Update the queue after an image; return the counter of `PrefetchOutcome` to increase.

        An error that is about one image delays only that one.
        """
        if err is None:
            self.cache.queue_done(item)
            LOG.info("Image %s is cached", item.image_id)
            return "fetched"
        if isinstance(err, NotActive):
            LOG.warning("Image %s is not active; it is removed from the queue", item.image_id)
            self.cache.queue_done(item)
            return "dropped"
        if isinstance(err, image_cache.CacheRefused) and err.reason != image_cache.INCOMPLETE:
            level = logging.INFO if err.reason == image_cache.COMPLETE else logging.WARNING
            LOG.log(level, "Image %s is removed from the queue: %s", item.image_id, err.reason)
            self.cache.queue_done(item)
            return "dropped"
        if isinstance(err, (image_cache.CacheRefused, Stopped, *_COMMON)):
            self.held.append(item)
            if isinstance(err, _COMMON):
                self.fatal_error = err
            return "left"
        LOG.error("Image %s was not fetched: %s", item.image_id, exception.described(err))
        LOG.debug("Image %s: where that comes from", item.image_id, exc_info=err)
        self.cache.queue_return(item, err)
        return "failed"


class _Stoppable(body.Body):
    """A body that raises Stopped when the program is stopped."""

    def __init__(self, source: body.Body, stopped: threading.Event):
        super().__init__(source.length, size=source.size)
        self._source = source
        self._stopped = stopped

    def _chunks(self) -> Iterator[bytes]:
        for chunk in self._source:
            if self._stopped.is_set():
                raise Stopped
            yield chunk

    def _release(self) -> None:
        self._source.close()


app_factory = Prefetcher.app_factory
