"""The image cache: copies of downloaded images on this host's disk.

The API and the cache programs use `ImageCache`. The modules::

    options          the options of the cache
    layout           the cache directory, names of files, claims of processes
    index            entries, prefetch queue, counters; the drivers `sqlite` and `xattr`
    traffic          what downloads do
        serving          the requests to the cache
        fill             a download that fills the cache, and the others that follow it
        writer, reader   an image on its way in; an image on its way out
        usage            hits and counters on their way to the index
    prefetch_queue   the rules of the prefetch queue
    upkeep           the work beside requests
        limits           what is let in, and what has to go for it
        cleaning         cleaning, recovery, verification
        legacy, rebuild  adopting the directory of an older version; rebuilding a lost index
    prefetcher, pruner, reaper   the cache programs

Nothing here knows HTTP, the registry or stores: callers provide records and data. Callers also
have to check permissions before they serve a cached image: the API uses the cache only after the
registry has returned the image for the caller of the request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from glance.common import config, exception, plugin
from glance.image_cache import (
    layout,
    options,  # noqa: F401  declares the options
    prefetch_queue,
)
from glance.image_cache.index.driver import Index
from glance.image_cache.index.entries import (
    COMPLETE,
    INCOMPLETE,
    INVALID,
    STATES,
    CacheEntry,
    CacheRefused,
    Image,
)
from glance.image_cache.index.queue import IN_PROGRESS, QUEUED, QueueItem
from glance.image_cache.traffic import reader, writer
from glance.image_cache.traffic.serving import FOLLOW, HIT, MISS, Serving
from glance.image_cache.upkeep import cleaning, legacy, limits
from glance.streaming import body, threads

__all__ = [
    "COMPLETE",
    "INCOMPLETE",
    "INVALID",
    "IN_PROGRESS",
    "QUEUED",
    "STATES",
    "CacheEntry",
    "Image",
    "ImageCache",
    "ENVIRON",
    "CachedBody",
    "FOLLOW",
    "HIT",
    "MISS",
    "QueueItem",
    "CacheRefused",
    "SERVED",
    "of",
    "open_cache",
]

LOG = logging.getLogger(__name__)

CachedBody = reader.CachedBody

T = TypeVar("T")

DRIVERS = {
    "sqlite": "glance.image_cache.index.sqlite:SqliteDriver",
    "xattr": "glance.image_cache.index.xattr:XattrDriver",
}

#: Key of the environ under which the cache filter puts its `ImageCache`.
ENVIRON = "glance.image_cache"
#: Key of the environ for whether the image data of the response came from the cache. Notifications
#: show it as `from_cache`.
SERVED = "glance.from_cache"

#: How many ids are looked up in the registry at a time.
_BATCH = 100


class ImageCache(Serving):
    """One cache directory, which several processes may use at the same time.

    All methods wait cooperatively. Those of `Serving` never raise for failures of the cache: they
    behave as if the image were not cached and log the failure, once a minute. All others raise
    CacheUnavailable when the directory or its index cannot be used. `failing` is set by such a
    failure and reset by `heal`.
    """

    def __init__(self, conf: config.Conf):
        """Create a cache that is not open yet.

        Raises ConfigError for an unknown driver, CacheUnavailable if something it needs is
        missing.
        """
        self.conf = conf
        self.directory = layout.CacheDirectory(conf.image_cache_dir)
        index = _load_driver(conf)(conf, self.directory)
        self.room = limits.Room(conf, self.directory, index)
        super().__init__(conf, index, cleaning.Upkeep(conf, self.directory, index, self.room))
        self.debug_header: bool = conf.image_cache_debug_header

    def configure(self) -> None:
        """Create missing parts of the directory and open the index. Raises CacheUnavailable."""
        threads.run(self._configure)

    def _configure(self) -> None:
        try:
            if legacy.is_legacy(self.directory):
                legacy.prepare(self.directory)
                self.directory.make()
            else:
                self.directory.make()
                self.directory.mark()
        except OSError as err:
            raise exception.CacheUnavailable(
                f"The directory of the image cache cannot be used: {err.strerror or err}"
            ) from err
        self.index.configure()

    def heal(self) -> None:
        """Set the cache up again after a failure. Raises CacheUnavailable if that fails."""
        self.configure()
        self.failing = False
        self.recover()

    def close(self) -> None:
        """Give up fills in progress, write the counters, close the index."""
        self.stop_filling()
        try:
            self.flush()
        except exception.CacheUnavailable as err:
            self.report_failure(err)
        self.index.close()

    # -- adding images ---------------------------------------------------------------------------

    def begin(self, image: Image) -> writer.Writer:
        """Make room for an image, announce it and return the writer of its bytes.

        Raises Refused if the cache has it (reason COMPLETE), it is being written (INCOMPLETE) or
        it is not admitted; CacheUnavailable.
        """
        return writer.make(lambda: self._begin(image))

    def _begin(self, image: Image) -> writer.Writer:
        now = time.time()
        entry = CacheEntry(
            image.image_id,
            INCOMPLETE,
            self.directory.incomplete_file(image.image_id),
            image.size,
            checksum=image.checksum,
            name=image.name,
            created_at=now,
            modified_at=now,
            accessed_at=now,
            writer=layout.claim_token(),
        )
        self._flush_quietly()
        made = writer.Writer(self.index, entry, self.verify_how)
        try:
            evicted = self.room.admit(entry)
            self.usage.count("evicted", len(evicted))
            made.open()
        except BaseException:
            made.forget()
            raise
        return made

    def _flush_quietly(self) -> None:
        """Write when entries were used last, so that the right ones are evicted."""
        try:
            self.usage.flush()
        except exception.CacheUnavailable as err:
            LOG.debug("Hits are not written yet: %s", err)

    def store(self, image: Image, source: body.Body) -> CacheEntry:
        """Read `source` into the cache and close it; used for a prefetch.

        Raises what `begin` raises, ImageSizeMismatch and ChecksumMismatch when the data does not
        match the record, CacheUnavailable when it cannot be written, and what reading raises.
        """
        with source, self.begin(image) as target:
            try:
                for chunk in source:
                    _guarded(target.write, chunk)
            except exception.CacheUnavailable:
                raise
            except Exception as err:
                # The data of the store is kept for inspection.
                target.abort(err)
                raise
            return _guarded(target.commit)

    # -- entries ---------------------------------------------------------------------------------

    def entry(self, image_id: object) -> CacheEntry | None:
        """Return the complete entry of an image, with the hits that this process has counted."""
        return threads.run(self._entry, str(image_id))

    def _entry(self, image_id: str) -> CacheEntry | None:
        self._flush_quietly()
        return self.index.entries.lookup(image_id)

    def entries(self, state: str = COMPLETE) -> list[CacheEntry]:
        """Return all entries in a state (STATES), least recently used first.

        Hits of this process are included; those of other processes are written every few seconds.
        """
        return threads.run(self._entries, state)

    def _entries(self, state: str) -> list[CacheEntry]:
        self._flush_quietly()
        return self.index.entries.in_state(state)

    def delete(self, image_id: object) -> bool:
        """Remove the complete entry of an image; return False if there is none."""
        return threads.run(self._delete, str(image_id))

    def _delete(self, image_id: str) -> bool:
        found = self.index.entries.lookup(image_id)
        return found is not None and self.index.entries.remove(found)

    def delete_all(self, state: str = COMPLETE, grace: float | None = None) -> int:
        """Remove the entries in a state; return how many.

        `grace` spares invalid and incomplete ones that changed within so many seconds; None means
        0 for invalid ones and image_cache_stall_time for incomplete ones. Incomplete ones of dead
        writers are removed in any case.
        """
        return threads.run(self._delete_all, state, grace)

    def _delete_all(self, state: str, grace: float | None) -> int:
        if state == INVALID:
            return self.upkeep.reap_invalid(grace or 0)
        if state == INCOMPLETE:
            return self.upkeep.reap_incomplete(self.upkeep.stall_time if grace is None else grace)
        return sum(
            self.index.entries.remove(entry) for entry in self.index.entries.in_state(COMPLETE)
        )

    # -- the prefetch queue ----------------------------------------------------------------------

    def queue_add(self, image: Image) -> None:
        """Queue an image. Raises Refused: COMPLETE, INCOMPLETE, QUEUED or IN_PROGRESS."""
        threads.run(prefetch_queue.add, self.index, image.image_id, image.name)

    def queue_list(self) -> list[QueueItem]:
        """Return the queue, oldest first, including images in progress."""
        return threads.run(self.index.queue.items)

    def queue_take(self) -> QueueItem | None:
        """Take the oldest due image for this process; None if there is none."""
        me = layout.claim_token()
        taken = threads.run(self.index.queue.take, me, time.time())
        if taken is None:
            layout.release_token(me)
        return taken

    def queue_done(self, item: QueueItem) -> None:
        """Remove an image from the queue: it is cached, or never will be."""
        layout.release_token(item.owner)
        threads.run(self.index.queue.remove, item.image_id)

    def queue_return(self, item: QueueItem, error: BaseException | None = None) -> bool:
        """Put a taken image back: unchanged, or with a growing pause after an `error`.

        Returns False if that was its last attempt and it was dropped instead.
        """
        text = None if error is None else writer.described(error)
        return threads.run(prefetch_queue.give_back, self.index.queue, item, text)

    def queue_delete(self, image_id: object) -> bool:
        """Remove an image from the queue, unless it is in progress; False if nothing was."""
        return threads.run(self.index.queue.remove, str(image_id), only=QUEUED)

    def queue_delete_all(self) -> int:
        """Remove all images from the queue except those in progress; return how many."""
        return sum(self.queue_delete(item.image_id) for item in self.queue_list())

    # -- upkeep ----------------------------------------------------------------------------------

    def prune(self) -> limits.Pruned:
        """Remove the least recently used entries if a limit is exceeded."""
        return threads.run(self._prune)

    def _prune(self) -> limits.Pruned:
        self._flush_quietly()
        done = self.room.prune()
        self.usage.count("evicted", done.files)
        return done

    def clean(
        self, active: Callable[[Sequence[str]], Collection[str]] | None = None
    ) -> cleaning.Cleaned:
        """Remove old invalid entries, what dead writers left, and stray files.

        `active` is called with batches of cached ids and returns those whose images are still
        active in the registry; without it, this is not checked. What it raises ends the cleaning.
        """
        done = threads.run(self.upkeep.clean)
        if active is None or done.busy:
            return done
        cached = self.entries(COMPLETE)
        for start in range(0, len(cached), _BATCH):
            batch = cached[start : start + _BATCH]
            # NOTE: not in a native thread, because `active` uses a socket.
            alive = set(active([entry.image_id for entry in batch]))
            for entry in batch:
                if entry.image_id not in alive:
                    done.inactive += threads.run(self.index.entries.remove, entry)
        return done

    def take_over(self, image_of: Callable[[str], Image | None]) -> legacy.Adopted | None:
        """Adopt the images of a directory of Diablo or Essex; return None for other directories.

        `image_of` returns the registry's image for an id, None if it is not active. What it raises
        ends the work, which the next call continues.
        """
        if not threads.run(legacy.is_legacy, self.directory):
            return None
        try:
            return legacy.adopt(self.directory, self.index, self.room, image_of)
        except OSError as err:
            raise exception.CacheUnavailable(
                f"The old image cache cannot be migrated: {err.strerror}"
            ) from err

    def recover(self) -> cleaning.Cleaned:
        """Remove what a crash left; the API does it in the background when it starts."""
        return threads.run(self.upkeep.recover)

    def verify(self) -> cleaning.Verified:
        """Read all complete entries; those that have changed become invalid."""
        return threads.run(self.upkeep.verify)

    def flush(self) -> None:
        """Write hits and counters of this process to the index."""
        threads.run(self.usage.flush)

    def total_size(self) -> int:
        """Return how many bytes all entries have, those of every state."""
        return threads.run(self.index.entries.total_size)

    def stats(self) -> dict[str, int]:
        """Return counters and sizes.

        The keys are those of `index.counters.COUNTERS`, counted since the index was made, and
        `entries`, `size` (complete), `total_size` (all), `max_size`, `incomplete`, `invalid`,
        `queued` (including those in progress).
        """
        return threads.run(self._stats)

    def _stats(self) -> dict[str, int]:
        self._flush_quietly()
        found = {state: self.index.entries.in_state(state) for state in STATES}
        return {
            **self.index.counters.totals(),
            "entries": len(found[COMPLETE]),
            "size": sum(entry.size for entry in found[COMPLETE]),
            "total_size": self.index.entries.total_size(),
            "max_size": self.room.max_size,
            "incomplete": len(found[INCOMPLETE]),
            "invalid": len(found[INVALID]),
            "queued": len(self.index.queue.items()),
        }


def _guarded(step: Callable[..., T], *arguments: Any) -> T:
    """Return `step(...)`; an OSError of the cache's disk becomes CacheUnavailable."""
    try:
        return step(*arguments)
    except OSError as err:
        raise exception.CacheUnavailable(
            f"The image cache cannot be written to: {err.strerror}"
        ) from err


def of(environ: Mapping[str, Any]) -> ImageCache | None:
    """Return the cache in this request's pipeline, if any."""
    cache: ImageCache | None = environ.get(ENVIRON)
    return cache


def _load_driver(conf: config.Conf) -> type[Index]:
    name = conf.image_cache_driver
    try:
        loaded: type[Index] = plugin.load("glance.image_cache.drivers", name, DRIVERS)
    except LookupError as err:
        raise exception.ConfigError(f"image_cache_driver: {err}") from err
    except ImportError as err:
        raise exception.CacheUnavailable(f"image_cache_driver {name}: {err}") from err
    return loaded


def open_cache(conf: config.Conf) -> ImageCache | None:
    """Return the cache of a daemon, ready for use; None if it is off or cannot be used.

    If the cache cannot be used, the daemon logs an error and runs without it. The programs of the
    cache do not need image_cache_enabled: they create an `ImageCache` and configure it.
    """
    if not conf.image_cache_enabled:
        return None
    try:
        cache = ImageCache(conf)
        cache.configure()
    except exception.CacheUnavailable as err:
        LOG.error("The image cache is disabled: %s", err)
        return None
    return cache
