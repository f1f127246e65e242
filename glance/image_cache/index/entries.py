"""The entries of the cache: what one is, what is cached, and the part of an index for entries.

What does not belong here: the files' names (`glance.image_cache.layout`), limits
(`upkeep.limits`), bytes (`traffic.writer`, `traffic.fill`).
"""

from __future__ import annotations

import abc
import dataclasses
import os

from glance.common import exception
from glance.image import types
from glance.image_cache import layout

COMPLETE = "complete"
INCOMPLETE = "incomplete"
INVALID = "invalid"
STATES = (COMPLETE, INCOMPLETE, INVALID)


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


class Entries(abc.ABC):
    """Which files of the cache directory are entries, and in what state.

    A driver must guarantee, towards all threads and processes that share the directory:

    * An image has one entry at most that is complete or incomplete: of several that call `insert`
      at once, one succeeds.
    * Every method changes all that it says or nothing, in one step for other changers, by itself
      or as part of `Index.transaction`. Where a file is moved or removed, that happens inside the
      step: room that `total_size` does not count is free on the disk, too.
    * A method that is given an entry changes exactly that one: if it has left its state or its
      file meanwhile, nothing happens, and the method says so.
    * Methods block for other changes only, never for image data. They are called in native
      threads, so they must not touch locks or sockets of the event loop.
    * CacheUnavailable is their only error, but for `create_file`.
    """

    def __init__(self, directory: layout.CacheDirectory):
        self.directory = directory

    @abc.abstractmethod
    def stamp(self, status: os.stat_result) -> str:
        """Return what changes when somebody writes to a complete entry or replaces it."""

    @abc.abstractmethod
    def lookup(self, image_id: str) -> CacheEntry | None:
        """Return the complete entry of an image."""

    @abc.abstractmethod
    def find(self, image_id: str) -> CacheEntry | None:
        """Return the complete or else the incomplete entry of an image."""

    @abc.abstractmethod
    def insert(self, entry: CacheEntry) -> bool:
        """Enter a file. False if its image has a complete or incomplete entry already.

        Several invalid entries of one image may exist. An incomplete entry reserves the bytes that
        it will have (`CacheEntry.room`).
        """

    def create_file(self, entry: CacheEntry) -> int:
        """Make the file of an incomplete entry that was inserted; return its descriptor. OSError.

        A driver whose `insert` makes the file opens it here.
        """
        return self.directory.create(entry.file)

    @abc.abstractmethod
    def progress(self, entry: CacheEntry, size: int) -> bool:
        """Note how much of an incomplete entry is written; False if it is an entry no more."""

    @abc.abstractmethod
    def commit(self, entry: CacheEntry, done: CacheEntry) -> bool:
        """Turn the incomplete `entry` into the complete `done`, whose file is moved into place.

        False, with the file untouched, if it is an entry no more.
        """

    @abc.abstractmethod
    def condemn(self, entry: CacheEntry, error: str) -> CacheEntry | None:
        """Move an entry of any state among the invalid ones and return it; None if it was gone."""

    @abc.abstractmethod
    def restamp(self, entry: CacheEntry, stamp: str, checksum: str | None) -> None:
        """Note that a complete entry was verified again."""

    @abc.abstractmethod
    def remove(self, entry: CacheEntry) -> bool:
        """Remove exactly this entry, then its file. False if it is an entry no more."""

    @abc.abstractmethod
    def in_state(self, state: str) -> list[CacheEntry]:
        """Return all entries in a state; complete ones least recently used first, then by id."""

    @abc.abstractmethod
    def total_size(self) -> int:
        """Return the bytes that all entries count for (`CacheEntry.room`)."""

    @abc.abstractmethod
    def victims(self, needed: int, young_since: float) -> list[CacheEntry]:
        """Return entries that free `needed` bytes together, or all there are.

        Invalid ones first, the oldest first; then complete ones in the order of their last use
        (then the largest first), those made after `young_since` at the very end.
        """
