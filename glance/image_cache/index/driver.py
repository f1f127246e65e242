"""What the cache is made of: entries, queued images, and the contract of an index driver.

An index driver knows which files of the cache directory are entries and in what state. It is
blocking and plain: `glance.image_cache.ImageCache` calls it in native threads, so a driver must
not touch locks or sockets of the event loop. What does not belong here: the files' names
(`layout`), limits (`limits`), bytes (`writer`, `fill`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from glance.common import config, exception
from glance.image import types
from glance.image_cache import layout

COMPLETE = "complete"
INCOMPLETE = "incomplete"
INVALID = "invalid"
STATES = (COMPLETE, INCOMPLETE, INVALID)

QUEUED = "queued"
IN_PROGRESS = "in-progress"

#: What is counted, for `ImageCache.stats`: a name here is a key there.
COUNTERS = ("hits", "misses", "follows", "bypasses", "aborted", "invalidated", "evicted")


class CacheRefused(exception.Error):
    """An image does not get into the cache now; `reason` is a word or two for logs.

    `COMPLETE` and `INCOMPLETE` as the reason: the cache has the image, or somebody writes it.
    """

    def __init__(self, reason: str):
        super().__init__(f"The image is not cached: {reason}")
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """What the cache needs to know of an image: the registry's id, size, MD5 and name.

    `size` in bytes, 0 if nobody knows it; `checksum` None if nobody knows it.
    """

    image_id: str
    size: int
    checksum: str | None = None
    name: str | None = None

    @classmethod
    def of(cls, record: types.ImageRecord) -> Image:
        """Take from a registry record what counts here."""
        checksum = record.get("checksum")
        return cls(
            str(record["id"]),
            record.get("size") or 0,
            checksum.strip().lower() if checksum else None,
            record.get("name"),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class CacheEntry:
    """One file of the cache.

    `file` is relative to the cache directory. `expected_size` is the registry's, `size` what is on
    disk (bytes; behind by some seconds while it is written). `checksum` is the MD5 that the bytes
    were verified to have, None as long as nobody knows. `stamp` is what the file looked like when
    it was verified. Times are seconds since the epoch. `writer` names who writes an incomplete
    entry (`layout.claim_token`). `error` is a class name and a short text; never a location.
    """

    image_id: str
    state: str
    file: str
    expected_size: int | None
    size: int = 0
    checksum: str | None = None
    name: str | None = None
    hits: int = 0
    created_at: float = 0.0
    modified_at: float = 0.0
    accessed_at: float = 0.0
    writer: str | None = None
    error: str | None = None
    stamp: str | None = None

    @property
    def room(self) -> int:
        """Bytes that the entry counts for; an incomplete one counts with all that it will have."""
        return max(self.size, self.expected_size or 0) if self.state == INCOMPLETE else self.size


@dataclasses.dataclass(frozen=True, slots=True)
class QueueItem:
    """An image that waits to be fetched, or is being fetched by `owner`.

    `not_before` is when the next attempt may begin, after `attempts` that failed.
    """

    image_id: str
    name: str | None
    enqueued_at: float
    state: str = QUEUED
    owner: str | None = None
    attempts: int = 0
    not_before: float = 0.0
    last_error: str | None = None


class Access(NamedTuple):
    """Reads of one image to be added to its entry: how many, and when the last one began."""

    image_id: str
    reads: int
    when: float


class Driver:
    """An index of the cache directory that several processes share.

    Every method may raise CacheUnavailable, and nothing else of its backend. A method that changes
    something does so wholly or not at all; inside `transaction` several do.
    """

    #: How often this object had to start an empty index because the old one was lost.
    losses = 0

    def __init__(self, conf: config.Conf, directory: layout.CacheDirectory):
        self.conf = conf
        self.directory = directory

    def configure(self) -> None:
        """Make or open the index. CacheUnavailable if this driver cannot work here."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what is open; the driver opens again when it is used again."""

    def tidy(self, before: float) -> None:
        """Remove what the driver itself has put aside before that time (seconds)."""

    def stamp(self, status: os.stat_result) -> str:
        """Return what changes when somebody writes to a complete entry or replaces it."""
        raise NotImplementedError

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Keep all other changers of the index out, in this process and in others.

        What the calling thread does inside happens wholly, or not at all if an error leaves the
        block (files excepted). Does not nest. Never wait for image data inside.
        """
        raise NotImplementedError

    # -- entries ---------------------------------------------------------------------------------

    def lookup(self, image_id: str) -> CacheEntry | None:
        """Return the complete entry of an image."""
        raise NotImplementedError

    def find(self, image_id: str) -> CacheEntry | None:
        """Return the complete or else the incomplete entry of an image."""
        raise NotImplementedError

    def insert(self, entry: CacheEntry) -> bool:
        """Enter a file. False if its image has a complete or incomplete entry already.

        Several invalid entries of one image may exist.
        """
        raise NotImplementedError

    def create(self, entry: CacheEntry) -> int:
        """Make the file of an incomplete entry that was inserted; return its descriptor. OSError.

        A driver whose `insert` makes the file opens it here.
        """
        return self.directory.create(entry.file)

    def progress(self, entry: CacheEntry, size: int) -> bool:
        """Note how much of an incomplete entry is written; False if it is an entry no more."""
        raise NotImplementedError

    def commit(self, entry: CacheEntry, done: CacheEntry) -> bool:
        """Turn the incomplete `entry` into the complete `done`, whose file is moved into place.

        False, with the file untouched, if it is an entry no more.
        """
        raise NotImplementedError

    def condemn(self, entry: CacheEntry, error: str) -> CacheEntry | None:
        """Move an entry of any state among the invalid ones and return it; None if it was gone."""
        raise NotImplementedError

    def restamp(self, entry: CacheEntry, stamp: str, checksum: str | None) -> None:
        """Note that a complete entry was verified again."""
        raise NotImplementedError

    def remove(self, entry: CacheEntry) -> bool:
        """Remove exactly this entry, then its file. False if it is an entry no more."""
        raise NotImplementedError

    def touch(self, accesses: Iterable[Access]) -> None:
        """Add reads to complete entries; the times never go back."""
        raise NotImplementedError

    def entries(self, state: str) -> list[CacheEntry]:
        """Return all entries in a state; complete ones least recently used first, then by id."""
        raise NotImplementedError

    def total_size(self) -> int:
        """Return the bytes that all entries count for (`CacheEntry.room`)."""
        raise NotImplementedError

    def victims(self, needed: int, young_since: float) -> list[CacheEntry]:
        """Return entries that free `needed` bytes together, or all there are.

        Invalid ones first, the oldest first; then complete ones in the order of their last use
        (then the largest first), those made after `young_since` at the very end.
        """
        raise NotImplementedError

    # -- the prefetch queue ----------------------------------------------------------------------

    def queue_add(self, item: QueueItem) -> bool:
        """Append an image; False if it is queued already."""
        raise NotImplementedError

    def queue_list(self) -> list[QueueItem]:
        """Return the queue, oldest first."""
        raise NotImplementedError

    def queue_take(self, owner: str, now: float) -> QueueItem | None:
        """Take the oldest queued image whose time has come, and mark it as being fetched."""
        raise NotImplementedError

    def queue_return(self, item: QueueItem) -> None:
        """Put a taken image back with the fields of `item`; nothing if it left the queue."""
        raise NotImplementedError

    def queue_remove(self, image_id: str, *, only: str | None = None) -> bool:
        """Take an image off the queue, if its state is `only`; False if it was not there."""
        raise NotImplementedError

    # -- counters --------------------------------------------------------------------------------

    def count(self, increments: Mapping[str, int]) -> None:
        """Add to counters (COUNTERS)."""
        raise NotImplementedError

    def counters(self) -> dict[str, int]:
        """Return all counters, those never counted as 0."""
        raise NotImplementedError
