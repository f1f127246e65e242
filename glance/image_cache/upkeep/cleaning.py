"""Keep the cache directory consistent: cleaning, recovery after a crash, verification.

Cleaning and recovery hold the maintenance lock: one process of a host at a time. Everything here
blocks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from io import FileIO

from glance.common import config, exception
from glance.image_cache import layout, prefetch_queue
from glance.image_cache.index.driver import Index
from glance.image_cache.index.entries import COMPLETE, INCOMPLETE, INVALID, STATES, CacheEntry
from glance.image_cache.traffic import reader
from glance.image_cache.upkeep.limits import Room
from glance.streaming import digest, staged_file

LOG = logging.getLogger(__name__)

_READ = 1024 * 1024
#: How long a damaged index is kept for inspection, in seconds.
_KEPT = 7 * 86400


@dataclasses.dataclass(slots=True)
class Cleaned:
    """What a cleaning removed, in files or queued images.

    `busy`: another process was cleaning; nothing was done.
    """

    invalid: int = 0
    incomplete: int = 0
    strays: int = 0
    vanished: int = 0
    inactive: int = 0
    requeued: int = 0
    busy: bool = False


@dataclasses.dataclass(slots=True)
class Verified:
    """What a verification read, in entries and bytes, and the entries that became invalid."""

    entries: int = 0
    bytes: int = 0
    bad: list[CacheEntry] = dataclasses.field(default_factory=list)


class Upkeep:
    """Cleaning, recovery and verification of one cache."""

    def __init__(
        self,
        conf: config.Conf,
        directory: layout.CacheDirectory,
        index: Index,
        room: Room,
    ):
        self.directory = directory
        self.index = index
        self.room = room
        self.grace: int = conf.image_cache_invalid_entry_grace_period
        self.stall_time: int = conf.image_cache_stall_time

    def clean(self) -> Cleaned:
        """Remove everything that is not needed, without asking the registry."""
        done = Cleaned()
        with self._alone(done) as mine:
            if mine:
                done.invalid = self.reap_invalid(self.grace)
                done.incomplete = self.reap_incomplete(self.stall_time)
                self._settle_files(done)
                done.requeued = prefetch_queue.release_dead(self.index)
                self.index.tidy(time.time() - _KEPT)
                self.directory.touch_lock()
        return done

    def recover(self) -> Cleaned:
        """Remove what a crash left. Called at the start, and after the loss of the index."""
        done = Cleaned()
        with self._alone(done) as mine:
            if mine:
                done.incomplete = self.reap_incomplete(None)
                self._settle_files(done)
        return done

    @contextlib.contextmanager
    def _alone(self, done: Cleaned) -> Iterator[bool]:
        """Hold the maintenance lock; yield False and set `done.busy` if another process has it."""
        try:
            with self.directory.lock() as mine:
                done.busy = not mine
                yield mine
        except OSError as err:
            raise exception.CacheUnavailable(
                f"The directory of the image cache cannot be used: {err.strerror or err}"
            ) from err

    def reap_invalid(self, grace: float) -> int:
        """Remove invalid entries that are older than `grace` seconds; return how many."""
        limit = time.time() - grace
        old = [item for item in self.index.entries.in_state(INVALID) if item.modified_at <= limit]
        return sum(self.index.entries.remove(item) for item in old)

    def reap_incomplete(self, stall_time: float | None) -> int:
        """Remove incomplete entries of dead and of stalled writers; return how many.

        A writer without progress for `stall_time` seconds has stalled; None: no writer has.
        """
        found = self.index.entries.in_state(INCOMPLETE)
        return sum(
            self.index.entries.remove(item)
            for item in found
            if self.room.is_abandoned(item, stall_time)
        )

    def _settle_files(self, done: Cleaned) -> None:
        """Remove files without an entry and entries without a file."""
        # NOTE: files first: the entry of a file that is created later exists before it.
        files = self._files()
        strays = files - self._known()
        if strays:
            # A file is moved into place in the transaction that makes it an entry.
            with self.index.transaction():
                for file in strays - self._known():
                    done.strays += self._remove_stray(file)
        for entry in self.index.entries.in_state(COMPLETE):
            try:
                fd, _ = reader.open_entry(self.index.entries, entry)
            except FileNotFoundError:
                done.vanished += self.index.entries.remove(entry)
            except reader.Altered as err:
                self.index.entries.condemn(entry, str(err))
                done.vanished += 1
            except OSError as err:
                LOG.warning("Image %s: its copy cannot be opened: %s", entry.image_id, err)
            else:
                os.close(fd)

    def _files(self) -> set[str]:
        tops = (layout.ENTRIES, layout.INCOMPLETE, layout.INVALID)
        return {
            self.directory.relative(item.path)
            for top in tops
            for item in self.directory.files(top)
        }

    def _known(self) -> set[str]:
        return {entry.file for state in STATES for entry in self.index.entries.in_state(state)}

    def _remove_stray(self, file: str) -> bool:
        """Remove a file without an entry, unless a running writer has just lost its entry."""
        try:
            with open(self.directory.open(file), "rb") as stream:
                if staged_file.is_locked(stream.fileno()):
                    return False
        except OSError:
            # A symbolic link, or something else that is not opened.
            pass
        try:
            return self.directory.unlink(file)
        except OSError as err:
            LOG.warning("A stray file in the image cache cannot be removed: %s", err.strerror)
            return False

    def verify(self) -> Verified:
        """Read all complete entries; those that have changed become invalid."""
        done = Verified()
        for entry in self.index.entries.in_state(COMPLETE):
            wrong = self.check(entry)
            done.entries += 1
            done.bytes += entry.size
            if wrong is not None:
                done.bad.append(wrong)
        return done

    def check(self, entry: CacheEntry) -> CacheEntry | None:
        """Read one complete entry; if it has changed, return it as an invalid entry."""
        try:
            stamp, checksum = self._read(entry)
            if entry.checksum and checksum != entry.checksum:
                raise reader.Altered("the checksum has changed")
        except FileNotFoundError:
            self.index.entries.remove(entry)
            return None
        except OSError as err:
            text = str(err) if isinstance(err, reader.Altered) else "the file cannot be read"
            LOG.error("Image %s: its copy in the cache is bad: %s", entry.image_id, text)
            return self.index.entries.condemn(entry, text)
        self.index.entries.restamp(entry, stamp, checksum)
        return None

    def _read(self, entry: CacheEntry) -> tuple[str, str]:
        """Return stamp and MD5 of an entry's file. Raises OSError; Altered for another size."""
        fd, _ = reader.open_entry(self.index.entries, entry)
        with open(fd, "rb", buffering=0) as stream:
            stamp = self.index.entries.stamp(os.fstat(fd))
            count, checksum = read_all(stream)
        if count != entry.size:
            raise reader.Altered("the size has changed")
        return stamp, checksum


def read_all(stream: FileIO) -> tuple[int, str]:
    """Return how many bytes follow in a file, and their MD5."""
    running = digest.Digester()
    while chunk := stream.read(_READ):
        running.update(chunk)
    return running.count, running.hexdigest()
