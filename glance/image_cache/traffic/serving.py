"""What requests do with the cache: read a copy, make one during a download, invalidate one.

`ImageCache` builds on it. Nothing here raises for failures of the cache.
"""

from __future__ import annotations

import logging
import os
import time

from glance.common import config, exception, metrics
from glance.image_cache.index.driver import Index
from glance.image_cache.index.entries import (
    COMPLETE,
    INCOMPLETE,
    CacheEntry,
    CacheRefused,
    Image,
)
from glance.image_cache.traffic import fill, neighbour, reader, usage
from glance.image_cache.traffic.writer import Writer
from glance.image_cache.upkeep import cleaning
from glance.streaming import body, hub, tasks, threads

LOG = logging.getLogger(__name__)

#: Where the data of a download comes from, besides the reasons of `Refused`.
HIT, MISS, FOLLOW = "hit", "miss", "follow"

#: One hit in this many is verified afterwards, with `read` in image_cache_verify.
_VERIFY_EVERY = 10
#: How often a download tries to take part in what others do with its image.
_TRIES = 3
#: Seconds between two looks whether other processes follow the fills of this one.
_LOOK = 0.2


class Serving:
    """The part of `ImageCache` for requests, whose methods wait cooperatively.

    `failing` is set when the cache could not be used.
    """

    def __init__(self, conf: config.Conf, index: Index, maintenance: cleaning.Upkeep):
        self.index = index
        self.upkeep = maintenance
        self.usage = usage.Usage(index.counters)
        self.verify_how: tuple[str, ...] = conf.image_cache_verify
        self.finish_workers: int = conf.image_cache_finish_workers
        self.failing = False
        self._complained = float("-inf")
        self._fills: dict[str, fill.Fill] = {}
        self._filling = hub.native_lock()
        self._is_watching = False
        self._neighbours: dict[str, neighbour.Neighbour] = {}
        self._finishing = 0
        self._checking: set[str] = set()

    def begin(self, image: Image) -> Writer:
        """Make room for an image, announce it and return the writer of its bytes."""
        raise NotImplementedError

    def stop_filling(self) -> None:
        """Give up fills in progress."""
        for running in list(self._fills.values()):
            running.stop()

    def report_failure(self, err: BaseException) -> None:
        """Record a failure of the cache; log it once a minute."""
        self.failing = True
        if time.monotonic() - self._complained > 60:
            self._complained = time.monotonic()
            LOG.error("Images are served without the cache for now: %s", err)

    def open(
        self,
        image: Image,
        offset: int = 0,
        length: int | None = None,
        opener: fill.Opener | None = None,
    ) -> reader.CachedBody | None:
        """Return the body of a cached image, whole or a part, or None for a miss.

        An entry that does not match the registry's record, or whose file has changed, is never
        used. The caller closes the body and reports by `CachedBody.count_hit` how much was sent.
        If the file fails while it is sent, the body continues with the data of `opener`.
        """
        if not image.size:
            return None
        try:
            found = threads.run(self._open, image, offset, length, opener)
        except (exception.CacheUnavailable, OSError) as err:
            self.report_failure(err)
            return None
        if isinstance(found, CacheEntry):
            # NOTE: not from the native thread, where a greenthread would never run.
            self._check_later(found)
            return None
        return found

    def _open(
        self, image: Image, offset: int, length: int | None, opener: fill.Opener | None
    ) -> reader.CachedBody | CacheEntry | None:
        """Open an entry; return the entry itself if its file has to be verified first."""
        entry = self.index.entries.lookup(image.image_id)
        if entry is None:
            return None
        if not _is_of(entry, image):
            # It belongs to an earlier image of that id.
            self.usage.count("invalidated", self.index.entries.remove(entry))
            return None
        try:
            fd, same = reader.open_entry(self.index.entries, entry)
        except FileNotFoundError:
            self.index.entries.remove(entry)
            return None
        except reader.Altered as err:
            self._condemn(entry, str(err))
            return None
        if not same:
            os.close(fd)
            return entry
        return reader.CachedBody(
            fd,
            entry,
            used=self._used,
            broke=self._broke,
            opener=opener,
            offset=offset,
            length=length,
        )

    def _used(self, entry: CacheEntry, when: float) -> None:
        self.usage.hit(entry, when)
        if "read" in self.verify_how and self.usage.hits % _VERIFY_EVERY == 0:
            self._check_later(entry)

    def _broke(self, entry: CacheEntry, reason: str) -> None:
        try:
            threads.run(self._condemn, entry, reason)
        except exception.CacheUnavailable as err:
            self.report_failure(err)

    def _condemn(self, entry: CacheEntry, reason: str) -> None:
        LOG.error("Image %s: its copy in the cache is bad: %s", entry.image_id, reason)
        self.index.entries.condemn(entry, reason)
        self.usage.count("invalidated")

    def _check_later(self, entry: CacheEntry) -> None:
        """Verify an entry in the background, unless that is in progress."""
        if entry.file not in self._checking:
            self._checking.add(entry.file)
            tasks.spawn(self._check, entry)

    def _check(self, entry: CacheEntry) -> None:
        try:
            wrong = threads.run(self.upkeep.check, entry)
            self.usage.count("invalidated", wrong is not None)
        except exception.CacheUnavailable as err:
            self.report_failure(err)
        finally:
            self._checking.discard(entry.file)

    def fetch(self, image: Image, opener: fill.Opener) -> tuple[body.Body, str]:
        """Return the body of a whole image that is not cached, and a word for its source.

        `opener` opens the image's data in the store at an offset. The word is MISS when this
        download fills the cache, FOLLOW when it follows another one that does, in this process or
        in another, and otherwise the reason why the cache has no part in it. Raises what `opener`
        raises and nothing else.
        """
        for _ in range(_TRIES):
            found, reason = self._take_part(image, opener)
            if found is not None:
                return found, reason
            if reason != neighbour.GONE:
                break
        self.usage.count("bypasses")
        return opener(0), reason

    def _take_part(self, image: Image, opener: fill.Opener) -> tuple[body.Body | None, str]:
        """Return a body and the word for its source, or None and the reason why there is none."""
        if image.image_id in self._neighbours:
            return self._follow_neighbour(image, opener)
        running, is_mine = self._fill_of(image, opener)
        if not is_mine:
            followed = running.follow() if running.image == image else None
            if followed is not None:
                self.usage.count("follows")
                return followed, FOLLOW
            reason = running.why_not()
        else:
            try:
                led = running.lead()
                self.usage.count("misses")
                return led, MISS
            except CacheRefused as err:
                reason = err.reason
                if isinstance(err.__cause__, exception.CacheUnavailable | OSError):
                    self.report_failure(err.__cause__)
        if reason == COMPLETE and (found := self.open(image, opener=opener)) is not None:
            # Another download has filled it between the lookup and this attempt.
            return found, HIT
        if reason == INCOMPLETE:
            return self._follow_neighbour(image, opener)
        return None, reason

    def _follow_neighbour(self, image: Image, opener: fill.Opener) -> tuple[body.Body | None, str]:
        """Follow another process that writes the image; returns what `_take_part` returns.

        GONE as the reason: it does so no more, and this process may.
        """
        with self._filling:
            found = self._neighbours.get(image.image_id)
            if found is None:
                found = neighbour.Neighbour(image, self.index, self._neighbour_ended)
                self._neighbours[image.image_id] = found
        if found.image != image:
            return None, INCOMPLETE
        try:
            refused = found.join()
        except exception.CacheUnavailable as err:
            self.report_failure(err)
            return None, "trouble"
        if refused:
            return None, refused
        self.usage.count("follows")
        return neighbour.NeighbourBody(found, opener), FOLLOW

    def _neighbour_ended(self, ended: neighbour.Neighbour) -> None:
        with self._filling:
            if self._neighbours.get(ended.image.image_id) is ended:
                del self._neighbours[ended.image.image_id]

    def _fill_of(self, image: Image, opener: fill.Opener) -> tuple[fill.Fill, bool]:
        """Return the fill of an image, and whether it is new and the caller has to lead it."""
        with self._filling:
            running = self._fills.get(image.image_id)
            if running is not None:
                return running, False
            made = self._fills[image.image_id] = fill.Fill(
                image,
                opener,
                begin=self.begin,
                ended=self._fill_ended,
                may_finish=self._may_finish,
            )
            if not self._is_watching:
                self._is_watching = True
                tasks.spawn(self._watch)
            return made, True

    def _watch(self) -> None:
        """Look now and then, while there are fills, whether other processes follow them."""
        while True:
            hub.sleep(_LOOK)
            with self._filling:
                running = list(self._fills.values())
                self._is_watching = bool(running)
            if not running:
                return
            for one in running:
                one.pump()

    def _fill_ended(self, ended: fill.Fill) -> None:
        if self._fills.get(ended.image.image_id) is ended:
            del self._fills[ended.image.image_id]
        self._finishing -= ended.detached
        if ended.begun:
            complete = ended.state == fill.COMPLETE
            metrics.CACHE_FILLS.inc("complete" if complete else "aborted")
        if ended.begun and ended.state != fill.COMPLETE:
            self.usage.count("aborted")
            # NOTE: an attempt to set the cache up again is cheap.
            self.failing = self.failing or ended.state == fill.DROPPED

    def _may_finish(self, running: fill.Fill) -> bool:
        """Return whether to fetch an image to the end although no client waits for it."""
        if running.count * 2 < running.image.size or self._finishing >= self.finish_workers:
            return False
        self._finishing += 1
        running.detached = True
        return True

    def invalidate(self, image_id: object) -> None:
        """Remove the copy of an image that was deleted, or whose visibility has changed."""
        # NOTE: the clients of a running fill continue, but no others join, and it is not kept.
        self._fills.pop(str(image_id), None)
        self._neighbours.pop(str(image_id), None)
        try:
            gone = threads.run(self._forget, str(image_id))
            self.usage.count("invalidated", gone)
        except exception.CacheUnavailable as err:
            self.report_failure(err)

    def _forget(self, image_id: str) -> int:
        with self.index.transaction():
            found = self.index.entries.find(image_id)
            gone = found is not None and self.index.entries.remove(found)
            self.index.queue.remove(image_id)
        return int(gone)


def _is_of(entry: CacheEntry, image: Image) -> bool:
    """Return whether an entry matches the image of the registry."""
    same = not image.checksum or not entry.checksum or image.checksum == entry.checksum
    return entry.size == image.size and same
