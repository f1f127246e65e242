"""The image cache: copies of downloaded images on this host's disk.

`ImageCache` is all that the API and the cache programs use. The parts::

    options    what an operator can set
    layout     the cache directory, names of files, who owns what
    base       entries, queued images, and the contract of an index driver
    sqlite     the index in a database      xattr    the index in attributes of the files
    room       limits: what is let in, and what has to go for it
    writer     an image on its way in       reader   an image on its way out
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
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from glance.common import body, config, exception, offload, plugin
from glance.image_cache import (
    fill,
    layout,
    legacy,
    options,  # noqa: F401  declares the options
    reader,
    room,
    upkeep,
    usage,
    waiting,
    writer,
)
from glance.image_cache.base import (
    COMPLETE,
    IN_PROGRESS,
    INCOMPLETE,
    INVALID,
    QUEUED,
    STATES,
    Driver,
    Entry,
    Image,
    QueueItem,
    Refused,
)

__all__ = [
    "COMPLETE",
    "INCOMPLETE",
    "INVALID",
    "IN_PROGRESS",
    "QUEUED",
    "STATES",
    "Entry",
    "Image",
    "ImageCache",
    "ENVIRON",
    "CachedBody",
    "FOLLOW",
    "HIT",
    "MISS",
    "QueueItem",
    "Refused",
    "SERVED",
    "of",
    "open_cache",
]

LOG = logging.getLogger(__name__)

CachedBody = reader.CachedBody

T = TypeVar("T")

#: Where a download comes from, besides the reasons of `Refused`.
HIT, MISS, FOLLOW = "hit", "miss", "follow"

DRIVERS = {
    "sqlite": "glance.image_cache.sqlite:SqliteDriver",
    "xattr": "glance.image_cache.xattr:XattrDriver",
}

#: Where the cache filter leaves its `ImageCache` in the environ of a request.
ENVIRON = "glance.image_cache"
#: Whether the body of the answer came out of the cache, in the environ of a request that was
#: answered with an image's data. Notifications tell it as `from_cache`.
SERVED = "glance.from_cache"

#: How many ids the registry is asked about at a time.
_BATCH = 100
#: Every so manieth hit is followed by a verification, with `read` in image_cache_verify.
_VERIFY_EVERY = 10


class ImageCache:
    """One cache directory, which several processes may use at the same time.

    All methods wait cooperatively. Those under *requests* never raise for trouble of the cache:
    they answer as if the image were not there and log it, once a minute. All others raise
    CacheUnavailable when the directory or its index cannot be used. `troubled` is set by such
    trouble and reset by `heal`.
    """

    def __init__(self, conf: config.Conf):
        """Make a cache that is not open yet.

        Raises ConfigError for an unknown driver, CacheUnavailable for one that lacks something.
        """
        self.conf = conf
        self.directory = layout.Directory(conf.image_cache_dir)
        self.driver = _load_driver(conf)(conf, self.directory)
        self.room = room.Room(conf, self.directory, self.driver)
        self.upkeep = upkeep.Upkeep(conf, self.directory, self.driver, self.room)
        self.usage = usage.Usage(self.driver)
        self.verify_how: tuple[str, ...] = conf.image_cache_verify
        self.finish_workers: int = conf.image_cache_finish_workers
        self.debug_header: bool = conf.image_cache_debug_header
        self.troubled = False
        self._complained = float("-inf")
        self._fills: dict[str, fill.Fill] = {}
        self._filling = offload.native_lock()
        self._finishing = 0
        self._checking: set[str] = set()

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
        for running in list(self._fills.values()):
            running.stop()
        try:
            self.flush()
        except exception.CacheUnavailable as err:
            self.complain(err)
        self.driver.close()

    def complain(self, err: BaseException) -> None:
        """Note trouble of the cache; log it once a minute."""
        self.troubled = True
        if time.monotonic() - self._complained > 60:
            self._complained = time.monotonic()
            LOG.error("Images are served without the cache for now: %s", err)

    # -- requests --------------------------------------------------------------------------------

    def open(
        self,
        image: Image,
        offset: int = 0,
        length: int | None = None,
        opener: fill.Opener | None = None,
    ) -> reader.CachedBody | None:
        """Return the bytes of a cached image, all or a part, to be sent and closed; None: a miss.

        An entry that is not what the registry says, or whose file has changed, is never used. The
        caller says by `CachedBody.answered` how much was sent, which counts a hit. Should the file
        fail while it is sent, the body goes on with what `opener` gives.
        """
        if not image.size:
            return None
        try:
            found = offload.run(self._open, image, offset, length, opener)
        except (exception.CacheUnavailable, OSError) as err:
            self.complain(err)
            return None
        if isinstance(found, Entry):
            # NOTE: not from the native thread, where a greenthread would never get its turn.
            self._check_later(found)
            return None
        return found

    def _open(
        self, image: Image, offset: int, length: int | None, opener: fill.Opener | None
    ) -> reader.CachedBody | Entry | None:
        """Open an entry; return it as it is if its file has to be verified first."""
        entry = self.driver.lookup(image.image_id)
        if entry is None:
            return None
        if not _is_of(entry, image):
            # It belongs to another life of that id.
            self.usage.count("invalidated", self.driver.remove(entry))
            return None
        try:
            fd, same = reader.open_entry(self.driver, entry)
        except FileNotFoundError:
            self.driver.remove(entry)
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

    def _used(self, entry: Entry, when: float) -> None:
        self.usage.hit(entry, when)
        if "read" in self.verify_how and self.usage.hits % _VERIFY_EVERY == 0:
            self._check_later(entry)

    def _broke(self, entry: Entry, reason: str) -> None:
        try:
            offload.run(self._condemn, entry, reason)
        except exception.CacheUnavailable as err:
            self.complain(err)

    def _condemn(self, entry: Entry, reason: str) -> None:
        LOG.error("Image %s: its copy in the cache is bad: %s", entry.image_id, reason)
        self.driver.condemn(entry, reason)
        self.usage.count("invalidated")

    def _check_later(self, entry: Entry) -> None:
        """Verify an entry in the background, unless that is under way."""
        if entry.file not in self._checking:
            self._checking.add(entry.file)
            offload.spawn(self._check, entry)

    def _check(self, entry: Entry) -> None:
        try:
            wrong = offload.run(self.upkeep.check, entry)
            self.usage.count("invalidated", wrong is not None)
        except exception.CacheUnavailable as err:
            self.complain(err)
        finally:
            self._checking.discard(entry.file)

    def fetch(self, image: Image, opener: fill.Opener) -> tuple[body.Body, str]:
        """Return the whole of an image that is not cached, and in a word where it comes from.

        `opener` opens the image's data in the store from an offset on. The word is MISS when this
        download fills the cache, FOLLOW when it reads what another one brings in, and the reason
        why not when the cache has no part in it. Raises what `opener` raises and nothing else.
        """
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
            except Refused as err:
                reason = err.reason
                if isinstance(err.__cause__, exception.CacheUnavailable | OSError):
                    self.complain(err.__cause__)
        if reason == COMPLETE and (found := self.open(image, opener=opener)) is not None:
            # Another has brought it in between our look and our attempt.
            return found, HIT
        self.usage.count("bypasses")
        return opener(0), reason

    def _fill_of(self, image: Image, opener: fill.Opener) -> tuple[fill.Fill, bool]:
        """Return the fill of an image; tell whether it is a new one, to be led by the caller."""
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
            return made, True

    def _fill_ended(self, ended: fill.Fill) -> None:
        if self._fills.get(ended.image.image_id) is ended:
            del self._fills[ended.image.image_id]
        self._finishing -= ended.detached
        if ended.begun and ended.state != fill.COMPLETE:
            self.usage.count("aborted")

    def _may_finish(self, running: fill.Fill) -> bool:
        """Tell whether an image that no client waits for any more is fetched to the end."""
        if running.count * 2 < running.image.size or self._finishing >= self.finish_workers:
            return False
        self._finishing += 1
        running.detached = True
        return True

    def invalidate(self, image_id: object) -> None:
        """Forget an image that was deleted, or that not the same callers may see any more."""
        # NOTE: the clients of a running fill read on, but nobody joins them, and it is not kept.
        self._fills.pop(str(image_id), None)
        try:
            gone = offload.run(self._forget, str(image_id))
            self.usage.count("invalidated", gone)
        except exception.CacheUnavailable as err:
            self.complain(err)

    def _forget(self, image_id: str) -> int:
        with self.driver.transaction():
            found = self.driver.find(image_id)
            gone = found is not None and self.driver.remove(found)
            self.driver.queue_remove(image_id)
        return int(gone)

    # -- bringing images in ----------------------------------------------------------------------

    def begin(self, image: Image) -> writer.Writer:
        """Make room for an image, announce it and return the writer of its bytes.

        Raises Refused if the cache has it (reason COMPLETE), somebody writes it (INCOMPLETE) or it
        does not get in; CacheUnavailable.
        """
        return writer.make(lambda: self._begin(image))

    def _begin(self, image: Image) -> writer.Writer:
        now = time.time()
        entry = Entry(
            image.image_id,
            INCOMPLETE,
            self.directory.incomplete_file(image.image_id),
            image.size,
            checksum=image.checksum,
            name=image.name,
            created_at=now,
            modified_at=now,
            accessed_at=now,
            writer=layout.owner(),
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

    def store(self, image: Image, source: body.Body) -> Entry:
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

    def entry(self, image_id: object) -> Entry | None:
        """Return the complete entry of an image, with the hits that this process has counted."""
        return offload.run(self._entry, str(image_id))

    def _entry(self, image_id: str) -> Entry | None:
        self._flush_quietly()
        return self.driver.lookup(image_id)

    def entries(self, state: str = COMPLETE) -> list[Entry]:
        """Return all entries in a state (STATES), least recently used first.

        Hits of this process are in; those of others are written every few seconds.
        """
        return offload.run(self._entries, state)

    def _entries(self, state: str) -> list[Entry]:
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
        offload.run(waiting.add, self.driver, image.image_id, image.name)

    def queue_list(self) -> list[QueueItem]:
        """Return the queue, oldest first, with those in progress."""
        return offload.run(self.driver.queue_list)

    def queue_take(self) -> QueueItem | None:
        """Take the oldest image whose time has come, for this process; None if there is none."""
        me = layout.owner()
        taken = offload.run(self.driver.queue_take, me, time.time())
        if taken is None:
            layout.ended(me)
        return taken

    def queue_done(self, item: QueueItem) -> None:
        """Take an image off the queue for good: it is cached, or it will never be."""
        layout.ended(item.owner)
        offload.run(self.driver.queue_remove, item.image_id)

    def queue_return(self, item: QueueItem, error: BaseException | None = None) -> bool:
        """Put a taken image back: unchanged, or after an `error` with a growing pause.

        False if it had its last attempt and was dropped instead.
        """
        text = None if error is None else writer.described(error)
        return offload.run(waiting.give_back, self.driver, item, text)

    def queue_delete(self, image_id: object) -> bool:
        """Take a queued image off the queue, unless it is in progress; False if nothing was."""
        return offload.run(self.driver.queue_remove, str(image_id), only=QUEUED)

    def queue_delete_all(self) -> int:
        """Take all queued images off the queue but those in progress; return how many."""
        return sum(self.queue_delete(item.image_id) for item in self.queue_list())

    # -- upkeep ----------------------------------------------------------------------------------

    def prune(self) -> room.Pruned:
        """Remove the least recently used entries if a limit is passed."""
        return offload.run(self._prune)

    def _prune(self) -> room.Pruned:
        self._flush_quietly()
        done = self.room.prune()
        self.usage.count("evicted", done.files)
        return done

    def clean(
        self, active: Callable[[Sequence[str]], Collection[str]] | None = None
    ) -> upkeep.Cleaned:
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
                f"The old image cache cannot be taken over: {err.strerror}"
            ) from err

    def recover(self) -> upkeep.Cleaned:
        """Remove what a crash left; the API does it in the background when it starts."""
        return offload.run(self.upkeep.recover)

    def verify(self) -> upkeep.Verified:
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


def _is_of(entry: Entry, image: Image) -> bool:
    """Tell whether an entry is the image that the registry means."""
    same = not image.checksum or not entry.checksum or image.checksum == entry.checksum
    return entry.size == image.size and same


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
        LOG.error("The image cache is off: %s", err)
        return None
    return cache
