"""The image cache: copies of downloaded images on this host's disk.

`ImageCache` is all that the API and the cache programs use. The parts::

    options    what an operator can set
    layout     the cache directory, names of files, who owns what
    base       entries, queued images, and the contract of an index driver
    sqlite     the index in a database      xattr    the index in attributes of the files
    room       limits: what is let in, and what has to go for it
    writer     an image on its way in       reader   an image on its way out
    serving    what requests ask of the cache
    fill       a download that fills the cache, and the others that follow it
    waiting    the prefetch queue           usage    hits and counters on their way to the index
    upkeep     cleaning, recovery, verification
    legacy     adopting the directory of an older version

Nothing here knows HTTP, the registry or stores: callers bring records and data. The rule that
nobody gets a cached image without being asked who he is rests with the caller, too: the API looks
into the cache only after the registry has shown it the image for that caller.
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
from glance.image_cache.index.driver import (
    COMPLETE,
    IN_PROGRESS,
    INCOMPLETE,
    INVALID,
    QUEUED,
    STATES,
    CacheEntry,
    CacheRefused,
    Driver,
    Image,
    QueueItem,
)
from glance.image_cache.traffic import reader, writer
from glance.image_cache.traffic.serving import FOLLOW, HIT, MISS, Serving
from glance.image_cache.upkeep import cleaning, legacy, limits
from glance.streaming import body, offload

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

#: Where the cache filter leaves its `ImageCache` in the environ of a request.
ENVIRON = "glance.image_cache"
#: Whether the body of the answer came out of the cache, in the environ of a request that was
#: answered with an image's data. Notifications tell it as `from_cache`.
SERVED = "glance.from_cache"

#: How many ids the registry is asked about at a time.
_BATCH = 100


class ImageCache(Serving):
    """One cache directory, which several processes may use at the same time.

    All methods wait cooperatively. Those of `Serving` never raise for trouble of the cache: they
    answer as if the image were not there and log it, once a minute. All others raise
    CacheUnavailable when the directory or its index cannot be used. `troubled` is set by such
    trouble and reset by `heal`.
    """

    def __init__(self, conf: config.Conf):
        """Make a cache that is not open yet.

        Raises ConfigError for an unknown driver, CacheUnavailable for one that lacks something.
        """
        self.conf = conf
        self.directory = layout.CacheDirectory(conf.image_cache_dir)
        driver = _load_driver(conf)(conf, self.directory)
        self.room = limits.Room(conf, self.directory, driver)
        super().__init__(conf, driver, cleaning.Upkeep(conf, self.directory, driver, self.room))
        self.debug_header: bool = conf.image_cache_debug_header

    def configure(self) -> None:
        """Make what is missing of the directory and open the index; CacheUnavailable."""
        offload.run(self._configure)

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
        self.driver.configure()

    def heal(self) -> None:
        """Set the cache up again after trouble, if that is possible now; CacheUnavailable."""
        self.configure()
        self.troubled = False
        self.recover()

    def close(self) -> None:
        """Give up images that are on their way in, write down what is counted, close the index."""
        self.stop_filling()
        try:
            self.flush()
        except exception.CacheUnavailable as err:
            self.complain(err)
        self.driver.close()

    # -- bringing images in ----------------------------------------------------------------------

    def begin(self, image: Image) -> writer.Writer:
        """Make room for an image, announce it and return the writer of its bytes.

        Raises Refused if the cache has it (reason COMPLETE), somebody writes it (INCOMPLETE) or it
        does not get in; CacheUnavailable.
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
        made = writer.Writer(self.driver, entry, self.verify_how)
        try:
            evicted = self.room.admit(entry)
            self.usage.count("evicted", len(evicted))
            made.open()
        except BaseException:
            made.forget()
            raise
        return made

    def _flush_quietly(self) -> None:
        """Write down who was used last, so that the right ones have to go."""
        try:
            self.usage.flush()
        except exception.CacheUnavailable as err:
            LOG.debug("Hits are not written yet: %s", err)

    def store(self, image: Image, source: body.Body) -> CacheEntry:
        """Read `source` into the cache and close it; what a prefetch does.

        Raises what `begin` raises, ImageSizeMismatch and ChecksumMismatch when the data is not
        what the record says, CacheUnavailable when it cannot be written, and what reading raises.
        """
        with source, self.begin(image) as target:
            try:
                for chunk in source:
                    _guarded(target.write, chunk)
            except exception.CacheUnavailable:
                raise
            except Exception as err:
                # What the store gave is kept for inspection.
                target.abort(err)
                raise
            return _guarded(target.commit)

    # -- entries ---------------------------------------------------------------------------------

    def entry(self, image_id: object) -> CacheEntry | None:
        """Return the complete entry of an image, with the hits that this process has counted."""
        return offload.run(self._entry, str(image_id))

    def _entry(self, image_id: str) -> CacheEntry | None:
        self._flush_quietly()
        return self.driver.lookup(image_id)

    def entries(self, state: str = COMPLETE) -> list[CacheEntry]:
        """Return all entries in a state (STATES), least recently used first.

        Hits of this process are in; those of others are written every few seconds.
        """
        return offload.run(self._entries, state)

    def _entries(self, state: str) -> list[CacheEntry]:
        self._flush_quietly()
        return self.driver.entries(state)

    def delete(self, image_id: object) -> bool:
        """Remove the complete entry of an image; False if there is none."""
        return offload.run(self._delete, str(image_id))

    def _delete(self, image_id: str) -> bool:
        found = self.driver.lookup(image_id)
        return found is not None and self.driver.remove(found)

    def delete_all(self, state: str = COMPLETE, grace: float | None = None) -> int:
        """Remove the entries in a state; return how many.

        `grace` spares invalid and incomplete ones that changed in the last so many seconds; None
        means at once for invalid ones and image_cache_stall_time for incomplete ones. Incomplete
        ones of dead writers go in any case.
        """
        return offload.run(self._delete_all, state, grace)

    def _delete_all(self, state: str, grace: float | None) -> int:
        if state == INVALID:
            return self.upkeep.reap_invalid(grace or 0)
        if state == INCOMPLETE:
            return self.upkeep.reap_incomplete(self.upkeep.stall_time if grace is None else grace)
        return sum(self.driver.remove(entry) for entry in self.driver.entries(COMPLETE))

    # -- the prefetch queue ----------------------------------------------------------------------

    def queue_add(self, image: Image) -> None:
        """Queue an image; Refused with the reason COMPLETE, INCOMPLETE, QUEUED or IN_PROGRESS."""
        offload.run(prefetch_queue.add, self.driver, image.image_id, image.name)

    def queue_list(self) -> list[QueueItem]:
        """Return the queue, oldest first, with those in progress."""
        return offload.run(self.driver.queue_list)

    def queue_take(self) -> QueueItem | None:
        """Take the oldest image whose time has come, for this process; None if there is none."""
        me = layout.claim_token()
        taken = offload.run(self.driver.queue_take, me, time.time())
        if taken is None:
            layout.release_token(me)
        return taken

    def queue_done(self, item: QueueItem) -> None:
        """Take an image off the queue for good: it is cached, or it will never be."""
        layout.release_token(item.owner)
        offload.run(self.driver.queue_remove, item.image_id)

    def queue_return(self, item: QueueItem, error: BaseException | None = None) -> bool:
        """Put a taken image back: unchanged, or after an `error` with a growing pause.

        False if it had its last attempt and was dropped instead.
        """
        text = None if error is None else writer.described(error)
        return offload.run(prefetch_queue.give_back, self.driver, item, text)

    def queue_delete(self, image_id: object) -> bool:
        """Take a queued image off the queue, unless it is in progress; False if nothing was."""
        return offload.run(self.driver.queue_remove, str(image_id), only=QUEUED)

    def queue_delete_all(self) -> int:
        """Take all queued images off the queue but those in progress; return how many."""
        return sum(self.queue_delete(item.image_id) for item in self.queue_list())

    # -- upkeep ----------------------------------------------------------------------------------

    def prune(self) -> limits.Pruned:
        """Remove the least recently used entries if a limit is passed."""
        return offload.run(self._prune)

    def _prune(self) -> limits.Pruned:
        self._flush_quietly()
        done = self.room.prune()
        self.usage.count("evicted", done.files)
        return done

    def clean(
        self, active: Callable[[Sequence[str]], Collection[str]] | None = None
    ) -> cleaning.Cleaned:
        """Remove what nobody needs: old invalid entries, what dead writers left, strays.

        `active` is asked with batches of cached ids and returns those whose images are active
        still, by the registry; without it nobody is asked. What it raises ends the cleaning.
        """
        done = offload.run(self.upkeep.clean)
        if active is None or done.busy:
            return done
        cached = self.entries(COMPLETE)
        for start in range(0, len(cached), _BATCH):
            batch = cached[start : start + _BATCH]
            # NOTE: not in a native thread, because whom it asks is reached by a socket.
            alive = set(active([entry.image_id for entry in batch]))
            for entry in batch:
                if entry.image_id not in alive:
                    done.inactive += offload.run(self.driver.remove, entry)
        return done

    def take_over(self, image_of: Callable[[str], Image | None]) -> legacy.Adopted | None:
        """Adopt the images of a directory of Diablo or Essex; None for any other directory.

        `image_of` tells what the registry says of an id, None for an image that is not active.
        What it raises ends the work, to be taken up by the next call.
        """
        if not offload.run(legacy.is_legacy, self.directory):
            return None
        try:
            return legacy.adopt(self.directory, self.driver, self.room, image_of)
        except OSError as err:
            raise exception.CacheUnavailable(
                f"The old image cache cannot be migrated: {err.strerror}"
            ) from err

    def recover(self) -> cleaning.Cleaned:
        """Remove what a crash left; the API does it in the background when it starts."""
        return offload.run(self.upkeep.recover)

    def verify(self) -> cleaning.Verified:
        """Read all complete entries again; those that have changed become invalid."""
        return offload.run(self.upkeep.verify)

    def flush(self) -> None:
        """Write hits and counters of this process to the index."""
        offload.run(self.usage.flush)

    def stats(self) -> dict[str, int]:
        """Return counters and sizes: the keys of base.COUNTERS since the index was made, and
        `entries`, `size` (complete), `total_size` (all), `max_size`, `incomplete`, `invalid`,
        `queued` (with those in progress).
        """
        return offload.run(self._stats)

    def _stats(self) -> dict[str, int]:
        self._flush_quietly()
        found = {state: self.driver.entries(state) for state in STATES}
        return {
            **self.driver.counters(),
            "entries": len(found[COMPLETE]),
            "size": sum(entry.size for entry in found[COMPLETE]),
            "total_size": self.driver.total_size(),
            "max_size": self.room.max_size,
            "incomplete": len(found[INCOMPLETE]),
            "invalid": len(found[INVALID]),
            "queued": len(self.driver.queue_list()),
        }


