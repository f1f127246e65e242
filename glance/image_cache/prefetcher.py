"""glance-cache-prefetcher: fetch queued images into the image cache before somebody asks for them.

A pass works off the queue, the oldest image first, some at the same time. That nobody is given
half an image or a wrong one is the business of `glance.image_cache`, which takes the bytes here as
it does those of a download.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import threading
from collections.abc import Iterator

from glance import image_cache, registry, store
from glance.common import config, exception
from glance.image import fields
from glance.image_cache import QueueItem, passes
from glance.registry import service_account
from glance.streaming import body

LOG = logging.getLogger(__name__)

#: Errors that concern all images, not the one at hand.
_COMMON = (exception.RegistryUnavailable, exception.CacheUnavailable, exception.NotAuthorized)


class Stopped(Exception):
    """The program was told to end while an image was on its way."""


class NotActive(Exception):
    """There is no such image, or none with data."""


@dataclasses.dataclass(slots=True)
class PrefetchOutcome:
    """What became of queued images in a pass."""

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
    """Each pass takes queued images until none is left whose time has come.

    With `once`, a pass takes one image only, which is Diablo's pace.
    """

    once = False

    def __init__(self, conf: config.Conf):
        super().__init__(conf)
        self.stores = store.create_stores(conf)
        self.account = service_account.ServiceAccount(conf)

    def make_pass(self) -> PrefetchOutcome:
        # What a dead prefetcher had in hand is queued again.
        self.cache.clean()
        return _Pass(self).run()


class _Pass:
    """One pass. Threads fetch; the queue and all figures are the caller's alone."""

    def __init__(self, prefetcher: Prefetcher):
        self.owner = prefetcher
        self.cache = prefetcher.cache
        self.workers = 1 if prefetcher.once else prefetcher.conf.image_cache_prefetch_workers
        self.outcome = PrefetchOutcome()
        self.trouble: BaseException | None = None
        # NOTE: given back at the end, as they would be taken again at once.
        self.held: list[QueueItem] = []

    def run(self) -> PrefetchOutcome:
        """Work off the queue; raises what concerns all images."""
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
        if self.trouble is not None:
            raise self.trouble
        return self.outcome

    def _next(self) -> QueueItem | None:
        if self.owner.stopped.is_set() or self.trouble is not None:
            return None
        return self.cache.queue_take()

    def _fetch(self, item: QueueItem) -> None:
        """Bring one image into the cache. Runs in a thread."""
        try:
            number = fields.path_id(item.image_id)
            record = self.owner.account.call(registry.get_image_metadata, number)
        except exception.NotFound as err:
            raise NotActive from err
        if record["status"] != "active" or not record.get("location"):
            raise NotActive
        if self.cache.entry(item.image_id) is not None:
            raise image_cache.CacheRefused(image_cache.COMPLETE)
        source = self.owner.stores.get(record["location"])
        self.cache.store(image_cache.Image.of(record), _Stoppable(source, self.owner.stopped))

    def _settle_first(self, running: dict[concurrent.futures.Future[None], QueueItem]) -> None:
        done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
        for task in done:
            name = self._settle(running.pop(task), task.exception())
            setattr(self.outcome, name, getattr(self.outcome, name) + 1)

    def _settle(self, item: QueueItem, err: BaseException | None) -> str:
        """Put the queue right after an image; return the counter of `PrefetchOutcome` to raise.

        SECURITY: what stores raise may hold locations, so that the log names classes.
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
                self.trouble = err
            return "left"
        LOG.error("Image %s was not fetched: %s", item.image_id, type(err).__name__)
        LOG.debug("Image %s: where that comes from", item.image_id, exc_info=err)
        if not self.cache.queue_return(item, err):
            LOG.error("Image %s failed too often; it is removed from the queue", item.image_id)
        return "failed"


class _Stoppable(body.Body):
    """A body that breaks off when the program is told to end."""

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