def _guarded(step: Callable[..., T], *arguments: Any) -> T:
    """Return `step(...)`; what the system says of the cache's disk becomes CacheUnavailable."""
    try:
        return step(*arguments)
    except OSError as err:
        raise exception.CacheUnavailable(
            f"The image cache cannot be written to: {err.strerror}"
        ) from err


def of(environ: Mapping[str, Any]) -> ImageCache | None:
    """Return the cache that stands before the application in this request's pipeline, if any."""
    cache: ImageCache | None = environ.get(ENVIRON)
    return cache


def _load_driver(conf: config.Conf) -> type[Driver]:
    name = conf.image_cache_driver
    try:
        loaded: type[Driver] = plugin.load("glance.image_cache.drivers", name, DRIVERS)
    except LookupError as err:
        raise exception.ConfigError(f"image_cache_driver: {err}") from err
    except ImportError as err:
        raise exception.CacheUnavailable(f"image_cache_driver {name}: {err}") from err
    return loaded


def open_cache(conf: config.Conf) -> ImageCache | None:
    """Return the cache of a daemon, ready for use; None if it is off or cannot be used.

    The daemon runs without a cache that cannot be used; the log has an error then. The programs of
    the cache do not need image_cache_enabled: they make an `ImageCache` and configure it.
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
